"""Nothing is unpickled before its hash is verified, and what is published is no pickle at all."""

import ast
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.checkpoints import CheckpointStore
from infra.objects import Objects
from infra.remote_checkpoints import RemoteCheckpoints
from models.common.contract import LearnerState
from models.common.loop import Progress
from tests.fixtures.s3 import S3Server
from tests.test_layers import Source, sources

# Where something is unpickled that can be code: of checkpoints that were verified, and among ranks of one group.
UNPICKLED = {"infra/checkpoints.py": {"_load", "_gathered"}}
_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
_AMONG_RANKS = {
    "all_gather_object",
    "broadcast_object_list",
    "gather_object",
    "scatter_object_list",
    "recv_object_list",
}


class Trap:
    """Unpickling it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "was-unpickled"


def test_the_trap_is_one(mark: Path) -> None:
    pickle.loads(pickle.dumps(Trap(mark)))  # noqa: S301 our own
    assert mark.exists()


def _trapped(mark: Path) -> bytes:
    file = mark.with_name("trap.pt")
    torch.save(Trap(mark), file)
    return file.read_bytes()


def _store(folder: Path, told: list[str], remote: RemoteCheckpoints | None = None) -> CheckpointStore:
    return CheckpointStore(folder, identity="this", keep=2, warn=told.append, remote=remote)


def _state(step: int) -> LearnerState:
    return LearnerState(shared={"weights": torch.ones(3)}, own={"seed": step})


@pytest.mark.parametrize("name", ["own-0.pt", "shared.pt"])
def test_a_trap_in_a_local_checkpoint_is_passed_over(name: str, tmp_path: Path, mark: Path) -> None:
    for step in (1, 2):
        _store(tmp_path / "checkpoints", []).save(Progress(step), _state(step))
    (tmp_path / "checkpoints" / "step-0000000002" / name).write_bytes(_trapped(mark))
    told: list[str] = []
    found = _store(tmp_path / "checkpoints", told).newest()
    assert not mark.exists()
    assert found is not None
    assert found[0].step == 1
    assert len(told) == 1


@pytest.mark.parametrize("name", ["own-0.pt", "shared.pt"])
def test_a_trap_in_a_checkpoint_in_the_store_is_passed_over(
    name: str, s3: S3Server, tmp_path: Path, mark: Path
) -> None:
    prefix = f"runs/{tmp_path.name}/train"
    told: list[str] = []

    def remote() -> RemoteCheckpoints:
        objects = Objects(f"s3://{s3.bucket}/traps", s3.endpoint)
        told_by = {"warn": told.append, "tell": told.append}
        return RemoteCheckpoints(objects, prefix, rank=0, size=1, keep=2, budget_seconds=5, **told_by)

    first = remote()
    store = _store(tmp_path / "host 1", told, first)
    for step in (1, 2):
        store.save(Progress(step), _state(step))
        while first.busy:
            time.sleep(0.02)
    objects = first.objects
    (kept,) = (each.key for each in objects.found(prefix) if f"{2:010d}" in each.key and each.key.endswith(name))
    objects.put(kept, _trapped(mark))
    found = _store(tmp_path / "host 2", told, remote()).newest()
    assert not mark.exists()
    assert found is not None
    assert found[0].step == 1
    assert any("passed over" in text for text in told)


def test_what_all_ranks_share_is_data_even_where_the_hashes_fit(tmp_path: Path, mark: Path) -> None:
    """Weights and curves, which a version is made of: only a rank's own part, DeepSpeed's, may hold classes."""
    store = _store(tmp_path / "checkpoints", [])
    store.save(Progress(1), LearnerState(shared={"weights": Trap(mark)}))
    with pytest.raises(pickle.UnpicklingError):
        _store(tmp_path / "checkpoints", []).newest()
    assert not mark.exists()


def _calls(source: Source, *words: str) -> Iterator[tuple[str, ast.Call, dict[str, Any]]]:
    """Function that a call stands in, the call, and its named arguments that are constants; of files with a word."""
    if not any(word in source.text for word in words):
        return
    for function in (node for node in source.nodes() if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                told = {each.arg: each.value.value for each in node.keywords if isinstance(each.value, ast.Constant)}
                yield function.name, node, {str(name): value for name, value in told.items()}


def code_is_unpickled_where_it_was_verified(source: Source) -> list[str]:
    imported = source.imported_packages() if any(name in source.text for name in _MODULES) else set()
    faults = [f"imports {name}" for name in imported & _MODULES]
    allowed = UNPICKLED.get(source.path, set())
    for function, call, told in _calls(source, "torch.load", "np.load", "numpy", *_AMONG_RANKS):
        match ast.unparse(call.func).rpartition("."):
            case ("torch", _, "load") if "weights_only" not in told:
                faults.append(f"{function}: torch.load does not say whether it takes classes")
            case ("torch", _, "load") if not told["weights_only"] and function not in allowed:
                faults.append(f"{function}: torch.load takes classes")
            case ("np" | "numpy", _, "load") if told.get("allow_pickle", False):
                faults.append(f"{function}: numpy.load may unpickle")
            case (_, _, name) if name in _AMONG_RANKS and function not in allowed:
                faults.append(f"{function}: {name} unpickles")
    return faults


def only_checkpoints_are_pickled(source: Source) -> list[str]:
    """So that what is published cannot be: versions and results hold safetensors."""
    if source.path == "infra/checkpoints.py":
        return []
    saves = [ast.unparse(call.func) for _, call, _ in _calls(source, ".save", ".dump")]
    return [f"calls {name}" for name in saves if name in {"torch.save", "pickle.dump", "joblib.dump"}]


def models_of_others_bring_no_code(source: Source) -> list[str]:
    faults = []
    for function, call, told in _calls(source, ".from_pretrained"):
        if ast.unparse(call.func).endswith(".from_pretrained"):
            text = ast.unparse(call)
            if told.get("trust_remote_code") is not False:
                faults.append(f"{function}: {text} may run code of the model's")
            if "AutoModel" in text and told.get("use_safetensors") is not True:
                faults.append(f"{function}: {text} may read pickles")
    return faults


BROKEN: dict[Callable[[Source], list[str]], tuple[Source, ...]] = {
    code_is_unpickled_where_it_was_verified: (
        Source("infra/worker.py", "import pickle"),
        Source("infra/worker.py", "def f():\n    torch.load(file)"),
        Source("infra/worker.py", "def f():\n    torch.load(file, weights_only=False)"),
        Source("infra/checkpoints.py", "def newest():\n    torch.load(file, weights_only=False)"),
        Source("models/relay/chains.py", "def f():\n    np.load(file, allow_pickle=True)"),
        Source("infra/engine.py", "def f():\n    dist.broadcast_object_list(values)"),
    ),
    only_checkpoints_are_pickled: (Source("infra/versions.py", "def f():\n    torch.save(weights, file)"),),
    models_of_others_bring_no_code: (
        Source("models/rto/tokenizer.py", "def f():\n    AutoTokenizer.from_pretrained(name)"),
        Source("models/rto/policies.py", "def f():\n    AutoModel.from_pretrained(name, trust_remote_code=False)"),
    ),
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_every_file_keeps(rule: Callable[[Source], list[str]]) -> None:
    assert [f"{source.path} {fault}" for source in sources() for fault in rule(source)] == []


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_a_file_that_breaks_it_is_caught_by(rule: Callable[[Source], list[str]]) -> None:
    assert [source.text for source in BROKEN[rule] if not rule(source)] == []


def test_what_may_unpickle_code_is_still_there() -> None:
    """A place that is gone is to leave the list."""
    names = {function for source in sources() if source.path in UNPICKLED for function, _, _ in _calls(source, "torch")}
    assert UNPICKLED["infra/checkpoints.py"] <= names
