"""Packets of the client protocol: one websocket message each, integers big-endian (docs/client.md, "Packets")."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Optional

ID_MAX = 65534


class Command(IntEnum):
    SEND = 1
    ACK = 2
    REC = 3
    REL = 4
    COM = 5


@dataclass(frozen=True)
class Packet:
    """``type`` is of SEND only; ``id`` is 0 for SEND with QoS 0; ``payload`` is the data of ACK and REC too."""

    command: Command
    id: int = 0
    payload: bytes = b""
    type: int = 0
    qos: int = 0
    dup: bool = False

    def encode(self) -> bytes:
        head = bytearray([self.command << 4 | self.dup << 3 | self.qos << 1])
        if self.command is Command.SEND:
            head += self.type.to_bytes(2, "big")
        if self.command is not Command.SEND or self.qos > 0:
            head += self.id.to_bytes(2, "big")
        return bytes(head) + self.payload

    @staticmethod
    def decode(data: bytes) -> Optional["Packet"]:
        """None for what is no packet; receivers ignore that and stay connected."""
        if len(data) < 3 or not 1 <= data[0] >> 4 <= 5:
            return None
        command = Command(data[0] >> 4)
        word = int.from_bytes(data[1:3], "big")
        if command is not Command.SEND:
            return Packet(command, id=word, payload=data[3:])
        qos, dup = data[0] >> 1 & 3, bool(data[0] & 8)
        if qos == 0:
            return Packet(command, payload=data[3:], type=word, dup=dup)
        if len(data) < 5:
            return None
        return Packet(command, id=int.from_bytes(data[3:5], "big"), payload=data[5:], type=word, qos=qos, dup=dup)
