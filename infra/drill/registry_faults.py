"""The faults of who publishes: many at once, of whom one is killed while all the others wait for it."""

import sys
import time
from pathlib import Path

from infra.drill.card import Drill, Row
from infra.drill.hosts import DISK, Host
from infra.drill.outcomes import require
from infra.drill.process import Process
from infra.drill.scene import Scene, wait

_PUBLISHERS = 8
_PATIENCE_SECONDS = 180.0
_LOCKS = Path("/proc/locks")
_MODULE = [sys.executable, "-m", "infra.drill.publishing"]


def publisher_killed(scene: Scene) -> Row:
    """The killed one begins again, as its flow would have it."""
    scene.number += 1
    host = scene.random.choice(scene.cluster.workers).host
    home = f"{DISK}/registry-{scene.number}"
    keys = [f"run-{number}" for number in range(_PUBLISHERS)]
    running = {key: _publisher(host, home, key) for key in keys}
    victims: list[str] = []
    wait(lambda: victims.extend(_holders(running)) or victims, "a publisher with the lock", 60)
    running[victims[0]].kill()
    began = time.time()
    require(running[victims[0]].wait(5) != 0, f"{victims[0]} had ended before")
    running[victims[0]] = _publisher(host, home, victims[0])
    for key, process in running.items():
        require(process.wait(_PATIENCE_SECONDS) == 0, f"{key} has not published: {process.end_of_log()}")
    told = host.run([*_MODULE, "versions"], {"ORCHARD_HOME": home}, timeout=_PATIENCE_SECONDS).split()
    require(sorted(told) == keys, f"there are versions of {told}")
    return REGISTRY_DRILLS["publishers"].seen(resume_seconds=time.time() - began)


def _publisher(host: Host, home: str, key: str) -> Process:
    return host.start(f"publisher-{key}", [*_MODULE, "publish", key], {"ORCHARD_HOME": home})


def _holders(running: dict[str, Process]) -> list[str]:
    """Who holds a lock of a file, as the kernel tells; those who wait for one have an arrow in front."""
    lines = (line.split() for line in _LOCKS.read_text().splitlines())
    holding = {int(line[4]) for line in lines if line[1] == "FLOCK"}
    return [key for key, process in running.items() if process.pid in holding]


REGISTRY_DRILLS = {
    "publishers": Drill(
        f"{_PUBLISHERS} publishers at once; SIGKILL the one with the lock",
        "all succeed; no version lost, no lock to remove by hand",
        publisher_killed,
        core=False,
    )
}
