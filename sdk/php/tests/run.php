<?php

/**
 * Calls every method of the class against a running server: php run.php API_PORT GATEWAY_PORT TOKEN. The server must be
 * empty. Prints one line for each method that was tried, and fails with the first that is wrong.
 */

declare(strict_types=1);

require __DIR__ . '/../src/Gateway.php';
require __DIR__ . '/../src/GatewayException.php';
require __DIR__ . '/WebSocket.php';

use RainbowSdk\Gateway;
use RainbowSdk\GatewayException;

[, $api, $port, $token] = $argv;
// The first of several does not answer.
Gateway::$registerAddress = ['127.0.0.1:1', "127.0.0.1:$api"];
Gateway::$secretKey = $token;

$tried = [];

/** The same in one order: of keys, and of values in lists. */
function ordered($value)
{
    if (is_array($value)) {
        $value = array_map('ordered', $value);
        ksort($value);
        if ($value && array_keys($value) === range(0, count($value) - 1)) {
            sort($value);
        }
    }
    return $value;
}

/** Calls a method and compares what it gives. */
function same($expected, string $method, ...$arguments): void
{
    global $tried;
    $tried[$method] = true;
    $given = Gateway::$method(...$arguments);
    if (ordered($given) !== ordered($expected)) {
        throw new RuntimeException("$method: " . var_export($given, true) . ' is not ' . var_export($expected, true));
    }
}

function refused(string $reason, string $method, ...$arguments): void
{
    try {
        Gateway::$method(...$arguments);
    } catch (GatewayException $error) {
        if ($error->reason() === $reason) {
            return;
        }
        throw $error;
    }
    throw new RuntimeException("$method was not refused");
}

function got(WebSocket $client, string $expected): void
{
    $frame = $client->next();
    if ($frame !== $expected) {
        throw new RuntimeException("$frame came, not $expected");
    }
}

function map(array $values): array
{
    return array_combine($values, $values);
}

/** A client and its id. */
function connect(): array
{
    global $port;
    $before = Gateway::getAllClientIdList();
    $client = new WebSocket((int) $port);
    for ($tries = 0; $tries < 100; $tries++) {
        $new = array_diff(Gateway::getAllClientIdList(), $before);
        if ($new) {
            return [$client, reset($new)];
        }
        usleep(20000);
    }
    throw new RuntimeException('the client is not listed');
}

[$a, $A] = connect();
[$b, $B] = connect();
[$c, $C] = connect();
$gone = '0123456789abcdef0123';

same(map([$A, $B, $C]), 'getAllClientIdList');
same(3, 'getAllClientIdCount');
same(3, 'getAllClientCount');
same(1, 'isOnline', $A);
same(0, 'isOnline', $gone);
same(0, 'isOnline', 'no id');

// Messages. After each, a marker that everybody gets shows who got nothing.
same(true, 'sendToAll', 'all');
foreach ([$a, $b, $c] as $client) {
    got($client, '1:all');
}
same(true, 'sendToAll', 'but a', null, $A);
same(true, 'sendToAll', 'only a', [$A, $gone, 'no id'], [$B]);
same(true, 'sendToAll', 'nobody', []);
same(true, 'sendToClient', $B, 'b');
same(true, 'sendToClient', $B, "\xff\x00");
same(false, 'sendToClient', $gone, 'x');
same(false, 'sendToClient', 'no id', 'x');
Gateway::$currentClientId = $C;
same(true, 'sendToCurrentClient', 42);
Gateway::$currentClientId = null;
refused('bad_request', 'sendToCurrentClient', 'x');
Gateway::sendToAll('marker');
got($a, '1:only a');
got($a, '1:marker');
got($b, '1:but a');
got($b, '1:b');
got($b, "2:\xff\x00");
got($b, '1:marker');
got($c, '1:but a');
got($c, '1:42');
got($c, '1:marker');

// Uids.
same(true, 'bindUid', $A, 42);
same(true, 'bindUid', $B, '42');
same(true, 'bindUid', $C, 'ü');
same(false, 'bindUid', $gone, 'u');
same(false, 'bindUid', 'no id', 'u');
refused('bad_request', 'bindUid', $A, '');
same('42', 'getUidByClientId', $A);
same(null, 'getUidByClientId', $gone);
same([$A, $B], 'getClientIdByUid', 42);
same([], 'getClientIdByUid', 'nobody');
same([42 => [$A, $B]], 'batchGetClientIdByUid', ['42', 'nobody']);
same(1, 'isUidOnline', 'ü');
same(0, 'isUidOnline', 'nobody');
same(['42' => 1, 'nobody' => 0], 'isUidsOnline', [42, 'nobody']);
same(map(['42', 'ü']), 'getAllUidList');
same(2, 'getAllUidCount');
same(true, 'sendToUid', '42', 'uid');
same(true, 'sendToUid', [42, 'ü', 'nobody'], 'uids');
got($a, '1:uid');
got($a, '1:uids');
got($b, '1:uid');
got($b, '1:uids');
got($c, '1:uids');

