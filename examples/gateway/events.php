<?php
// A chat room behind the gateway (docs/gateway.md): RAINBOW_SECRET=… php -S 127.0.0.1:PORT events.php

function is_genuine(string $body): bool
{
    $stamp = $_SERVER['HTTP_X_RAINBOW_TIMESTAMP'] ?? '';
    $signature = 'sha256=' . hash_hmac('sha256', "$stamp.$body", getenv('RAINBOW_SECRET'));
    return abs(time() - (int) $stamp) < 60 && hash_equals($signature, $_SERVER['HTTP_X_RAINBOW_SIGNATURE'] ?? '');
}

function to_room(string $text): array
{
    return ['actions' => [['fn' => 'sendToGroup', 'args' => ['group' => 'room', 'message' => $text]]]];
}

function answer(array $event): array
{
    switch ($event['event']) {
        case 'connect':
            $name = $event['query']['name'] ?? '';
            if ($name === '') {
                return ['allow' => false, 'reason' => 'say who you are: ?name=…'];
            }
            return ['uid' => $name, 'groups' => ['room'], 'messages' => ["welcome, $name"]];
        case 'message':
            return to_room($event['uid'] . ': ' . ($event['message'] ?? '(bytes)'));
        default:
            return to_room($event['uid'] . ' left');
    }
}

$body = file_get_contents('php://input');
if (!is_genuine($body)) {
    http_response_code(401);
    exit;
}
echo json_encode(answer(json_decode($body, true)));
