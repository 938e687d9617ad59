"""What the manifests run, set and ask for is what the code has: commands, variables, ports, paths, versions."""

import ast
import importlib
import itertools
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
import yaml

from flows.cli import app
from infra.local import programs
from infra.local.lost_runs import POOL
from infra.local.prefect_api import PrefectApi
from infra.settings import ROOT, ray_environment, server_environment, worker_environment
from tests.manifests.kustomize import BUILDS, KUBERNETES, Object, build, containers

COMPOSE = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
QUEUES = yaml.safe_load((ROOT / "prefect.yaml").read_text())["queues"]
_SETTINGS = ast.parse((ROOT / "infra" / "settings.py").read_text())
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray Serve's

_OPERATORS = {"&&", "||", ";", "|"}
_WORDS_BEFORE = ("exec", "env", "timeout", "while", "do", "umask")


def _built() -> dict[str, list[Object]]:
    return {name: build(KUBERNETES / name) for name in BUILDS}


BUILT = _built()


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Every command that a manifest runs, and whose it is; of a shell's line its parts."""
    for name, service in COMPOSE["services"].items():
        hooks = [hook["command"] for hook in service.get("pre_stop", ())]
        for command in (service.get("command", []), service["healthcheck"]["test"] if "healthcheck" in service else []):
            yield from _parts(f"compose {name}", [word for word in command if word != "CMD"])
        for command in hooks:
            yield from _parts(f"compose {name} pre_stop", command)
    for name, objects in BUILT.items():
        for each in objects:
            if "entrypoint" in each.get("spec", {}):
                yield from _parts(f"{name} entrypoint", shlex.split(each["spec"]["entrypoint"]))
            for container in containers(each):
                where = f"{name} {container['name']}"
                yield from _parts(where, [*container.get("command", ()), *container.get("args", ())])
                for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                    yield from _parts(where, container.get(kind, {}).get("exec", {}).get("command", []))
                stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
                yield from _parts(f"{where} preStop", stop)


