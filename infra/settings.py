"""Every environment variable that Orchard reads, in one class."""

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.local import state

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Where things are on this machine. An empty variable counts as unset."""

    home: Path  # ORCHARD_HOME: all that Orchard writes here; deleting it is a complete reset
    registry: str  # ORCHARD_REGISTRY: git address or folder of the registry
    remote: str  # ORCHARD_REMOTE: DVC remote of the registry: a folder, or s3://bucket/prefix
    s3_endpoint: str | None  # ORCHARD_S3_ENDPOINT: address of an S3-compatible server
    storage: str | None  # ORCHARD_STORAGE: s3://bucket/prefix between machines of a Ray that share no disk
    ray_address: str | None  # RAY_ADDRESS: a running Ray; unset starts one on this machine
    prefect_api: str | None  # PREFECT_API_URL: a Prefect server; unset: that of `orchard up`, or a temporary one
    prefect_auth_string: str | None  # PREFECT_API_AUTH_STRING: what logs in to it; known where `orchard up` runs it
    database: str | None  # PREFECT_SERVER_DATABASE_CONNECTION_URL: PostgreSQL for `orchard up`; unset: SQLite
    retention_days: str  # ORCHARD_RETENTION_DAYS: how long ended runs' logs, and what they left, are kept
    restarts: str  # ORCHARD_RESTARTS: how often a run of a worker that crashed is started again by itself

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def datasets(self) -> Path:
        return self.home / "datasets"


def settings() -> Settings:
    """The settings as the environment has them now."""
    home = Path(os.environ.get("ORCHARD_HOME") or ROOT / ".orchard").expanduser().absolute()
    named = os.environ.get("PREFECT_API_URL")
    up = None if named else state.running(home)
    return Settings(
        home=home,
        registry=os.environ.get("ORCHARD_REGISTRY") or str(home / "registry.git"),
        remote=os.environ.get("ORCHARD_REMOTE") or str(home / "remote"),
        s3_endpoint=os.environ.get("ORCHARD_S3_ENDPOINT") or None,
        storage=(os.environ.get("ORCHARD_STORAGE") or "").rstrip("/") or None,
        ray_address=os.environ.get("RAY_ADDRESS") or None,
        prefect_api=up.api if up else named or None,
        prefect_auth_string=state.auth_string(home) if up else os.environ.get("PREFECT_API_AUTH_STRING") or None,
        database=os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL") or None,
        retention_days=os.environ.get("ORCHARD_RETENTION_DAYS") or "30",
        restarts=os.environ.get("ORCHARD_RESTARTS") or "2",
    )


def git_environment(config: Path, above: Path) -> dict[str, str]:
    """The environment of a git that reads `config` in place of the user's, looks for no repository in or above
    `above`, and asks nobody for a password.

    What a surrounding git has set (GIT_DIR in a hook) would send it to another repository: that is left out.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _GIT_ACCESS}
    ssh = os.environ.get("GIT_SSH_COMMAND") or "ssh"
    return {
        **kept,
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(above),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": f"{ssh} -o BatchMode=yes -o ConnectTimeout=8",
        "SSH_ASKPASS_REQUIRE": "never",
        "LC_ALL": "C",
        **{f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in _GIT_PERSON.items()},
    }


_GIT_ACCESS = {"GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_CERT", "GIT_SSL_KEY"}
_GIT_PERSON = {"NAME": "Orchard", "EMAIL": "orchard@localhost"}


def dvc_environment(scratch: Path) -> dict[str, str]:
    """The environment of a DVC that reads no configuration but its repository's, and keeps its state in `scratch`.

    Credentials of the remote are found as every AWS client finds them.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    return {
        **kept,
        "DVC_GLOBAL_CONFIG_DIR": str(scratch / "no-global-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(scratch / "no-system-config"),
        "DVC_SITE_CACHE_DIR": str(scratch / "site"),
        "DVC_NO_ANALYTICS": "1",
        "DVC_STUDIO_OFFLINE": "1",
        # S3-compatible servers refuse the checksums that newer clients add by default.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def ray_environment(token_file: Path) -> dict[str, str]:
    """The environment of the Ray that Orchard starts: this machine only, token required, no usage statistics.

    Its jobs inherit it. They ask Prefect nothing, and its login is none of theirs.
    """
    kept = {
        name: value for name, value in _without("PREFECT_").items() if name not in {"RAY_ADDRESS", "RAY_AUTH_TOKEN"}
    }
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_START_HOOK": "infra.ray_head.without_ray_clients",
        # Else Ray takes 127.0.0.1 for this machine's address in its network, and its parts listen on that.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # What a head does while it waits: a quarter less processor time with no reports that nobody reads.
        "RAY_event_stats": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_memory_monitor_refresh_ms": "1000",
        "REPORTER_UPDATE_INTERVAL_MS": "15000",  # how often the dashboard's numbers of a node are new
        "PYTHONPATH": str(ROOT),
    }


def use_ray_token(token_file: Path | None) -> None:
    """Lets this process speak to a Ray that wants a token: the one in `token_file`, or the user's own where None.

    A client sends a token only where RAY_AUTH_MODE says so, even if it has one.
    """
    if token_file:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    has_token = (
        os.environ.get("RAY_AUTH_TOKEN")
        or Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").exists()
    )
    if has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def started_by_worker() -> bool:
    """Whether a Prefect worker started this process, and watches over it."""
    return bool(os.environ.get("PREFECT__FLOW_RUN_ID"))


def local_rank() -> int:
    """This worker's number on its node, as Ray Train sets it."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def train_on_processors() -> None:
    """Keeps DeepSpeed from looking for GPUs in this process."""
    os.environ["DS_ACCELERATOR"] = "cpu"


