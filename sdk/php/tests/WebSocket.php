<?php

declare(strict_types=1);

/** As much of a websocket client as the tests need. */
class WebSocket
{
    private $socket;

    public function __construct(int $port)
    {
        $this->socket = stream_socket_client("tcp://127.0.0.1:$port", $code, $why, 5);
        stream_set_timeout($this->socket, 5);
        $key = base64_encode(random_bytes(16));
        fwrite($this->socket, "GET / HTTP/1.1\r\nHost: 127.0.0.1:$port\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            . "Sec-WebSocket-Key: $key\r\nSec-WebSocket-Version: 13\r\n\r\n");
        if (strpos((string) fgets($this->socket), '101') === false) {
            throw new RuntimeException('no websocket');
        }
        while (trim((string) fgets($this->socket)) !== '') {
        }
    }

    /** The next frame as "opcode:payload"; "eof" at the end. */
    public function next(): string
    {
        $head = $this->bytes(2);
        if ($head === null) {
            return 'eof';
        }
        $length = ord($head[1]) & 127;
        if ($length === 126) {
            $length = unpack('n', $this->bytes(2))[1];
        } elseif ($length === 127) {
            $length = unpack('J', $this->bytes(8))[1];
        }
        $payload = $length === 0 ? '' : $this->bytes($length);
        $opcode = ord($head[0]) & 15;
        return $opcode === 9 ? $this->next() : "$opcode:$payload";
    }

    private function bytes(int $count): ?string
    {
        $bytes = '';
        while (strlen($bytes) < $count) {
            $more = fread($this->socket, $count - strlen($bytes));
            if ($more === false || $more === '') {
                if (stream_get_meta_data($this->socket)['timed_out']) {
                    throw new RuntimeException('nothing came within 5 seconds');
                }
                return null;
            }
            $bytes .= $more;
        }
        return $bytes;
    }
}
