"""A network of hosts on one machine: each with an address, memory disks and processes of its own.

What they share is the network, and the machine's own files, which none of them can write. The machine itself is on the
network too, so that a test or a drill speaks to the services there directly. It needs root: `missing()` says so.
"""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from infra.drill.ground import HOST, SWITCH, SWITCH_KINDS, code, ip, ip_batch, missing
from infra.drill.namespaces import Namespaces, sweep
from infra.drill.process import Process
from infra.drill.slow_link import SlowLink
from infra.settings import ROOT
from models.common.errors import ClusterError, ConfigError

_SUBNETS = range(1, 255)
_FIRST_HOST, _MOST_HOSTS = 10, 30
_PORT_SECONDS = 5
_DISABLED, _FORWARDING = "0", "3"  # of a switch's port, as `bridge` counts

# `nsenter` by itself would stop with the program that it starts, and a stopped one keeps a host from ending.
_AND_WAIT = ("sh", "-c", 'exec 3<&0; "$@" <&3 3<&- & wait $!', "enter")

HOME = "/run/home"
SCRATCH = "/run/scratch"
ORCHARD_HOME = f"{SCRATCH}/orchard"
DISK = "/run/disk"  # what is there outlives the host, as what is on a machine's disk does


@dataclass(frozen=True)
class Sizes:
    """The memory disks of a host, in megabytes; they take memory for what is in them only."""

    tmp: int = 768  # Ray's session, with the code of its jobs
    shm: int = 256
    scratch: int = 768
    home: int = 64
    disk: int = 1024


class Network:
    """A switch, the machine's own port on it, and hosts. All of it ends with the block, or with this process."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.hosts: dict[str, Host] = {}
        self.subnet = 0

    def __enter__(self) -> Self:
        if reason := missing():
            raise ClusterError(reason)
        sweep()
        self.logs.mkdir(parents=True, exist_ok=True)
        self.switch = Namespaces(SWITCH_KINDS, SWITCH, code())
        try:
            self._connect_machine()
        except BaseException:
            self.switch.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as ending:
            ending.callback(self.switch.end)
            ending.callback(ip, ["link", "del", f"drill-{self.subnet}"])
            for host in self.hosts.values():
                ending.callback(host.kill)

    @property
    def address(self) -> str:
        """The machine's own."""
        return self.address_of(1)

    def address_of(self, number: int) -> str:
        return f"10.213.{self.subnet}.{number}"

    def hardware_of(self, number: int) -> str:
        """Follows from the address, so that a revived host is no stranger."""
        return f"02:00:0a:d5:{self.subnet:02x}:{number:02x}"

    def host(self, name: str, sizes: Sizes = Sizes()) -> "Host":
        """A new host, up and connected."""
        if name in self.hosts or len(self.hosts) == _MOST_HOSTS:
            raise ConfigError(
                f"the network has {', '.join(self.hosts)}\nfits: another name, {_MOST_HOSTS} hosts at most"
            )
        host = Host(self, name, _FIRST_HOST + len(self.hosts), sizes)
        self.hosts[name] = host
        disk = ["mount", "-t", "tmpfs", "-o", f"size={sizes.disk}m,mode=755", "tmpfs", f"/run/disks/{name}"]
        for command in (["mkdir", f"/run/disks/{name}"], disk):
            subprocess.run([*self.switch.enter("--mount"), *command], check=True)
        host.revive()
        return host

    def neighbours(self) -> list[str]:
        """For `ip`: who has which address, told to all. A host that asked a silent link would be told "no route".

        That is what a cut is on a local network only; beyond it there is no answer, and a connection waits.
        """
        numbers = [1, *range(_FIRST_HOST, _FIRST_HOST + _MOST_HOSTS)]
        return [f"lladdr {self.hardware_of(each)} nud permanent to {self.address_of(each)}" for each in numbers]

    def _connect_machine(self) -> None:
        for self.subnet in _SUBNETS:
            port = f"drill-{self.subnet}"
            peer = ["type", "veth", "peer", "name", "machine", "netns", str(self.switch.pid)]
            made = ip(["link", "add", port, "address", self.hardware_of(1), *peer])
            if made.returncode == 0:
                break
            if "File exists" not in made.stderr:
                raise ClusterError(f"the machine cannot be connected to the hosts\n{made.stderr.strip()}")
        else:
            raise ClusterError("254 networks of hosts are in use on this machine\nend the drills that run")
        ip_batch(
            [],
            f"addr add {self.address}/24 dev {port}",
            f"link set {port} up",
            *(f"neigh add {each} dev {port}" for each in self.neighbours() if not each.endswith(f" {self.address}")),
        )
        self.on_switch("link set machine master switch", "link set machine up")

    def on_switch(self, *lines: str) -> None:
        ip_batch(self.switch.enter("--net"), *lines)


