"""What the project says of itself is so: locks, README, deployments, and no trace of the machine it was made on."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.cli import app
from infra import clusters
from infra.clusters import Cluster
from models.common import workloads
from models.common.contract import WorkloadConfig
from models.common.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LOCKS = {
    "requirements.lock": [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]],
    "requirements-llm.lock": PROJECT["project"]["optional-dependencies"]["llm"],
    "requirements-test.lock": PROJECT["dependency-groups"]["test"],
}
CUDA_LOCK = "requirements-cuda.lock"
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
PRESETS = [(workload, preset) for workload in workloads.names() for preset in workloads.preset_names(workload)]


def pins(lock: str) -> dict[str, str]:
    found = re.findall(r"^(\S+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def requirements(package: str) -> list[Requirement]:
    """What an installed package names; nothing of one that only another Python has."""
    try:
        return [Requirement(text) for text in metadata.requires(package) or []]
    except metadata.PackageNotFoundError:
        return []


def mentioned(pattern: str) -> set[str]:
    return {match for page in PAGES for match in re.findall(pattern, page.read_text())}


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_pins_every_direct_dependency_within_its_range(lock: str):
    locked = pins("requirements.lock") | pins(lock)
    wanted = [Requirement(text) for text in LOCKS[lock]]
    assert [str(one) for one in wanted if locked.get(canonicalize_name(one.name), "none") not in one.specifier] == []


@pytest.mark.parametrize("lock", [*LOCKS, CUDA_LOCK])
def test_the_lock_names_versions_and_hashes_and_nothing_of_where_they_lie(lock: str):
    marker = r"(?: ; python_full_version [<>=]+ '[0-9.]+')?"
    pinned = rf"[A-Za-z0-9._-]+==[0-9A-Za-z.!]+{marker}(?: \\\n    --hash=sha256:[0-9a-f]{{64}})+\n"
    comments, _, packages = (ROOT / lock).read_text().partition("\n\n")
    assert all(line.startswith("#") and "http" not in line for line in comments.splitlines())
    assert packages
    assert re.sub(pinned, "", packages) == ""


def test_the_locks_share_no_package():
    names = [name for lock in (*LOCKS, CUDA_LOCK) for name in pins(lock)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", ["3.11.0", "3.11.9", "3.12.0", "3.13.0"])
@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_all_that_its_packages_need_on_every_python(lock: str, python: str):
    """pip installs nothing that no lock names: what the installed packages say of themselves is the reference."""
    on = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    ahead = [(one, "pyproject.toml") for one in map(Requirement, LOCKS[lock])]
    needed: dict[tuple[str, str], str] = {}  # a package and one of its extras: who needs it
    while ahead:
        wanted, by = ahead.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for known, extra in needed if known == name}:
            needed[name, extra] = by
            named = [one for one in requirements(name) if not one.marker or one.marker.evaluate(on | {"extra": extra})]
            ahead += [(one, name) for one in named]
    locked = pins("requirements.lock").keys() | pins(lock).keys() | pins(CUDA_LOCK).keys()
    assert {name: by for (name, _), by in needed.items() if name not in locked} == {}


def test_the_libraries_of_cuda_are_all_of_one_cuda():
    named = pins(CUDA_LOCK)
    assert {name for name in named if not name.startswith(("cuda-", "nvidia-"))} == {"triton"}
    assert len({named["cuda-toolkit"].partition(".")[0]} | set(re.findall(r"-cu(\d+)$", "\n".join(named), re.M))) == 1


def test_every_make_target_that_is_written_about_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= mentioned(r"\bmake ([a-z]+)\b") <= targets


def test_every_preset_and_cluster_that_is_written_about_exists():
    assert mentioned(r"--preset (\w+)") <= {preset for _, preset in PRESETS}
    assert mentioned(r"--cluster ([\w-]+)") <= set(clusters.names())


def test_every_command_that_is_written_about_exists():
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    commands |= {group.name or "" for group in app.registered_groups}
    written = mentioned(r"(?:`|^|\W)orchard ([a-z]+)(?![\w-])")
    assert {"run", "pull", "doctor"} <= written & commands
    assert written - commands <= {"command"}


def test_every_environment_variable_that_is_read_is_in_the_readme():
    read = set(re.findall(r"  # ((?:ORCHARD|RAY|PREFECT)_[A-Z0-9_]+):", (ROOT / "infra/settings.py").read_text()))
    assert read
    assert read <= set(re.findall(r"`([A-Z0-9_]+)`", (ROOT / "README.md").read_text()))


def test_every_workload_has_a_row_and_a_deployment_of_each_size():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in workloads.names() if f"models/{name}/README.md" not in readme] == []
    deployed = {(each["entrypoint"].split(".")[1], each["name"]) for each in DEPLOYMENTS}
    sizes = ("tiny", "laptop", "gpu", "paper")
    assert {(name, size) for name in workloads.names() for size in sizes} <= deployed


def test_no_file_tells_of_the_machine_it_was_made_on():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    trace = re.compile(r"(?<![\w.])/(root|home|work)/\w|file:/{3}|(index-url|find-links|trusted-host)\b")
    files = [ROOT / name for name in listed.stdout.splitlines() if ROOT / name != Path(__file__).resolve()]
    texts = ((file.name, file.read_text(errors="replace")) for file in files if file.is_file())
    assert [f"{name}: {found[0]}" for name, text in texts if (found := trace.search(text))] == []


@pytest.mark.parametrize("cluster", clusters.names())
@pytest.mark.parametrize(("workload", "preset"), PRESETS)
def test_a_preset_fits_a_cluster_or_is_told_what_would(workload: str, preset: str, cluster: str):
    at_home = {"tiny": "laptop", "laptop": "laptop", "gpu": "one-gpu", "paper": "cluster"}
    told = refusals(workloads.preset(workload, preset), clusters.named(cluster))
    assert not told or at_home.get(preset) != cluster
    assert [text for stage, text in told.items() if "fits:" not in text or f"--set {stage}." not in text] == []


def refusals(config: WorkloadConfig, cluster: Cluster) -> dict[str, str]:
    """What the cluster says of the stages that it does not take."""
    told = {}
    for name, stage in config.trained_stages().items():
        try:
            cluster.check(stage, name)
        except ConfigError as error:
            told[name] = str(error)
    return told
