"""The workload that docs/add-a-workload.md adds: its files dropped into a copy of this checkout, and nothing edited."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "example"
PAGE = ROOT / "docs" / "add-a-workload.md"
COPIED = ("flows", "tasks", "infra", "models", "tests", "docs")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This checkout with the example's files in it."""
    folder = tmp_path / "checkout"
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "prefect.yaml", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    with (folder / "prefect.yaml").open("a") as deployments:
        deployments.write(_block("yaml"))
    return folder


def _block(language: str) -> str:
    """The page's first block in this language."""
    return PAGE.read_text().partition(f"```{language}\n")[2].partition("```")[0]


def _python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_example_keeps_the_contract_and_the_layers(checkout: Path) -> None:
    told = _python(
        checkout, "-m", "pytest", "-q", "tests/test_contract.py", "tests/test_layers.py", "-k", "regression or keeps"
    )
    assert re.search(r"\b1[0-9] passed", told), told


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_the_example_runs_from_data_to_a_version(checkout: Path, tmp_path: Path) -> None:
    told = _python(checkout, "-m", "flows.cli", "run", "regression", "--preset", "tiny")
    assert "published  regression@v0.1.0" in told
    descent, closed_form = (float(re.search(rf"{name}\s+([\d.]+)", told)[1]) for name in ("descent", "closed form"))  # type: ignore[index]
    assert closed_form <= descent < 1.01 * closed_form
    _python(checkout, "-m", "flows.cli", "pull", "regression", "--out", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "weights.safetensors").exists()


def test_the_example_has_a_deployment_with_a_form(checkout: Path) -> None:
    told = _python(
        checkout,
        "-c",
        "import json; from pathlib import Path; from flows.deployment_file import read_deployments\n"
        "found = read_deployments(Path('prefect.yaml')).deployments['regression/laptop']\n"
        "print(json.dumps(found.form['properties']['steps']))",
    )
    asked = json.loads(told.splitlines()[-1])
    assert asked["title"] == "Descent: steps"
    assert asked["type"] == "integer"


def test_the_page_shows_the_files_as_they_are() -> None:
    shown = dict(re.findall(r"`docs/example/([\w/]+\.py)`[^\n]*\n+```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    files = {file.relative_to(EXAMPLE).as_posix() for file in EXAMPLE.rglob("*.py")} - {"models/regression/__init__.py"}
    assert shown.keys() == files
    assert [name for name, text in shown.items() if text != (EXAMPLE / name).read_text()] == []
