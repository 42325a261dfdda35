<?php

declare(strict_types=1);

namespace RainbowSdk;

/**
 * The static methods of GatewayClient's Gateway, over the HTTP interface of rainbow-server (docs/gateway.md, POST /v1/call/).
 *
 * Ids of clients that are malformed or gone are ignored or give "nothing", as there. What GatewayClient cannot tell, this
 * class throws: a GatewayException when the server refuses a call (an empty group, a wrong token) or cannot be reached.
 *
 * Needs PHP 7.4 or later with json; no other extension, no other package.
 */
class Gateway
{
    /**
     * Where the HTTP interface is: "host:port", "http://host:port" or "https://host:port"; several: they are tried in order.
     *
     * @var string|string[]
     */
    public static $registerAddress = '127.0.0.1:1984';

    /** One of `api_tokens` in section [gateway] of the server's settings; empty: none. */
    public static $secretKey = '';

    /** Seconds for the connection. */
    public static $connectTimeout = 3;

    /** Seconds for the answer. */
    public static $queryTimeout = 5;

    /** Of GatewayClient, without effect: connections are not kept. */
    public static $persistentConnection = false;

    /** Of GatewayClient, without effect: there are no addresses to remember. */
    public static $addressesCacheDisable = false;

    /** The client whose event is being handled, for the methods that are about the current one. */
    public static $currentClientId = null;

    /** Items that are asked for at once. */
    protected const PAGE = 10000;

    /**
     * Sends to everybody, or to the clients listed, without those excluded.
     *
     * @param string|int|float $message
     * @param string[]|null $client_id_array an empty list: nobody
     * @param string|string[]|null $exclude_client_id
     */
    public static function sendToAll($message, $client_id_array = null, $exclude_client_id = null, $raw = false): bool
    {
        $arguments = static::message($message) + static::excluding($exclude_client_id);
        if ($client_id_array !== null) {
            $arguments['clients'] = array_map('strval', array_values($client_id_array));
        }
        static::call('sendToAll', $arguments);
        return true;
    }

    /** Sends to one client; whether it was accepted for sending. */
    public static function sendToClient($client_id, $message, $raw = false): bool
    {
        $sent = static::call('sendToClient', ['client_id' => (string) $client_id] + static::message($message));
        return $sent['queued'] > 0;
    }

    /** Sends to the current client. */
    public static function sendToCurrentClient($message, $raw = false): bool
    {
        return static::sendToClient(static::current(), $message);
    }

    /**
     * Sends to every client of a uid, or of several.
     *
     * @param string|int|array $uid
     */
    public static function sendToUid($uid, $message, $raw = false): bool
    {
        if ($uid === []) {
            return true;
        }
        static::call('sendToUid', ['uid' => static::oneOrMany($uid)] + static::message($message));
        return true;
    }

    /**
     * Sends to every client in a group, or in any of several, once to each.
     *
     * @param string|int|array $group
     * @param string|string[]|null $exclude_client_id
     */
    public static function sendToGroup($group, $message, $exclude_client_id = null, $raw = false): bool
    {
        if (!static::isValidGroupId($group)) {
            return false;
        }
        $arguments = ['group' => static::oneOrMany($group)] + static::excluding($exclude_client_id);
        static::call('sendToGroup', $arguments + static::message($message));
        return true;
    }

    /** 1 if the client is connected, else 0. */
    public static function isOnline($client_id): int
    {
        return (int) static::call('isOnline', ['client_id' => (string) $client_id])['online'];
    }

    /** 1 if the uid has a client, else 0. */
    public static function isUidOnline($uid): int
    {
        return (int) static::call('isUidOnline', ['uid' => (string) $uid])['online'];
    }

    /** For each uid 1 or 0. */
    public static function isUidsOnline(array $uids): array
    {
        return array_map('intval', static::call('isUidsOnline', ['uids' => static::strings($uids)])['online']);
    }

    /** Binds a client to a uid, in place of the one it has; false: there is no such client. */
    public static function bindUid($client_id, $uid): bool
    {
        return static::isDone('bindUid', ['client_id' => (string) $client_id, 'uid' => (string) $uid]);
    }

