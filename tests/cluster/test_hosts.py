"""Hosts on one machine are apart from each other, and what is done to them happens; the kernel is asked."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from infra.drill.hosts import DISK, SCRATCH, Host, Network
from infra.settings import ROOT
from models.common.errors import ClusterError
from tests.fixtures.workers import wait_for

pytestmark = pytest.mark.cluster

_ECHO = """
import socket, threading
def echo(peer):
    while data := peer.recv(65536):
        peer.sendall(data)
listener = socket.create_server(("", 7), backlog=64)
while True:
    threading.Thread(target=echo, args=listener.accept()[:1], daemon=True).start()
"""

Pair = tuple[Host, Host]


@contextmanager
def connection(host: Host) -> Iterator[socket.socket]:
    """From this machine to an echo on the host."""
    host.start("echo", ["python", "-c", _ECHO])
    with wait_for(lambda: connect(host), 10) as made:
        made.settimeout(1)
        yield made


def connect(host: Host) -> socket.socket | None:
    try:
        return socket.create_connection((host.address, 7), timeout=1)
    except ConnectionRefusedError:
        return None


def echoed(made: socket.socket, text: bytes) -> bytes:
    made.sendall(text)
    return made.recv(100)


def pings(host: Host, count: int, patience: float = 1.0) -> list[float]:
    """How long each answer of the host's kernel took; the last is waited for so many seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(0.01)
        sent: dict[int, float] = {}
        took: dict[int, float] = {}
        until = float("inf")
        while time.monotonic() < until and len(took) < count:
            if len(sent) < count:
                sent[len(sent)] = time.monotonic()
                until = time.monotonic() + patience
                raw.sendto(_question(len(sent) - 1), (host.address, 0))
            try:
                answer, (sender, _) = raw.recvfrom(100)
            except TimeoutError:
                continue
            kind, number = answer[20], struct.unpack("!H", answer[26:28])[0]
            if kind == 0 and sender == host.address:
                took.setdefault(number, time.monotonic() - sent[number])
        return list(took.values())


def _question(number: int) -> bytes:
    checksum = 0xFFFF - (0x0800 + 1 + number) % 0xFFFF
    return struct.pack("!BBHHH", 8, 0, checksum, 1, number)


def test_a_host_sees_nothing_of_another_or_of_the_machine(hosts: Pair, tmp_path: Path):
    first, second = hosts
    for folder in ("/tmp", "/dev/shm", "/run/home", SCRATCH, DISK):  # noqa: S108 (what is tested)
        first.run(["touch", f"{folder}/mark-of-first"])
        assert "mark-of-first" not in second.run(["ls", folder])
        assert not Path(folder, "mark-of-first").exists()
    assert first.run(["hostname"]) == "first\n"
    assert first.run(["sh", "-c", "echo /proc/[0-9]*"]).count("/proc/") < 6
    assert list(tmp_path.parent.parent.iterdir())
    with pytest.raises(ClusterError, match="No such file"):
        first.run(["ls", str(tmp_path)])


def test_a_host_cannot_write_the_machines_files(hosts: Pair):
    for folder in (ROOT, ROOT / "tests", Path("/etc"), Path("/var/tmp")):  # noqa: S108 (what is tested)
        with pytest.raises(ClusterError, match="Read-only file system"):
            hosts[0].run(["touch", f"{folder}/mark-of-first"])


def test_an_abstract_socket_is_the_hosts_own(hosts: Pair):
    listen = "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('\\0mark'); s.listen(); time.sleep(60)"
    ask = "import socket; print(socket.socket(socket.AF_UNIX).connect_ex('\\0mark'))"
    hosts[0].start("listen", ["python", "-c", listen])
    wait_for(lambda: hosts[0].run(["python", "-c", ask]) == "0\n", 10)
    refused = 111
    assert int(hosts[1].run(["python", "-c", ask])) == refused
    assert int(subprocess.check_output([sys.executable, "-c", ask])) == refused


