"""What a checkpoint's way to S3 costs: its speed beside boto3's own upload, and what it adds to a training step.

    python benchmarks/checkpoint_upload.py               # minutes, on a machine with nothing else to do
    python benchmarks/checkpoint_upload.py --megabytes 50 --rounds 3

One JSON line a figure. The S3 server is rclone on this machine, whose work is in the speeds of both; while steps are
measured it runs at the lowest priority, as it is another machine's. Both uploads are of the same file, in turns; ours
checks afterwards what the server has. The steps are those of a network on one thread, without an upload and with one
under way, in turns too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from infra.checkpoints import CheckpointStore
from infra.objects import Objects
from infra.remote_checkpoints import RemoteCheckpoints
from models.common.contract import LearnerState
from models.common.loop import Progress
from tests.fixtures import s3

STEPS = 40


def say(figure: str, **values: Any) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)  # noqa: T201 its output


@contextmanager
def a_server(place: Path, *, last: bool) -> Iterator[s3.S3Server]:
    """An S3 server, which comes last where others want the processor."""
    port = s3.free_port()
    server = s3.S3Server(f"http://127.0.0.1:{port}", "bucket", "benchmark-key", "benchmark-secret", place / "data")
    (server.data / server.bucket).mkdir(parents=True)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [*(["nice", "-n", "19"] if last else []), *s3._rclone(server, port, place)], stdout=log, stderr=log
        )
    try:
        s3._wait_until_it_listens(process, port, place / "log")
        os.environ |= {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield server
    finally:
        process.terminate()
        process.wait(20)


def uploads(server: s3.S3Server, file: Path, rounds: int) -> None:
    """Seconds of boto3's `upload_file`, as it comes, and of ours."""
    import boto3  # its own client, with its own defaults

    objects = Objects(f"s3://{server.bucket}/ours", server.endpoint)
    client = boto3.client("s3", endpoint_url=server.endpoint)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        client.upload_file(str(file), server.bucket, f"theirs/{number}")
        theirs.append(time.perf_counter() - began)
        began = time.perf_counter()
        objects.put_file(str(number), file)
        ours.append(time.perf_counter() - began)
    megabytes = file.stat().st_size / 1e6
    one, other = median(ours[1:]), median(theirs[1:])  # the first makes connections
    say(
        "upload",
        ours_mb_per_s=round(megabytes / one, 1),
        boto3_mb_per_s=round(megabytes / other, 1),
        ratio=round(other / one, 3),
        target=0.7,
    )


def steps(server: s3.S3Server, folder: Path, megabytes: int, rounds: int) -> None:
    """Seconds of a step while nothing is on its way, and while a checkpoint is."""
    torch.set_num_threads(1)
    network = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(8)))
    optimizer = torch.optim.Adam(network.parameters())
    batch = torch.randn(256, 512)
    remote = RemoteCheckpoints(
        Objects(f"s3://{server.bucket}/steps", server.endpoint), "stage", rank=0, size=1, keep=2, budget_seconds=60,
        tell=lambda text: None, warn=lambda text: None,
    )  # fmt: skip
    store = CheckpointStore(folder / "checkpoints", identity="this", keep=2, warn=lambda text: None, remote=remote)
    state = LearnerState({"weights": torch.randn(megabytes * 250_000)})

    def step() -> float:
        began = time.perf_counter()
        optimizer.zero_grad()
        network(batch).square().mean().backward()
        optimizer.step()
        return time.perf_counter() - began

    alone: list[float] = []
    beside: list[float] = []
    for number in range(rounds + 1):
        without = [step() for _ in range(STEPS)]
        store.save(Progress(number + 1), state)
        during = []
        while remote.busy:
            during.append(step())
        if number:
            alone += without
            beside += during
    one, other = median(alone), median(beside)
    say(
        "step",
        alone_ms=round(1e3 * one, 2),
        beside_an_upload_ms=round(1e3 * other, 2),
        steps_beside=len(beside),
        ratio=round(other / one, 3),
        target=1.1,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=200)
    options.add_argument("--rounds", type=int, default=7)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint"
        file.write_bytes(os.urandom(asked.megabytes * 1_000_000))
        with a_server(Path(folder) / "s3", last=False) as server:
            uploads(server, file, asked.rounds)
        with a_server(Path(folder) / "s3-aside", last=True) as server:
            steps(server, Path(folder), asked.megabytes, asked.rounds)


if __name__ == "__main__":
    main()
