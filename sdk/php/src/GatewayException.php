<?php

declare(strict_types=1);

namespace RainbowSdk;

/** A call that was refused, or a server that cannot be reached. */
class GatewayException extends \RuntimeException
{
    /** @var string */
    private $reason;

    public function __construct(string $message, string $reason, int $status)
    {
        parent::__construct($message, $status);
        $this->reason = $reason;
    }

    /** The server's word for it (docs/gateway.md), or `unreachable`, `no_answer`, `bad_answer`. */
    public function reason(): string
    {
        return $this->reason;
    }
}