    /** Takes a client's uid away; false: there is no such client. */
    public static function unbindUid($client_id, $uid = null): bool
    {
        return static::isDone('unbindUid', ['client_id' => (string) $client_id]);
    }

    /** The clients of a uid. */
    public static function getClientIdByUid($uid): array
    {
        return static::all('getClientIdByUid', ['uid' => (string) $uid], 'client_ids');
    }

    /** For each uid that has clients, these. */
    public static function batchGetClientIdByUid(array $uids): array
    {
        $lists = static::call('batchGetClientIdByUid', ['uids' => static::strings($uids)])['client_ids'];
        return array_filter($lists);
    }

    /** The uid of a client; null: it has none, or there is no such client. */
    public static function getUidByClientId($client_id): ?string
    {
        return static::call('getUidByClientId', ['client_id' => (string) $client_id])['uid'];
    }

    /** Puts a client into a group; false: there is no such client. */
    public static function joinGroup($client_id, $group): bool
    {
        return static::isDone('joinGroup', ['client_id' => (string) $client_id, 'group' => (string) $group]);
    }

    /** Takes a client out of a group; false: there is no such client. */
    public static function leaveGroup($client_id, $group): bool
    {
        return static::isDone('leaveGroup', ['client_id' => (string) $client_id, 'group' => (string) $group]);
    }

    /** Everybody leaves a group. */
    public static function ungroup($group): bool
    {
        if (!static::isValidGroupId($group)) {
            return false;
        }
        static::call('ungroup', ['group' => (string) $group]);
        return true;
    }

    /** How many clients are in a group, or in all. */
    public static function getClientIdCountByGroup($group = ''): int
    {
        return static::call('getClientIdCountByGroup', ['group' => (string) $group])['clients'];
    }

    /** The same. */
    public static function getClientCountByGroup($group = ''): int
    {
        return static::getClientIdCountByGroup($group);
    }

    /** For each group how many clients it has. */
    public static function batchGetClientIdCountByGroup(array $groups): array
    {
        return static::call('batchGetClientIdCountByGroup', ['groups' => static::strings($groups)])['clients'];
    }

    /** The clients in a group, or in any of several: id => id. */
    public static function getClientIdListByGroup($group): array
    {
        if (!static::isValidGroupId($group)) {
            return [];
        }
        if (!is_array($group)) {
            return static::map(static::all('getClientIdListByGroup', ['group' => (string) $group], 'client_ids'));
        }
        $list = static::call('getClientIdListByGroup', ['group' => static::strings($group)]);
        return static::map($list['client_ids']);
    }

    /** The clients in a group with their sessions: id => session. */
    public static function getClientSessionsByGroup($group): array
    {
        return static::isValidGroupId($group) ? static::getAllClientSessions($group) : [];
    }

    /** The same. */
    public static function getClientInfoByGroup($group): array
    {
        return static::getClientSessionsByGroup($group);
    }

    /** All clients, or those in a group, with their sessions: id => session. */
    public static function getAllClientSessions($group = ''): array
    {
        return static::all('getAllClientSessions', ['group' => (string) $group], 'sessions');
    }

    /** The same. */
    public static function getAllClientInfo($group = ''): array
    {
        return static::getAllClientSessions($group);
    }

    /** The uids in a group, or in any of several: uid => uid. */
    public static function getUidListByGroup($group): array
    {
        if (!static::isValidGroupId($group)) {
            return [];
        }
        return static::map(static::call('getUidListByGroup', ['group' => static::oneOrMany($group)])['uids']);
    }

    /** How many uids are in a group, or in any of several. */
    public static function getUidCountByGroup($group): int
    {
        if (!static::isValidGroupId($group)) {
            return 0;
        }
        return static::call('getUidCountByGroup', ['group' => static::oneOrMany($group)])['count'];
    }

    /** All clients: id => id. */
    public static function getAllClientIdList(): array
    {
        return static::map(static::all('getAllClientIdList', [], 'client_ids'));
    }

    /** How many clients there are. */
    public static function getAllClientIdCount(): int
    {
        return static::call('getAllClientIdCount')['count'];
    }

    /** The same. */
    public static function getAllClientCount(): int
    {
        return static::getAllClientIdCount();
    }

