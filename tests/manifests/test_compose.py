"""compose.yaml: closed to the outside, secrets from .env only, and every service waits for what it needs."""

import re
from typing import Any

import pytest

from tests.manifests.kustomize import ROOT

EXAMPLE = (ROOT / "infra" / ".env.example").read_text()
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")
_SECRETS = {"POSTGRES_PASSWORD", "PREFECT_AUTH_STRING", "RAY_AUTH_TOKEN", "S3_ACCESS_KEY", "S3_SECRET_KEY"}

Compose = dict[str, Any]


def test_ports_are_open_on_loopback_only(compose: Compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert sorted(ports) == [f"127.0.0.1:{port}:{port}" for port in ("4200", "8265", "9100")]
    assert all(service.get("network_mode", "none") == "none" for service in compose["services"].values())


def test_a_container_can_gain_no_right_and_change_no_program(compose: Compose):
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert "privileged" not in service, name


def test_every_secret_comes_from_the_environment_file_and_has_no_default():
    asked = {}
    for name, operator, text in _VARIABLE.findall((ROOT / "infra" / "compose.yaml").read_text()):
        asked.setdefault(name, set()).add((operator, text))
    for name in _SECRETS:
        assert asked.pop(name) == {(":?", "set it in infra/.env")}
    assert all(operator == ":-" and text for found in asked.values() for operator, text in found)


def test_the_example_names_every_variable_and_has_no_secret():
    needed = {name: operator for name, operator, _ in _VARIABLE.findall((ROOT / "infra" / "compose.yaml").read_text())}
    written = dict(re.findall(r"^(?:# )?(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert written.keys() == needed.keys()
    assert {name for name in written if written[name] == ""} == _SECRETS
    defaults = {name: text for name, _, text in _VARIABLE.findall((ROOT / "infra" / "compose.yaml").read_text())}
    assert {name: text for name, text in written.items() if name not in _SECRETS} == {
        name: text for name, text in defaults.items() if name not in _SECRETS
    }


def test_git_keeps_no_filled_in_environment_file():
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_secret_reaches_only_who_needs_it(compose: Compose):
    holders: dict[str, set[str]] = {name: set() for name in _SECRETS}
    for service, about in compose["services"].items():
        for name, _, _ in _VARIABLE.findall(str(about)):
            if name in holders:
                holders[name].add(service)
    nodes = {"ray-head", "ray-worker"}
    assert holders == {
        "POSTGRES_PASSWORD": {"postgres", "prefect-server"},
        "PREFECT_AUTH_STRING": {"prefect-server", "prefect-worker", "deploy"},
        "RAY_AUTH_TOKEN": {"ray-token"},
        "S3_ACCESS_KEY": {"s3", "prefect-worker", *nodes},
        "S3_SECRET_KEY": {"s3", "prefect-worker", *nodes},
    }
    token = {name for name, about in compose["services"].items() if "token:" in str(about.get("volumes"))}
    assert token == {"ray-token", "prefect-worker", *nodes}


def test_a_service_waits_until_what_it_speaks_to_answers(compose: Compose):
    services = compose["services"]
    for name, service in services.items():
        waits = service.get("depends_on", {})
        for other, how in waits.items():
            ends = "restart" in services[other] and services[other]["restart"] == "on-failure"
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name
            assert ends or "healthcheck" in services[other], other
        said = f"{service.get('environment')} {service.get('command')}"
        spoken = set(re.findall(r"(?:https?://|@|--address=)([a-z][\w-]*):\d+", said))
        assert spoken - {"localhost"} <= _reached(services, name), name


def _reached(services: Compose, name: str) -> set[str]:
    """What is up before the service starts, directly or through others."""
    direct = set(services[name].get("depends_on", {}))
    return direct | {each for other in direct for each in _reached(services, other)}


def test_an_address_names_a_service_and_its_port(compose: Compose):
    listens = {"postgres": {"5432"}, "s3": {"9100"}, "prefect-server": {"4200"}, "ray-head": {"8265", "6379"}}
    said = str(
        [(each.get("environment"), each.get("command"), each.get("pre_stop")) for each in compose["services"].values()]
    )
    found = set(re.findall(r"(?:https?://|@|--address=)([a-z][\w-]*):(\d+)", said)) - {("localhost", "4200")}
    assert {host for host, _ in found} == set(listens)
    assert all(port in listens[host] for host, port in found)


def test_every_named_volume_is_defined_and_used(compose: Compose):
    used = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    named = {volume.partition(":")[0] for volume in used if not volume.startswith("/")}
    assert named == set(compose["volumes"])
    lasting = [volume.partition(":")[0] for volume in used if not volume.startswith(("/", "token:"))]
    assert len(lasting) == len(set(lasting))  # one each: nobody finds another's files


@pytest.mark.parametrize(
    "service", ["s3", "prefect-server", "prefect-worker", "deploy", "ray-token", "ray-head", "ray-worker"]
)
def test_what_is_ours_runs_in_the_one_image_that_is_built(compose: Compose, service: str):
    built = compose["services"]["prefect-server"]
    assert compose["services"][service]["image"] == built["image"]
    assert (ROOT / "infra" / built["build"]["context"]).resolve() == ROOT
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / built["build"]["dockerfile"]).read_text(), re.MULTILINE)
    assert built["build"]["target"] in stages