def _parts(where: str, words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The command, or those of a shell's line, without redirections and what only stands before another command."""
    while words and (words[0] in _WORDS_BEFORE or "=" in words[0] or words[0].isdigit()):
        words = words[1:]
    if words[:2] == ["sh", "-c"]:
        line = shlex.shlex(words[2].replace("$$", "$"), posix=True, punctuation_chars=True)
        line.whitespace_split = True
        for operator, part in itertools.groupby(line, key=_OPERATORS.__contains__):
            if not operator:
                yield from _parts(where, list(itertools.takewhile(lambda word: word != ">", part)))
    elif words:
        yield where, words


COMMANDS = sorted({(where, shlex.join(words)) for where, words in _commands()})


@pytest.mark.parametrize(("where", "command"), COMMANDS)
def test_a_command_is_one_of_the_program_that_it_calls(where: str, command: str):
    program, *words = shlex.split(_filled(command))
    match program:
        case "orchard":
            _check_orchard(words)
        case "ray":
            _ray_command(words[0]).make_context(words[0], words[1:])  # raises UsageError for what does not fit
        case "python" if words[:2] == ["-m", "prefect"]:
            _check_prefect(words[2:])
        case "python":
            assert words[0] == "-c"
            compile(words[1], where, "exec")
        case "rclone":
            _check_rclone(words)
        case _:
            # Of the images' own systems: Debian's, with procps, and PostgreSQL's.
            assert program in {"mkdir", "printf", "mv", "sleep", "done", "pgrep", "pg_isready"}


def _filled(command: str) -> str:
    """The command with what Compose and Kubernetes put in place of variables."""
    return re.sub(r"\$\{\w+:-(\w+)\}", r"\1", command)


def _ray_command(name: str) -> Any:
    import ray.scripts.scripts as scripts  # which imports much of Ray

    return scripts.cli.commands[name]


def _check_orchard(words: list[str]) -> None:
    place: Any = typer.main.get_command(app)
    while hasattr(place, "commands"):
        place = place.commands[words.pop(0)]
    place.make_context(place.name, words)


def _check_prefect(words: list[str]) -> None:
    from prefect.cli import _app, server, worker  # noqa: F401  # which add their commands to the program

    program: Any = _app._app
    _, bound, _ = program.parse_args(words, exit_on_error=False, print_error=False)[:3]
    if words[0] == "worker":
        assert bound.arguments["work_pool_name"] == POOL
        assert {"default", "laptop"} <= set(bound.arguments["work_queues"]) <= set(QUEUES)
        ours = programs.prefect_worker(PrefectApi("http://127.0.0.1:1/api", ""), {}).command
        usual = program.parse_args(list(ours[3:]), exit_on_error=False, print_error=False)[1].arguments
        assert bound.arguments["worker_type"] == usual["worker_type"]
        assert bound.arguments["install_policy"] == usual["install_policy"]


def _check_rclone(words: list[str]) -> None:
    ours = programs.S3(9100).program().command
    flags = {word for word in words if word.startswith("--")}
    assert flags == {word for word in ours if word.startswith("--")}
    known = subprocess.run([ours[0], "serve", "s3", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(re.search(rf"{flag}\b", known) or flag in {"--config", "--cache-dir"} for flag in flags)


def _variables() -> dict[str, dict[str, str]]:
    """What each container is given, by manifest and name; an empty text where it comes from a secret."""
    found: dict[str, dict[str, str]] = {}
    for name, service in COMPOSE["services"].items():
        found[f"compose {name}"] = service.get("environment", {})
    for name, objects in BUILT.items():
        maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        maps = maps or {
            each["metadata"]["name"]: each["data"] for each in BUILT["overlays/cluster"] if each["kind"] == "ConfigMap"
        }
        for container in (container for each in objects for container in containers(each)):
            own = {each["name"]: each.get("value", "") for each in container.get("env", ())}
            given = [maps[source["configMapRef"]["name"]] for source in container.get("envFrom", ())]
            found[f"{name} {container['name']}"] = {key: value for part in given for key, value in part.items()} | own
    return found


VARIABLES = _variables()


def _read_by_settings() -> set[str]:
    """The names that infra/settings.py asks the environment for."""
    names = []
    for node in ast.walk(_SETTINGS):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get":
            names.append(node.args[0])
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            names.append(node.slice)
    return {name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)}


def _given_by_settings() -> set[str]:
    """The names that infra/settings.py gives to what it starts: Ray, rclone, git."""
    keys = [key for node in ast.walk(_SETTINGS) if isinstance(node, ast.Dict) for key in node.keys]
    found = {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return {name for name in found if not name.startswith("ORCHARD_")}


def _read_by_prefect() -> set[str]:
    from prefect.settings import Settings
    from pydantic import BaseModel

    def names(model: Any) -> Iterator[str]:
        for field, about in model.model_fields.items():
            if isinstance(about.annotation, type) and issubclass(about.annotation, BaseModel):
                yield from names(about.annotation)
            choices = getattr(about.validation_alias, "choices", [about.validation_alias])
            yield from (str(choice).upper() for choice in choices if choice is not None)
            yield f"{model.model_config.get('env_prefix', '')}{field}".upper()

    return set(names(Settings))


_OTHERS = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION",  # every AWS client's
    "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "PGDATA",  # of PostgreSQL's image
    "RAY_AUTH_TOKEN",  # Ray's own, which a file is made of
    "POD_NAME",  # a part of the worker's name, in its arguments
}  # fmt: skip
KNOWN = _read_by_settings() | _given_by_settings() | _read_by_prefect() | _OTHERS
SET = sorted({name for given in VARIABLES.values() for name in given})


@pytest.mark.parametrize("name", SET)
def test_a_variable_that_is_set_is_one_that_is_read(name: str):
    assert name in KNOWN


_OF_THE_PLACE = {  # and not of `orchard up`: their values differ, or the image has them
    "PREFECT_HOME", "PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING",
    "RAY_AUTH_TOKEN_PATH", "PATH", "PYTHONPATH",
}  # fmt: skip
_THIS_MACHINE_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}  # where nodes are to hear of each other it would be wrong
_LIKE_UP = [
    each for each in VARIABLES if each.endswith(("prefect-server", "prefect-worker", "ray", "ray-head", "ray-worker"))
]


@pytest.mark.parametrize("where", _LIKE_UP)
def test_a_service_is_set_as_that_of_orchard_up(where: str, monkeypatch: pytest.MonkeyPatch):
    """What was found out there holds here too."""
    for name in os.environ:
        monkeypatch.delenv(name)
    given = VARIABLES[where]
    if where.endswith("prefect-server"):
        wanted = server_environment(4200, "", 30)
    elif where.endswith("prefect-worker"):
        wanted = worker_environment("http://prefect-server:4200/api", "")
    else:
        wanted = ray_environment(ROOT)
    assert wanted.keys() - given.keys() <= {"PATH", "PYTHONPATH", *_THIS_MACHINE_ONLY}
    assert not given.keys() & _THIS_MACHINE_ONLY
    same = wanted.keys() - _OF_THE_PLACE - _THIS_MACHINE_ONLY
    assert {name: given[name] for name in same} == {name: wanted[name] for name in same}


def test_a_path_that_a_probe_asks_is_one_that_is_answered_without_a_login():
    from prefect.server.api.root import router
    from prefect.server.api.server import create_api_app
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

    routes = {getattr(route, "path", "") for route in (*create_api_app().routes, *router.routes)}
    prefect = {f"/api{path}" for path in routes & {"/health", "/ready"}}
    worker = {"/health"}  # of `prefect worker start --with-healthcheck`
    answers = {"prefect-server": prefect, "prefect-worker": worker, "ray": set(PUBLIC_EXACT_PATHS)}
    ports = {"prefect-server": 4200, "prefect-worker": 8080, "ray": 52365}
    for objects in BUILT.values():
        for container in (container for each in objects for container in containers(each)):
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if asked := container.get(kind, {}).get("httpGet"):
                    assert asked["path"] in answers[container["name"]]
                    port = next(each for each in container["ports"] if each["name"] == asked["port"])
                    assert port["containerPort"] == ports[container["name"]]
    for name, service in COMPOSE["services"].items():
        for port, path in re.findall(r"http://127.0.0.1:(\d+)(/[\w/]+)", str(service.get("healthcheck"))):
            kind = "ray" if name.startswith("ray") else name
            assert (int(port), path in answers[kind]) == (ports[kind], True)


def test_a_program_listens_where_its_clients_look():
    for where, given in VARIABLES.items():
        if where.endswith("prefect-server"):
            assert (given["PREFECT_SERVER_API_PORT"], given["PREFECT_SERVER_API_HOST"]) == ("4200", "0.0.0.0")  # noqa: S104
        if where.endswith("prefect-worker"):
            assert given["PREFECT_WORKER_WEBSERVER_PORT"] == "8080"
            assert given["PREFECT_WORKER_WEBSERVER_HOST"] == ("127.0.0.1" if "compose" in where else "0.0.0.0")  # noqa: S104
    for where, command in COMMANDS:
        if command.startswith("rclone"):
            assert "--addr 0.0.0.0:9100" in command, where
        if command.startswith("ray start --head"):
            assert {"--port=6379", "--dashboard-port=8265", "--dashboard-agent-listen-port=52365"} <= set(
                command.split()
            )


def test_ray_is_the_version_of_the_lock_and_its_parameters_are_those_of_ray_start():
    options = {option for each in _ray_command("start").params for option in each.opts}
    lock = (ROOT / "requirements.lock").read_text()
    for spec in _ray_specs():
        assert re.search(rf"^ray=={re.escape(spec['rayVersion'])}\b", lock, re.MULTILINE)
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert {f"--{name}" for name in group["rayStartParams"]} <= options
            ports = {
                port["name"]: str(port["containerPort"]) for port in group["template"]["spec"]["containers"][0]["ports"]
            }
            assert group["rayStartParams"]["dashboard-agent-listen-port"] == ports["agent"]
        assert spec["headGroupSpec"]["rayStartParams"]["dashboard-port"] == "8265"


def _ray_specs() -> Iterator[dict[str, Any]]:
    for each in (each for objects in BUILT.values() for each in objects if each["kind"].startswith("Ray")):
        yield each["spec"].get("rayClusterSpec", each["spec"])


def test_the_hook_of_ray_is_a_function_of_ours():
    for given in VARIABLES.values():
        if hook := given.get("RAY_START_HOOK"):
            module, _, name = hook.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))


def test_every_path_that_is_written_to_is_a_volume():
    """The rest of a container is read-only."""
    written = re.compile(r"^/(?:var|tmp|run)/?[\w/.-]*$")
    for name, objects in BUILT.items():
        for container in (container for each in objects for container in containers(each)):
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            for path in filter(written.match, VARIABLES[f"{name} {container['name']}"].values()):
                assert any(f"{path}/".startswith(f"{mount}/") for mount in mounts), f"{container['name']}: {path}"
    for name, service in COMPOSE["services"].items():
        places = [*service.get("volumes", ()), *service.get("tmpfs", ())]
        mounts = [re.sub(r"^[\w-]+:(?=/)|:(ro|uid=.*)$", "", place) for place in places]
        for path in filter(written.match, service.get("environment", {}).values()):
            assert any(f"{path}/".startswith(f"{mount}/") for mount in mounts), f"{name}: {path}"