    /** All uids that have clients: uid => uid. */
    public static function getAllUidList(): array
    {
        return static::map(static::all('getAllUidList', [], 'uids'));
    }

    /** How many uids have clients. */
    public static function getAllUidCount(): int
    {
        return static::call('getAllUidCount')['count'];
    }

    /** All groups: group => group. */
    public static function getAllGroupIdList(): array
    {
        return static::map(static::all('getAllGroupIdList', [], 'groups'));
    }

    /** All groups with the uids in each: group => (uid => uid). */
    public static function getAllGroupUidList(): array
    {
        return array_map([static::class, 'map'], static::call('getAllGroupUidList')['groups']);
    }

    /** All groups with how many uids each has: group => n. */
    public static function getAllGroupUidCount(): array
    {
        return static::call('getAllGroupUidCount')['groups'];
    }

    /** All groups with the clients in each: group => (id => id). */
    public static function getAllGroupClientIdList(): array
    {
        return array_map([static::class, 'map'], static::call('getAllGroupClientIdList')['groups']);
    }

    /** All groups with how many clients each has: group => n. */
    public static function getAllGroupClientIdCount(): array
    {
        return static::call('getAllGroupClientIdCount')['groups'];
    }

    /** The groups a client is in: group => group. GatewayClient has no such method. */
    public static function getGroupsByClientId($client_id): array
    {
        return static::map(static::call('getGroupsByClientId', ['client_id' => (string) $client_id])['groups']);
    }

    /** Closes a connection, after a last message; false: there is no such client. */
    public static function closeClient($client_id, $message = null): bool
    {
        $last = $message === null ? [] : static::message($message);
        return static::call('closeClient', ['client_id' => (string) $client_id] + $last)['closed'];
    }

    /** Closes the connection of the current client. */
    public static function closeCurrentClient($message = null): bool
    {
        return static::closeClient(static::current(), $message);
    }

    /** Ends a connection at once, with all that waits for it; false: there is no such client. */
    public static function destoryClient($client_id): bool
    {
        return static::call('destoryClient', ['client_id' => (string) $client_id])['closed'];
    }

    /** Ends the connection of the current client at once. */
    public static function destoryCurrentClient(): bool
    {
        return static::destoryClient(static::current());
    }

    /** The session of a client; null: there is no such client; false: the id is none. */
    public static function getSession($client_id)
    {
        if (!preg_match('/^[0-9a-f]{20}$/D', (string) $client_id)) {
            return false;
        }
        return static::ofClient('getSession', ['client_id' => $client_id]);
    }

    /** Puts a session in place of the one a client has; false: there is no such client. */
    public static function setSession($client_id, array $session): bool
    {
        return static::isDone('setSession', ['client_id' => (string) $client_id, 'session' => (object) $session]);
    }

    /** Merges into a client's session, recursively; null deletes. False: there is no such client. */
    public static function updateSession($client_id, array $session): bool
    {
        return static::isDone('updateSession', ['client_id' => (string) $client_id, 'session' => (object) $session]);
    }

    /** Calls a function of the interface by name, and gives its `data`. */
    public static function call(string $function, array $arguments = [], bool $lenient = true): array
    {
        $flags = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION | JSON_THROW_ON_ERROR;
        $body = json_encode((object) $arguments, $flags);
        $query = $lenient ? '?lenient=1' : '';
        [$status, $text] = static::post("/v1/call/$function$query", $body);
        $answer = json_decode($text, true);
        if (!is_array($answer) || !isset($answer['ok'])) {
            throw new GatewayException("$function: the server answered $status without JSON", 'bad_answer', $status);
        }
        if ($answer['ok'] !== true) {
            $error = $answer['error'];
            throw new GatewayException("$function: {$error['message']}", $error['code'], $status);
        }
        return $answer['data'];
    }

    /** Status and body of the first server that answers. */
    protected static function post(string $target, string $body): array
    {
        $why = 'no address';
        foreach ((array) static::$registerAddress as $address) {
            $base = strpos($address, '://') === false ? "http://$address" : rtrim($address, '/');
            $answer = static::exchange($base, $target, $body, $why);
            if ($answer !== null) {
                return $answer;
            }
        }
        throw new GatewayException("the server cannot be reached: $why", 'unreachable', 0);
    }

