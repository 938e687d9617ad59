"""What a host does with the registry: `python -m infra.drill.publishing publish KEY`, or `... versions`."""

import hashlib
import sys
import tempfile
from pathlib import Path

from infra import artifacts, manifests

NAME = "relay"
_BYTES = 300_000


def publish(key: str) -> None:
    """Publishes a small artifact of this run; another run's has other bytes."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "artifact"
        with manifests.committed(artifact, {"workload": NAME}) as draft:
            (draft / "weights.safetensors").write_bytes(hashlib.shake_256(key.encode()).digest(_BYTES))
        artifacts.publish(artifact, NAME, run_key=key, summary={"preset": "tiny", "seed": 0, "summary": key})


def versions() -> list[str]:
    """The run of each version, newest first, whose every byte was pulled and verified."""
    published = artifacts.versions(NAME)
    for version in published:
        artifacts.pull(f"{NAME}@{version.version}")
    return [str(version.run_key) for version in published]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["publish", key]:
            publish(key)
        case ["versions"]:
            sys.stdout.write("".join(f"{key}\n" for key in versions()))
        case asked:
            sys.exit(f"found: {asked}; fits: publish KEY, versions")
