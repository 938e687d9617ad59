"""The layers hold: imports run flows -> tasks -> infra -> models, and each heavy dependency has one door.

Every rule reads the syntax tree of one file and says what breaks it; a made-up file shows that each rule can say no.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.common import workloads

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("flows", "tasks", "infra", "models")
DOORS = {
    "prefect": ("flows/*.py", "tasks/*.py"),
    "ray": ("infra/ray_client.py", "infra/job.py", "infra/worker_group.py"),
    "deepspeed": ("infra/engine.py",),
    "transformers": ("models/rto/huggingface.py", "models/rto/tokenizer.py"),
    "peft": ("models/rto/huggingface.py",),
    **dict.fromkeys(("pydicom", "openpyxl"), ("models/busgen/readers/*.py",)),
    **dict.fromkeys(("dvc", "gto"), ("infra/artifacts*.py",)),
    **dict.fromkeys(("boto3", "botocore"), ("infra/s3.py",)),
}
OUTSIDE = {"datetime", "http", "os", "requests", "socket", "subprocess", "time", "urllib"}
MOST_LINES = 400


@dataclass(frozen=True)
class Source:
    """One Python file, by its path in the repository."""

    path: str
    text: str

    @property
    def layer(self) -> str:
        return self.path.split("/")[0]

    def is_one_of(self, patterns: tuple[str, ...]) -> bool:
        return any(Path(self.path).match(pattern) for pattern in patterns)

    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(ast.parse(self.text))

    def imports(self) -> Iterator[str]:
        """Dotted names: `a.b` for `import a.b`, and `a.b` also for `from a import b`."""
        for node in self.nodes():
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = [] if not node.level else Path(self.path).parts[: -node.level]
                module = [*start, node.module] if node.module else start
                yield from (".".join([*module, alias.name]) for alias in node.names)

    def imported_packages(self) -> set[str]:
        return {name.split(".")[0] for name in self.imports()}


def imports_run_one_way(source: Source) -> list[str]:
    to_the_left = LAYERS[: LAYERS.index(source.layer)]
    return [f"imports {package}" for package in source.imported_packages() if package in to_the_left]


def each_dependency_has_its_door(source: Source) -> list[str]:
    packages = source.imported_packages()
    return [f"imports {name}" for name, files in DOORS.items() if name in packages and not source.is_one_of(files)]


def flows_and_tasks_hold_no_tensors(source: Source) -> list[str]:
    return ["imports torch"] if source.layer in {"flows", "tasks"} and "torch" in source.imported_packages() else []


def only_settings_read_the_environment(source: Source) -> list[str]:
    if source.path == "infra/settings.py":
        return []
    names = {"environ", "environb", "getenv", "putenv"}
    reads = [
        node.attr
        for node in source.nodes()
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    ]
    reads += [name.removeprefix("os.") for name in source.imports() if name.startswith("os.")]
    return [f"uses os.{name}" for name in reads if name in names]


def models_touch_nothing_outside(source: Source) -> list[str]:
    if source.layer != "models":
        return []
    return [f"imports {package}" for package in source.imported_packages() & OUTSIDE]


def infra_knows_no_workload(source: Source) -> list[str]:
    if source.layer != "infra":
        return []
    of_models = (name for name in source.imports() if name.startswith("models."))
    return [f"imports {name}" for name in of_models if name.split(".")[1] != "common"]


def nothing_is_called_utils(source: Source) -> list[str]:
    return ["is called utils"] if Path(source.path).stem in {"util", "utils", "helpers", "misc"} else []


def files_stay_short(source: Source) -> list[str]:
    lines = len(source.text.splitlines())
    return [f"has {lines} lines"] if lines >= MOST_LINES else []


BROKEN: dict[Callable[[Source], list[str]], tuple[Source, ...]] = {
    imports_run_one_way: (
        Source("models/common/loop.py", "from infra.settings import ROOT"),
        Source("infra/launch.py", "def f():\n    import tasks.data"),
        Source("tasks/data.py", "from flows import relay"),
    ),
    each_dependency_has_its_door: (
        Source("infra/launch.py", "import prefect"),
        Source("infra/ray_head.py", "from ray.job_submission import JobSubmissionClient"),
        Source("infra/worker.py", "import deepspeed.ops"),
        Source("infra/datasets.py", "def f():\n    from dvc.repo import Repo"),
        Source("models/relay/batches.py", "import boto3"),
    ),
    flows_and_tasks_hold_no_tensors: (Source("flows/relay.py", "import torch.nn as nn"),),
    only_settings_read_the_environment: (
        Source("infra/worker.py", "import os\nrank = os.environ['RANK']"),
        Source("flows/cli.py", "from os import getenv"),
    ),
    models_touch_nothing_outside: (
        Source("models/relay/batches.py", "import time"),
        Source("models/common/loop.py", "from urllib.request import urlopen"),
    ),
    infra_knows_no_workload: (
        Source("infra/worker.py", "from models.relay.config import RelayConfig"),
        Source("infra/worker.py", "from models import relay"),
    ),
    nothing_is_called_utils: (Source("infra/utils.py", ""),),
    files_stay_short: (Source("flows/relay.py", "\n" * MOST_LINES),),
}


def sources() -> list[Source]:
    files = (file for layer in LAYERS for file in sorted((ROOT / layer).rglob("*.py")))
    return [Source(file.relative_to(ROOT).as_posix(), file.read_text()) for file in files]


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_every_file_keeps(rule: Callable[[Source], list[str]]):
    assert [f"{source.path} {fault}" for source in sources() for fault in rule(source)] == []


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_a_file_that_breaks_it_is_caught_by(rule: Callable[[Source], list[str]]):
    assert [source.path for source in BROKEN[rule] if not rule(source)] == []


def loaded_by(code: str, names: set[str], folder: Path) -> set[str]:
    """Which of the named packages a fresh Python has loaded after running `code`."""
    ending = f"\nimport sys\nprint(*({names!r} & set(sys.modules)))"
    environment = {"PATH": "", "HOME": str(folder), "ORCHARD_HOME": str(folder), "PREFECT_HOME": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", code + ending], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("flow", sorted(file.stem for file in (ROOT / "flows").glob("[!_]*.py")))
def test_importing_a_flow_loads_no_training_stack(flow: str, tmp_path: Path):
    assert loaded_by(f"import flows.{flow}", {"torch", "ray", "deepspeed", "dvc", "boto3"}, tmp_path) == set()


def test_importing_the_command_line_loads_nothing_heavy(tmp_path: Path):
    heavy = {"prefect", "torch", "ray", "deepspeed", "dvc", "boto3", "matplotlib", "numpy"}
    assert loaded_by("import flows.cli", heavy, tmp_path) == set()


@pytest.mark.parametrize("workload", workloads.names())
def test_reading_the_presets_loads_no_torch(workload: str, tmp_path: Path):
    code = (
        "from models.common import workloads\n"
        f"for name in workloads.preset_names({workload!r}): workloads.preset({workload!r}, name)"
    )
    assert loaded_by(code, {"torch", "ray", "deepspeed", "prefect"}, tmp_path) == set()


def test_every_workload_has_a_flow_of_its_name():
    assert [name for name in workloads.names() if not (ROOT / "flows" / f"{name}.py").exists()] == []