def test_nothing_of_the_environment_reaches_a_host(hosts: Pair, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-machine")
    seen = hosts[0].run(["env"], {"WANTED": "yes"})
    assert "WANTED=yes" in seen
    assert "a-secret-of-the-machine" not in seen


def test_hosts_have_the_machine_and_each_other_and_no_way_out(hosts: Pair):
    first, second = hosts
    ask = "import socket, sys; print(socket.create_connection((sys.argv[1], 7), timeout=2).getpeername()[0])"
    with connection(second) as made:
        assert echoed(made, b"hello") == b"hello"
        assert first.run(["python", "-c", ask, second.address]) == f"{second.address}\n"
    with pytest.raises(ClusterError, match="unreachable"):
        first.run(["python", "-c", ask, "192.0.2.1"])


def test_a_killed_host_says_nothing_and_leaves_no_process(hosts: Pair):
    host = hosts[0]
    started = host.start("sleep", ["sh", "-c", "setsid sleep 1000 & setsid sleep 1000"])
    wait_for(lambda: len(host.processes()) >= 3, 10)
    space = os.readlink(f"/proc/{started.pid}/ns/pid")
    with connection(host) as made:
        assert echoed(made, b"hello") == b"hello"
        host.kill()
        with pytest.raises(TimeoutError):
            made.recv(1)
    assert [pid for pid in psutil.pids() if _link(pid) == space] == []
    assert not started.alive()


def _link(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def test_a_revived_host_has_its_address_and_its_disk_and_nothing_else(hosts: Pair):
    host = hosts[0]
    host.run(["touch", f"{DISK}/kept", f"{SCRATCH}/lost"])
    host.kill()
    with pytest.raises(ClusterError, match="first is down"):
        host.run(["true"])
    host.revive()
    assert "kept" in host.run(["ls", DISK])
    assert host.run(["ls", SCRATCH]) == ""
    assert len(pings(host, 3)) == 3


def test_a_cut_is_silent_and_heals(hosts: Pair):
    host = hosts[0]
    with connection(host) as made:
        assert echoed(made, b"before") == b"before"
        host.cut()
        with pytest.raises(TimeoutError):
            connect(host)
        with pytest.raises(TimeoutError):
            echoed(made, b"while")
        assert pings(host, 3) == []
        host.heal()
        made.settimeout(10)
        assert made.recv(100) == b"while"  # the connection never knew


def test_a_cut_between_two_hosts_leaves_the_others(hosts: Pair):
    first, second = hosts
    ask = "import socket, sys; socket.create_connection((sys.argv[1], 7), timeout=1)"
    with connection(second) as made:
        first.cut(second)
        with pytest.raises(ClusterError, match="timed out"):
            first.run(["python", "-c", ask, second.address])
        assert echoed(made, b"hello") == b"hello"
        first.heal()
        first.run(["python", "-c", ask, second.address])


def test_a_slow_link_delays_each_way(hosts: Pair):
    assert max(pings(hosts[0], 5)) < 0.05
    hosts[0].slow(delay_ms=100)
    took = pings(hosts[0], 10)
    assert len(took) == 10
    assert 0.2 <= min(took) < 0.25
    hosts[0].heal()
    assert max(pings(hosts[0], 5)) < 0.05


def test_a_lossy_link_loses_its_share_each_way(hosts: Pair):
    hosts[0].slow(loss_percent=20)
    arrived = len(pings(hosts[0], 400))
    assert abs(arrived - 400 * 0.8**2) < 48  # five standard deviations


def test_data_arrives_whole_over_a_link_that_delays_loses_and_throttles(hosts: Pair):
    text = os.urandom(300_000)
    with connection(hosts[0]) as made:
        hosts[0].slow(delay_ms=5, loss_percent=2, kilobytes_per_second=400)
        began = time.monotonic()
        made.settimeout(30)
        made.sendall(text)
        came = b""
        while len(came) < len(text):
            came += made.recv(65536)
        assert came == text
        assert time.monotonic() - began > 0.7  # there and back overlap


def test_a_full_disk_is_full_there_and_nowhere_else(hosts: Pair):
    first, second = hosts
    write = ["sh", "-c", f"head -c 1000000 /dev/zero >{SCRATCH}/file"]
    first.fill(SCRATCH, leave_bytes=100_000)
    with pytest.raises(ClusterError, match="No space left on device"):
        first.run(write)
    second.run(write)
    first.drain(SCRATCH)
    first.run(write)


def test_a_frozen_process_stands_still(hosts: Pair):
    counting = hosts[0].start("count", ["sh", "-c", "for i in $(seq 100); do echo $i; sleep 0.01; done"])
    wait_for(lambda: counting.log.stat().st_size > 20, 10)
    counting.freeze()
    time.sleep(0.1)
    written = counting.log.stat().st_size
    time.sleep(0.2)
    assert counting.log.stat().st_size == written
    assert psutil.Process(counting.pid).status() == psutil.STATUS_STOPPED
    counting.thaw()
    assert counting.wait(20) == 0
    assert counting.log.read_text().endswith("100\n")


def test_a_host_with_frozen_processes_dies_as_any_other(hosts: Pair):
    host = hosts[0]
    started = [host.start(name, ["sleep", "1000"]) for name in ("one", "two")]
    host.freeze()
    wait_for(lambda: psutil.Process(started[0].pid).status() == psutil.STATUS_STOPPED, 10)
    host.thaw()
    started[1].freeze()
    time.sleep(0.2)
    began = time.monotonic()
    host.kill()
    assert time.monotonic() - began < 5
    assert not any(each.alive() for each in started)


def test_a_second_network_is_apart(hosts: Pair, tmp_path: Path):
    with Network(tmp_path) as other:
        stranger = other.host("stranger")
        assert stranger.address.rpartition(".")[0] != hosts[0].address.rpartition(".")[0]
        assert len(pings(stranger, 3)) == 3
        with pytest.raises(ClusterError, match="unreachable"):
            stranger.run(["python", "-c", f"import socket; socket.create_connection(('{hosts[0].address}', 7))"])


_OWNER = """
import os, sys, time
from pathlib import Path
from infra.drill.hosts import Network
with Network(Path(sys.argv[1])) as network:
    sleeping = network.host("only").start("sleep", ["sleep", "1000"])
    child = os.fork() if "fork" in sys.argv else 0
    if child or "fork" not in sys.argv:
        print(sleeping.pid, child, network.subnet, flush=True)
    time.sleep(1000)
"""


@contextmanager
def owner(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int, int, int]]:
    """Another process with a host, the process on that host, a child of the owner, and the number of its network."""
    command = [sys.executable, "-c", _OWNER, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        on_host, child, subnet = map(int, process.stdout.readline().split())
        try:
            yield process, on_host, child, subnet
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_hosts_end_with_their_owner_however_it_ends(hosts: Pair, tmp_path: Path, sign: signal.Signals):
    with owner(str(tmp_path)) as (process, on_host, _, subnet):
        wait_for(lambda: psutil.Process(on_host).name() == "sleep", 10)  # what starts it has another name
        process.send_signal(sign)
        process.wait()
        wait_for(lambda: not psutil.pid_exists(on_host), 10)
        wait_for(lambda: not Path(f"/sys/class/net/drill-{subnet}").exists(), 10)


def test_what_a_killed_owner_left_is_swept(hosts: Pair, tmp_path: Path):
    with owner(str(tmp_path), "fork") as (process, on_host, _, subnet):
        process.kill()
        process.wait()
        time.sleep(0.2)
        assert psutil.pid_exists(on_host)  # the owner's child kept the pipe
        with Network(tmp_path / "next"):
            wait_for(lambda: not psutil.pid_exists(on_host), 10)
        wait_for(lambda: not Path(f"/sys/class/net/drill-{subnet}").exists(), 10)
        assert len(pings(hosts[0], 3)) == 3  # those with a living owner stay
