"""A link that delays, loses and throttles packets, for hosts on one machine.

`tc netem` does the same where the kernel has it, and many have not. Here a small program stands between the switch and
a host's port: what one side sends, it hands to the other side later, or never.
"""

import array
import ctypes
import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from infra.drill.namespaces import Namespaces
from infra.settings import ROOT
from models.common.errors import ClusterError

_LONGEST_FRAME = 65536
_LONGEST_QUEUE_SECONDS = 0.3  # of a throttled link: what waits longer is dropped, as in a router
_MOST_FRAMES = 20_000

# From linux/if_tun.h, linux/ethtool.h, linux/sockios.h, linux/if_ether.h, sched.h.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_ETH_P_ALL, _CLONE_NEWNET = 0x0003, 0x40000000


class SlowLink:
    """The program between the switch and the port of one host; the port is off the switch as long as it runs."""

    def __init__(self, switch: Namespaces, host: Namespaces, port: str) -> None:
        self.port = port.replace("port", "slow")
        self._switch, self._host_port = switch, port
        self._program = subprocess.Popen(
            [
                *switch.enter("--net"),
                *(sys.executable, "-m", "infra.drill.slow_link", port, self.port, f"/proc/{host.pid}/ns/net"),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._program.stdin
        assert self._program.stdout
        if self._program.stdout.readline().strip() != "ready":
            raise ClusterError(f"the link of {port} cannot be slowed: its program ended")
        self._ip(f"link set {port} nomaster", f"link set {self.port} master switch up")

    def set(self, delay_ms: float, loss_percent: float, kilobytes_per_second: float) -> None:
        assert self._program.stdin
        self._program.stdin.write(json.dumps([delay_ms / 1e3, loss_percent / 100, kilobytes_per_second * 1e3]) + "\n")
        self._program.stdin.flush()

    def end(self) -> None:
        """The host is on the switch again, where it is still up."""
        self._program.communicate()
        self._ip(f"link set {self._host_port} master switch")

    def _ip(self, *lines: str) -> None:
        command = [*self._switch.enter("--net"), "ip", "-batch", "-"]
        subprocess.run(command, input="\n".join(lines), text=True, stderr=subprocess.DEVNULL)


@dataclass
class Direction:
    """One way of the link: frames on their way, with the time at which each arrives."""

    source: Any  # what frames are read from, and `into` what they are written to: file numbers
    into: Any
    on_the_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    free: float = 0.0  # when the last frame will have left

    def take(self, now: float, delay: float, loss: float, rate: float) -> None:
        frame = os.read(self.source, _LONGEST_FRAME)
        leaves = max(now, self.free) + (len(frame) / rate if rate else 0.0)
        full = leaves - now > _LONGEST_QUEUE_SECONDS or len(self.on_the_way) >= _MOST_FRAMES
        if full or random.random() < loss:
            return
        self.free = leaves
        latest = self.on_the_way[-1][0] if self.on_the_way else 0.0
        self.on_the_way.append((max(latest, leaves + delay), frame))

    def give(self, now: float) -> None:
        while self.on_the_way and self.on_the_way[0][0] <= now:
            with suppress(OSError):  # nobody is there to take it: lost
                os.write(self.into, self.on_the_way.popleft()[1])


def relay(port: int, tap: int, asked: list[float]) -> None:
    """Hands frames on until standard input closes; each of its lines is a new delay, loss and rate, as `asked` is."""
    ways = [Direction(port, tap), Direction(tap, port)]
    delay, loss, rate = asked
    while True:
        due = min((way.on_the_way[0][0] for way in ways if way.on_the_way), default=float("inf"))
        ready, _, _ = select.select([port, tap, 0], [], [], min(60.0, max(0.0, due - time.monotonic())))
        if 0 in ready:
            if not (line := os.read(0, 4096)):
                return
            delay, loss, rate = json.loads(line.splitlines()[-1])
        now = time.monotonic()
        for way in ways:
            if way.source in ready:
                way.take(now, delay, loss, rate)
            way.give(now)


def main(port_name: str, tap_name: str, host_net: str) -> None:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", tap_name.encode(), _IFF_TAP | _IFF_NO_PI))
    host = _socket_in(host_net)
    _offload_checksums(host, on=False)
    os.write(1, b"ready\n")
    try:
        if line := os.read(0, 4096):  # the port is off the switch by then: no frame goes both ways
            port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            port.bind((port_name, 0))
            relay(port.fileno(), tap, json.loads(line))
    finally:
        _offload_checksums(host, on=True)


def _socket_in(namespace: str) -> socket.socket:
    """A socket of another network; this process stays in its own."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(namespace, os.O_RDONLY)
    try:
        assert setns(other, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        made = socket.socket()
        assert setns(own, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(own)
        os.close(other)
    return made


def _offload_checksums(host: socket.socket, *, on: bool) -> None:
    """Between hosts of one machine packets go unfinished, and many as one; those through a program have to be whole."""
    value = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, int(on)))
    request = struct.pack("16sP16x", b"eth0", value.buffer_info()[0])
    try:
        fcntl.ioctl(host, _SIOCETHTOOL, request)
    except OSError:
        if not on:
            raise  # at the end the host may be gone


if __name__ == "__main__":
    main(*sys.argv[1:])