    /** Status and body; null: nobody can be connected to, so nothing was carried out. */
    protected static function exchange(string $base, string $target, string $body, ?string &$why): ?array
    {
        $url = parse_url($base);
        $is_tls = ($url['scheme'] ?? '') === 'https';
        $port = $url['port'] ?? ($is_tls ? 443 : 80);
        $remote = ($is_tls ? 'tls://' : 'tcp://') . $url['host'] . ":$port";
        $socket = @stream_socket_client($remote, $code, $why, static::$connectTimeout);
        if ($socket === false) {
            return null;
        }
        stream_set_timeout($socket, (int) static::$queryTimeout);
        $lines = [
            "POST $target HTTP/1.1",
            "Host: {$url['host']}:$port",
            'Content-Type: application/json',
            'Content-Length: ' . strlen($body),
            'Connection: close',
        ];
        if (static::$secretKey !== '') {
            $lines[] = 'Authorization: Bearer ' . static::$secretKey;
        }
        for ($rest = implode("\r\n", $lines) . "\r\n\r\n" . $body; $rest !== ''; $rest = substr($rest, $count)) {
            $count = @fwrite($socket, $rest);
            if ($count === false || $count === 0) {
                break; // It may have answered already.
            }
        }
        $text = stream_get_contents($socket);
        $is_late = stream_get_meta_data($socket)['timed_out'];
        fclose($socket);
        $parts = explode("\r\n\r\n", (string) $text, 2);
        if ($is_late || count($parts) < 2 || !preg_match('#^HTTP/1\.1 (\d{3})#', $parts[0], $status)) {
            throw new GatewayException('the server did not answer in time', 'no_answer', 0);
        }
        return [(int) $status[1], $parts[1]];
    }

    /** Whether a call about a client was done: false if there is none. */
    protected static function isDone(string $function, array $arguments): bool
    {
        return static::ofClient($function, $arguments) !== null;
    }

    /** What a call about a client gives; null if there is none. */
    protected static function ofClient(string $function, array $arguments): ?array
    {
        try {
            return static::call($function, $arguments, false);
        } catch (GatewayException $error) {
            $is_id = preg_match('/^[0-9a-f]{20}$/D', $arguments['client_id']);
            if ($error->reason() === 'client_not_found' || !$is_id && $error->reason() === 'bad_request') {
                return null;
            }
            throw $error;
        }
    }

    /** All of a list, asked for in parts. */
    protected static function all(string $function, array $arguments, string $field): array
    {
        $all = [];
        $arguments['limit'] = static::PAGE;
        do {
            $part = static::call($function, $arguments);
            // Keys that are numbers are ids too, so the lists are not simply merged.
            $all = $field === 'sessions' ? $all + $part[$field] : array_merge($all, $part[$field]);
            $arguments['cursor'] = $part['next'] ?? null;
        } while ($arguments['cursor'] !== null);
        return $all;
    }

    /** A message as the interface takes it: text, or bytes that are none in a binary frame. */
    protected static function message($message): array
    {
        $message = (string) $message;
        if (preg_match('//u', $message)) {
            return ['message' => $message];
        }
        return ['message_base64' => base64_encode($message), 'binary' => true];
    }

    protected static function excluding($clients): array
    {
        return empty($clients) ? [] : ['exclude' => static::strings((array) $clients)];
    }

    protected static function strings(array $values): array
    {
        return array_map('strval', array_values($values));
    }

    /** A list, or a single value. */
    protected static function oneOrMany($value)
    {
        return is_array($value) ? static::strings($value) : (string) $value;
    }

    /** As GatewayClient gives lists: each value under itself. */
    protected static function map(array $values): array
    {
        return array_combine($values, $values);
    }

    /** GatewayClient refuses an empty group, and "0". */
    protected static function isValidGroupId($group): bool
    {
        if (!is_array($group)) {
            return !empty($group);
        }
        foreach ($group as $one) {
            if (empty($one)) {
                return false;
            }
        }
        return $group !== [];
    }

    protected static function current(): string
    {
        if (static::$currentClientId === null) {
            throw new GatewayException('there is no current client', 'bad_request', 0);
        }
        return static::$currentClientId;
    }
}
