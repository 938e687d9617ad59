"""Everything that listens on this machine is on loopback: as the operating system has it, and as it is started."""

import json
import os
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from infra import processes, ray_head
from infra.local.prefect_api import PrefectApi
from infra.local.programs import S3, prefect_server
from infra.settings import prepare_prefect
from models.common.errors import ClusterError
from tests.fixtures.services import RayService


def _is_loopback(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def test_every_part_of_this_machines_ray_listens_on_loopback(ray_service: RayService) -> None:
    leader = json.loads((ray_service.token.parent / "head.json").read_text())["pid"]
    ours = {each.pid: each.name() for each in processes.tree(psutil.Process(leader))}
    listening = [
        (ours[each.pid], each.laddr.ip)
        for each in psutil.net_connections("inet")
        if each.pid in ours and each.status == psutil.CONN_LISTEN and each.laddr
    ]
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    assert [(name, address) for name, address in listening if not _is_loopback(address)] == []


def test_the_services_of_orchard_up_are_started_for_loopback() -> None:
    server = prefect_server(4200, PrefectApi("http://127.0.0.1:4200/api", "user:word"), 30)
    assert server.environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert "--host" not in server.command
    store = S3(9100).program()
    assert store.command[store.command.index("--addr") + 1] == "127.0.0.1:9100"


def test_what_the_user_has_set_for_other_servers_opens_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "0.0.0.0")  # noqa: S104
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "")
    monkeypatch.setenv("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "*")
    monkeypatch.setenv("RCLONE_AUTH_KEY", "")
    monkeypatch.setenv("RCLONE_ADDR", "0.0.0.0:9100")
    environment = prefect_server(4200, PrefectApi("http://127.0.0.1:4200/api", ""), 30).environment
    assert environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert len(environment["PREFECT_SERVER_API_AUTH_STRING"]) > 30
    assert "*" not in environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"]
    store = S3(9100).program().environment
    assert "RCLONE_ADDR" not in store
    assert len(store["RCLONE_AUTH_KEY"]) > 50


def test_a_temporary_prefect_server_asks_for_a_login_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect starts it on loopback, where other users of the machine are too."""
    environment = dict(os.environ)
    monkeypatch.setattr("os.environ", environment)
    prepare_prefect(quiet=True)
    first = environment["PREFECT_SERVER_API_AUTH_STRING"]
    assert first == environment["PREFECT_API_AUTH_STRING"]
    assert len(first) > 30
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"):
        del environment[name]
    prepare_prefect(quiet=True)
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] != first


def test_a_link_of_somebody_else_is_not_taken_for_rays_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The common temporary folder is everybody's, and the link's name can be guessed."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    ours = ray_head._temp_dir()
    assert ours.resolve() == (home / "ray" / "tmp").resolve()
    assert ours.is_symlink(), "the path of a test's home is long"
    ours.unlink()
    (tmp_path / "theirs").mkdir()
    ours.symlink_to(tmp_path / "theirs")
    with pytest.raises(ClusterError, match="is not our own link"):
        ray_head._temp_dir()
