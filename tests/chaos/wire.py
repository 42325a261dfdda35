"""Lines between hosts (network namespaces) that lose, delay, reorder and cut: what tc netem does, for kernels without it.

Usage: wire.py LINE... Each line has two ends, the devices LINE-a and LINE-b; whoever starts this moves them where they belong.
Commands on standard input: `LINE LOSS_PERCENT DELAY_MS JITTER_MS` for both directions (100 percent is a cut). It ends with
its standard input."""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LONGEST_PACKET = 65536
# Packets under way; more than that would have been dropped by any real queue.
MOST_PACKETS = 20000


def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


# One command is answered before the next is written, so nothing stays in a buffer that select does not see.
lines = {name: (0.0, 0.0, 0.0) for name in sys.argv[1:]}
ends = {}
for name in lines:
    a, b = tun(name + "-a"), tun(name + "-b")
    ends[a], ends[b] = (name, b), (name, a)

print("ready", flush=True)
under_way, number = [], 0
while True:
    wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
    readable, _, _ = select.select([0, *ends], [], [], wait)
    for fd in readable:
        if fd == 0:
            words = sys.stdin.readline().split()
            if not words:
                sys.exit(0)
            lines[words[0]] = tuple(float(word) for word in words[1:4])
            print("done", flush=True)
            continue
        name, other = ends[fd]
        loss, delay, jitter = lines[name]
        for _ in range(64):
            try:
                packet = os.read(fd, LONGEST_PACKET)
            except OSError:
                break
            if random.uniform(0, 100) >= loss and len(under_way) < MOST_PACKETS:
                number += 1
                at = time.monotonic() + (delay + random.uniform(-jitter, jitter)) / 1000
                heapq.heappush(under_way, (at, number, other, packet))
    while under_way and under_way[0][0] <= time.monotonic():
        _, _, end, packet = heapq.heappop(under_way)
        try:
            os.write(end, packet)
        except OSError:
            pass  # the other end is down