// Groups.
same(true, 'joinGroup', $A, 'g/1');
same(true, 'joinGroup', $A, 'g/1');
same(true, 'joinGroup', $B, 'g/1');
same(true, 'joinGroup', $B, 'h');
same(false, 'joinGroup', $gone, 'h');
same(2, 'getClientIdCountByGroup', 'g/1');
same(2, 'getClientCountByGroup', 'g/1');
same(3, 'getClientCountByGroup');
same(['g/1' => 2, 'h' => 1, 'none' => 0], 'batchGetClientIdCountByGroup', ['g/1', 'h', 'none']);
same(map([$A, $B]), 'getClientIdListByGroup', 'g/1');
same(map([$A, $B]), 'getClientIdListByGroup', ['g/1', 'h']);
same([], 'getClientIdListByGroup', '');
same(map(['42']), 'getUidListByGroup', 'g/1');
same(1, 'getUidCountByGroup', ['g/1', 'h']);
same(map(['g/1', 'h']), 'getAllGroupIdList');
same(['g/1' => map(['42']), 'h' => map(['42'])], 'getAllGroupUidList');
same(['g/1' => 1, 'h' => 1], 'getAllGroupUidCount');
same(['g/1' => map([$A, $B]), 'h' => map([$B])], 'getAllGroupClientIdList');
same(['g/1' => 2, 'h' => 1], 'getAllGroupClientIdCount');
same(map(['g/1', 'h']), 'getGroupsByClientId', $B);
same([], 'getGroupsByClientId', $gone);
same(true, 'sendToGroup', 'g/1', 'group');
same(true, 'sendToGroup', ['g/1', 'h'], 'groups', $A);
same(false, 'sendToGroup', '', 'x');
Gateway::sendToAll('marker');
got($a, '1:group');
got($a, '1:marker');
got($b, '1:group');
got($b, '1:groups');
got($b, '1:marker');
got($c, '1:marker');
same(true, 'leaveGroup', $B, 'h');
same(true, 'leaveGroup', $B, 'h');
same(map(['g/1']), 'getAllGroupIdList');
same(true, 'ungroup', 'g/1');
same(false, 'ungroup', '');
same([], 'getAllGroupIdList');
same(true, 'unbindUid', $B, '42');
same(true, 'unbindUid', $B);
same([$A], 'getClientIdByUid', '42');

// Sessions.
same([], 'getSession', $A);
same(null, 'getSession', $gone);
same(false, 'getSession', 'no id');
same(true, 'setSession', $A, ['name' => 'ä', 'n' => ['x' => 1, 'y' => 2.5]]);
same(true, 'updateSession', $A, ['n' => ['x' => null, 'z' => [1]]]);
same(false, 'setSession', $gone, []);
same(['n' => ['y' => 2.5, 'z' => [1]], 'name' => 'ä'], 'getSession', $A);
same(true, 'setSession', $A, []);
same(true, 'updateSession', $A, ['k' => 'v']);
same(['k' => 'v'], 'getSession', $A);
Gateway::joinGroup($A, 'g');
same([$A => ['k' => 'v']], 'getClientSessionsByGroup', 'g');
same([$A => ['k' => 'v']], 'getClientInfoByGroup', 'g');
same([$A => ['k' => 'v']], 'getAllClientSessions', 'g');
same([$A => ['k' => 'v'], $B => [], $C => []], 'getAllClientSessions');
same([$A => ['k' => 'v'], $B => [], $C => []], 'getAllClientInfo');

// Closing.
same(true, 'closeClient', $A, 'bye');
got($a, '1:bye');
got($a, "8:\x03\xe8");
same(false, 'closeClient', $gone);
Gateway::$currentClientId = $B;
same(true, 'closeCurrentClient');
got($b, "8:\x03\xe8");
same(true, 'destoryClient', $C);
got($c, 'eof');
same(false, 'destoryClient', $C);
[$d, $D] = connect();
Gateway::$currentClientId = $D;
same(true, 'destoryCurrentClient');
got($d, 'eof');
same(0, 'getAllClientIdCount');

Gateway::$secretKey = 'wrong';
refused('unauthorized', 'getAllClientCount');
Gateway::$registerAddress = '127.0.0.1:1';
refused('unreachable', 'getAllClientCount');

// Every method has been called.
foreach ((new ReflectionClass(Gateway::class))->getMethods(ReflectionMethod::IS_PUBLIC) as $method) {
    if ($method->name !== 'call' && !isset($tried[$method->name])) {
        throw new RuntimeException("$method->name was not tried");
    }
}
echo count($tried) . " methods, all as expected\n";
