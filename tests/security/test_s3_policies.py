"""The policies of docs/s3-policies are enough for what Orchard does, and hold no right that it makes no use of.

The server behind the gate is a real one; boto3 and DVC ask it.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infra import artifacts, carrying, worker
from infra.artifacts_remote import remote_at
from infra.checkpoints import CheckpointStore
from infra.objects import PART_BYTES, Objects
from infra.remote_checkpoints import RemoteCheckpoints
from infra.runs import StageFolder, StageRequest
from models.common.contract import LearnerState
from models.common.errors import RegistryError, StorageError
from models.common.loop import Progress
from tests.fixtures.registry import an_artifact, contents, published
from tests.fixtures.s3 import S3Server
from tests.fixtures.stages import ALONE, rehearsal, request_for, tiny_stage
from tests.security.gate import Gate, Need, read_policy

_PREFIX = "lab/one"


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(s3.endpoint)
    monkeypatch.setenv("ORCHARD_S3_ENDPOINT", gate.endpoint)
    yield gate
    gate.close()
    assert gate.unknown == []


def _remote_prefix(s3: S3Server) -> str:
    return os.environ["ORCHARD_REMOTE"].removeprefix(f"s3://{s3.bucket}/")


def test_who_publishes_and_who_pulls_need_all_of_their_policies_and_no_more(
    s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    gate.policy = writer = read_policy("registry-writer", s3.bucket, _remote_prefix(s3))
    folder = an_artifact(tmp_path / "run")
    published(folder)

    gate.policy = reader = read_policy("registry-reader", s3.bucket, _remote_prefix(s3))
    assert contents(artifacts.pull("relay", tmp_path / "pulled").folder) == contents(folder)
    remote = remote_at(os.environ["ORCHARD_REMOTE"], gate.endpoint)
    with pytest.raises(RegistryError, match="no object"):
        list(remote.chunks("files/md5/00/0"))
    assert (reader.refused, reader.rights - reader.used) == (set(), set())
    with pytest.raises(RegistryError, match="AccessDenied"):
        remote.check()
    with pytest.raises(RegistryError, match="AccessDenied"):
        remote.remove("files/md5/00/0")

    gate.policy = writer
    remote.remove("files/md5/00/0")  # as it does with a damaged object, before it is pushed again
    # What DVC does with the parts of a file of 100 MB or more whose upload failed: too large for here.
    abort = Need("s3:AbortMultipartUpload", f"arn:aws:s3:::{s3.bucket}/{_remote_prefix(s3)}/files/*")
    assert (writer.refused, writer.rights - writer.used) == (set(), {abort})


def test_a_stage_through_the_store_needs_all_of_both_policies_and_no_more(
    s3: S3Server, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gate for the machine of the flow, one for a node: each with rights, and a home, of its own."""
    flow = gate.policy = read_policy("storage-flow", s3.bucket, _PREFIX)
    at_node = Gate(s3.endpoint)
    node = at_node.policy = read_policy("storage-node", s3.bucket, _PREFIX)
    config = tiny_stage("relay", "teacher").but(max_steps=3)
    inputs = rehearsal(config, tmp_path / "inputs")
    request = request_for(config, inputs, tmp_path / "policy" / "teacher", ALONE, storage=f"s3://{s3.bucket}/{_PREFIX}")
    request.folder.mkdir(parents=True)
    carrier = carrying.carrier_of(request)
    where = carrier.hand_over(request)
    with monkeypatch.context() as patch:
        patch.setenv("ORCHARD_HOME", str(tmp_path / "home of a node"))
        patch.setenv("ORCHARD_S3_ENDPOINT", at_node.endpoint)
        worker.train_rank(carrying.read_request(where).model_dump(mode="json"))
        _keep_and_resume(request, at_node, tmp_path)
    carrier.finish()
    assert StageFolder(request.folder).finished()
    _upload_in_parts(gate, f"s3://{s3.bucket}/{_PREFIX}", "inputs/0/large.bin", tmp_path)
    at_node.close()
    assert [flow.refused, node.refused, at_node.unknown] == [set(), set(), []]
    assert [flow.rights - flow.used, node.rights - node.used] == [set(), set()]


def _keep_and_resume(request: StageRequest, at_node: Gate, tmp_path: Path) -> None:
    """More checkpoints than are kept, then another attempt on a host that has none of them; and a large file."""
    assert request.storage
    for folder in (tmp_path / "host 1", tmp_path / "host 2"):
        remote = RemoteCheckpoints(
            Objects(request.storage, at_node.endpoint),
            f"runs/{request.run_key}/other",
            rank=0,
            size=1,
            keep=1,
            budget_seconds=5,
            warn=print,
            tell=print,
        )
        store = CheckpointStore(folder, identity="this", keep=1, warn=print, remote=remote)
        found = store.newest()
        assert (found[0].step if found else 0) == (0 if folder.name == "host 1" else 2)
        for step in (1, 2) if not found else ():
            store.save(Progress(step), LearnerState(shared={"weights": torch.ones(3)}, own={"seed": step}))
            _wait(remote)
    _upload_in_parts(at_node, request.storage, f"runs/{request.run_key}/other/checkpoints/0-0/shared.pt", tmp_path)


def _wait(remote: RemoteCheckpoints) -> None:
    deadline = time.monotonic() + 20
    while remote.busy:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert remote.error is None


def _upload_in_parts(gate: Gate, storage: str, key: str, tmp_path: Path) -> None:
    """A large file, once with a server that refuses parts of it: what arrived of them is to be dropped."""
    large = tmp_path / "large.bin"
    large.write_bytes(random.Random(0).randbytes(PART_BYTES + 1))
    objects = Objects(storage, gate.endpoint)
    gate.fails = "uploadId="
    with pytest.raises(StorageError):
        objects.put_file(key, large)
    gate.fails = "\0"
    objects.put_file(key, large)