@dataclass
class Host:
    """One host; its methods are what can be done with it and what can happen to it."""

    network: Network
    name: str
    number: int
    sizes: Sizes
    _namespaces: Namespaces | None = field(default=None, init=False)
    _slow: SlowLink | None = field(default=None, init=False)
    _is_cut: bool = field(default=False, init=False)
    _filled: dict[str, Path] = field(default_factory=dict, init=False)

    @property
    def address(self) -> str:
        return self.network.address_of(self.number)

    @property
    def port(self) -> str:
        """The host's own on the switch."""
        return f"port-{self.number}"

    def start(
        self,
        name: str,
        command: list[str],
        env: Mapping[str, str] | None = None,
        *,
        user: str | None = None,
        words: str = "",
    ) -> Process:
        """The program, running on this host; its output is in a log of the machine's. `words` is what it first reads.

        `user`: who runs it there, where root may not.
        """
        log = self.network.logs / f"{self.name}.{name}.log"
        return Process(name, self._command(command, user), self._environment(env), log, words)

    def run(
        self, command: list[str], env: Mapping[str, str] | None = None, *, user: str | None = None, timeout: float = 60
    ) -> str:
        """What the command says on this host; raises ClusterError where it fails."""
        done = subprocess.run(
            self._command(command, user),
            env=self._environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise ClusterError(f"on {self.name}, {command[0]} ended with code {done.returncode}\n{said}")
        return done.stdout

    def path(self, inside: str) -> Path:
        """A path of the host's, as the machine reaches it."""
        return Path(f"/proc/{self._running().pid}/root{inside}")

    def write_private(self, inside: str, text: str) -> str:
        """A file of the host's that only its root may read; its path there."""
        file = self.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_text(text)
        return inside

    def alive(self) -> bool:
        return self._namespaces is not None and self._namespaces.alive()

    def processes(self) -> list[psutil.Process]:
        return self._namespaces.processes() if self._namespaces else []

    def freeze(self) -> None:
        """SIGSTOP for all that runs there; a Process has the same for one."""
        for process in self.processes():
            process.suspend()

    def thaw(self) -> None:
        for process in self.processes():
            process.resume()

    def kill(self) -> None:
        """The power fails: nothing is said to anybody, and all that ran there is gone, with all but its disk."""
        if self._namespaces is None:
            return
        self._end_slowness()
        # First: what dies would close its connections.
        ip(["link", "del", self.port], enter=self.network.switch.enter("--net"))
        self._namespaces.end()
        self._namespaces = None
        self._filled.clear()

    def revive(self) -> None:
        """The host is up again, as it was on its first day: with its address and its disk."""
        if self.alive():
            return
        self.kill()  # what is left of it, where it ended by itself
        sizes = (f"{each}m" for each in (self.sizes.tmp, self.sizes.shm, self.sizes.scratch, self.sizes.home))
        self._namespaces = Namespaces(
            ("--mount", "--net", "--uts", "--ipc"),
            HOST,
            (self.name, *sizes, *code()),
            within=self.network.switch,
        )
        self._is_cut = False
        hardware = self.network.hardware_of(self.number)
        peer = f"type veth peer name eth0 address {hardware} netns {self._namespaces.pid}"
        self.network.on_switch(
            f"link add {self.port} {peer}", f"link set {self.port} master switch", f"link set {self.port} up"
        )
        others = (each for each in self.network.neighbours() if not each.endswith(f" {self.address}"))
        ip_batch(
            self._namespaces.enter("--net"),
            "link set lo up",
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 up",
            *(f"neigh add {each} dev eth0" for each in others),
        )
        self._set_port()

    def cut(self, other: "Host | None" = None) -> None:
        """Nothing comes or goes any more, and nobody is told; between this host and one other, where it is named."""
        if other:
            self._misdirect(other)
            other._misdirect(self)
        else:
            self._is_cut = True
            self._set_port()

    def slow(self, delay_ms: float = 0, loss_percent: float = 0, kilobytes_per_second: float = 0) -> None:
        """Each packet, in both directions, takes longer and may be lost; 0 kilobytes a second is no limit."""
        if self._slow is None:
            self._slow = SlowLink(self.network.switch, self._running(), self.port)
        self._slow.set(delay_ms, loss_percent, kilobytes_per_second)
        self._set_port()

    def heal(self) -> None:
        """The link is as it was: neither cut nor slow."""
        self._end_slowness()
        self._is_cut = False
        self._set_port()
        for other in self.network.hosts.values():
            if other is not self and other.alive():
                self._direct(other)
                other._direct(self)

    def fill(self, inside: str = SCRATCH, leave_bytes: int = 0) -> None:
        """Takes all space where this path is but `leave_bytes`."""
        self.drain(inside)
        ballast = self.path(inside) / ".ballast"
        self._filled[inside] = ballast
        with ballast.open("wb") as file:
            while (wanted := self._free(inside) - leave_bytes) > 0:
                with suppress(OSError):  # somebody else was faster
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + wanted)

    def _free(self, inside: str) -> int:
        space = os.statvfs(self.path(inside))
        return space.f_bavail * space.f_frsize

    def drain(self, inside: str = SCRATCH) -> None:
        """What `fill` took is free again."""
        if ballast := self._filled.pop(inside, None):
            ballast.unlink(missing_ok=True)

    def _running(self) -> Namespaces:
        if self._namespaces is None or not self._namespaces.alive():
            raise ClusterError(f"{self.name} is down\nrevive it first")
        return self._namespaces

    def _command(self, command: list[str], user: str | None) -> list[str]:
        as_user = []
        if user:
            found = pwd.getpwnam(user)
            as_user = ["setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]
        return [*self._running().enter(), "--no-fork", f"--wd={ROOT}", "--", *_AND_WAIT, *as_user, *command]

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """Nothing of the machine's own: its keys and addresses are no business of a host's."""
        path = [str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        return {
            "PATH": ":".join(path),
            "HOME": HOME,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "ORCHARD_HOME": ORCHARD_HOME,
            "OMP_NUM_THREADS": "1",
            **(env or {}),
        }

    def _set_port(self) -> None:
        """The switch forwards to the host, or not: the cable stays in, so that neither side sees a link go down."""
        port = self._slow.port if self._slow else self.port
        state = _DISABLED if self._is_cut else _FORWARDING
        command = [*self.network.switch.enter("--net"), "bridge", "link", "set", "dev", port, "state", state]
        deadline = time.monotonic() + _PORT_SECONDS
        while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
            if time.monotonic() > deadline:
                raise ClusterError(f"the switch does not set the port of {self.name}\n{done.stderr.strip()}")
            time.sleep(0.01)  # a new port has no carrier yet

    def _end_slowness(self) -> None:
        if self._slow:
            self._slow.end()
            self._slow = None

    def _direct(self, other: "Host") -> None:
        self._send(other, self.network.hardware_of(other.number))

    def _misdirect(self, other: "Host") -> None:
        """Packets for the other one go to a device that is not there."""
        self._send(other, self.network.hardware_of(255))

    def _send(self, other: "Host", hardware: str) -> None:
        ip_batch(
            self._running().enter("--net"),
            f"neigh replace {other.address} lladdr {hardware} nud permanent dev eth0",
        )