def keep_matplotlib_inside() -> None:
    """Lets matplotlib keep its font cache in the state folder; call it before matplotlib is imported."""
    os.environ.setdefault("MPLCONFIGDIR", str(settings().home / "matplotlib"))


def prepare_prefect(*, quiet: bool) -> None:
    """Sets what Prefect reads when it is imported: its state inside ORCHARD_HOME, no analytics, and the server,
    with its login.

    `quiet` keeps its log lines off this terminal; they still reach the run page. What the user has set stays.
    """
    now = settings()
    (now.home / "prefect").mkdir(parents=True, exist_ok=True)
    wanted = {
        "PREFECT_HOME": str(now.home / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # a busy machine takes longer than Prefect's 20
        **_NO_ANALYTICS,
    }
    if quiet:
        wanted["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    if now.prefect_api and not os.environ.get("PREFECT_API_URL"):
        os.environ["PREFECT_API_URL"] = now.prefect_api
        os.environ["PREFECT_API_AUTH_STRING"] = now.prefect_auth_string or ""
    elif not now.prefect_api:  # a temporary server, which would else do what anybody on this machine asks
        login = os.environ.get("PREFECT_API_AUTH_STRING") or f"orchard:{secrets.token_urlsafe(24)}"
        os.environ.update(PREFECT_SERVER_API_AUTH_STRING=login, PREFECT_API_AUTH_STRING=login)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


_NO_ANALYTICS = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def server_environment(port: int, auth_string: str, retention_days: float) -> dict[str, str]:
    """The environment of the Prefect server of `orchard up`: this machine only, nothing without the auth string.

    Of the user's settings only those of the database stay: another one could open what is closed here.
    """
    seconds = str(round(retention_days * 24 * 3600))
    ours = {
        "PREFECT_HOME": str(settings().home / "prefect"),
        **_NO_ANALYTICS,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the other UI is there too; this one shows help and artifacts better
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"PT{seconds}S",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "flows.event_order",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": seconds,
        **{f"PREFECT_SERVER_SERVICES_{name}_LOOP_SECONDS": value for name, value in _SERVER_LOOPS.items()},
    }
    return {**_without("PREFECT_", but="PREFECT_SERVER_DATABASE_"), **ours}


# How often the server looks whether there is something to do. Of none of them does a run's start wait.
_SERVER_LOOPS = {
    "CANCELLATION_CLEANUP": "30",
    "CLEANUP_RECONCILER": "60",
    "FOREMAN": "30",
    "LATE_RUNS": "15",
    "PAUSE_EXPIRATIONS": "60",
    "REPOSSESSOR": "30",
    "SCHEDULER_RECENT_DEPLOYMENTS": "15",
}


def worker_environment(api: str, auth_string: str) -> dict[str, str]:
    """The environment of what works for the Prefect server of `orchard up`: its worker, and the worker's runs."""
    ours = {
        "PREFECT_HOME": str(settings().home / "prefect"),
        **_NO_ANALYTICS,
        "PREFECT_API_URL": api,
        "PREFECT_API_AUTH_STRING": auth_string,
        "PREFECT_WORKER_QUERY_SECONDS": "2.5",  # a run's start waits for it
        "PREFECT_WORKER_PREFETCH_SECONDS": "2",
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(ROOT),
    }
    return {**_without("PREFECT_"), **ours}


def take_environment(values: dict[str, str]) -> None:
    """Lets this process, and what it starts from now on, use these settings."""
    os.environ.update(values)


def s3_environment(access_key: str, secret_key: str) -> dict[str, str]:
    """The environment of the S3 server: its keys, which a command line would show to every user of the machine.

    rclone reads a list of pairs there, so that a pair stands in quotes.
    """
    return {**_without("RCLONE_"), "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'}


def _without(prefix: str, but: str = "\0") -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefix) or name.startswith(but)}
