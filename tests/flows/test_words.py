"""The command line and the forms of the UI ask for the same things in the same words, within the same bounds."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from flows.cli import app
from flows.commands import completing
from flows.commands.runs import run
from models.common import workloads

ROOT = Path(__file__).resolve().parents[2]
SHARED = {"preset": "Preset", "cluster": "Cluster", "seed": "Seed", "run_key": "Run name"}
_FORMS = """
import importlib, json
from tasks.forms import form
print(json.dumps({name: form(getattr(importlib.import_module(f"flows.{name}"), name)) for name in NAMES}))
"""


@cache
def forms(home: str) -> dict[str, dict[str, Any]]:
    """Each workload's form, by parameter: what the UI shows."""
    code = _FORMS.replace("NAMES", repr(workloads.names()))
    environment = {"PATH": "", "HOME": home, "PREFECT_HOME": home}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: form["properties"] for name, form in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return forms(str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def options() -> dict[str, Any]:
    """The options of `orchard run`, by parameter."""
    command: Any = typer.main.get_group(app).commands["run"]
    return {option.name: option for option in command.params}


def first_clause(text: str) -> str:
    return re.split(r"[,.:;]", text)[0].strip()


@pytest.mark.parametrize("workload", workloads.names())
def test_a_form_and_the_command_line_use_the_same_words(
    workload: str, shown: dict[str, dict[str, Any]], options: dict[str, Any]
) -> None:
    form = shown[workload]
    assert {name: form[name]["title"] for name in SHARED} == SHARED
    for name, title in SHARED.items():
        assert "--" + title.lower().replace(" ", "-") in options[name].opts
    for name in ("preset", "cluster", "seed"):
        assert form[name]["description"].startswith(first_clause(options[name].help)), name
    for text in (options["run_key"].help, form["run_key"]["description"]):
        assert "That of a run that was stopped goes on with it." in text


@pytest.mark.parametrize("workload", workloads.names())
def test_a_form_and_the_command_line_take_the_same_values(
    workload: str, shown: dict[str, dict[str, Any]], options: dict[str, Any]
) -> None:
    form = shown[workload]
    assert form["preset"]["enum"] == workloads.preset_names(workload)
    assert form["cluster"]["enum"] == completing.clusters()
    assert all(name in options["cluster"].help for name in completing.clusters())
    for name in ("preset", "cluster", "seed"):
        assert form[name]["default"] == options[name].default
    [bounds], seed = get_type_hints(run, include_extras=True)["seed"].__metadata__, form["seed"]
    for each in seed.get("allOf", ()):
        seed = seed | each
    assert (seed["minimum"], seed["maximum"]) == (bounds.min, bounds.max)
