"""Every environment variable that Orchard reads, in one class."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Where things are on this machine. An empty variable counts as unset."""

    home: Path  # ORCHARD_HOME: all that Orchard writes here; deleting it is a complete reset
    registry: str  # ORCHARD_REGISTRY: git address or folder of the registry
    remote: str  # ORCHARD_REMOTE: DVC remote of the registry: a folder, or s3://bucket/prefix
    s3_endpoint: str | None  # ORCHARD_S3_ENDPOINT: address of an S3-compatible server
    ray_address: str | None  # RAY_ADDRESS: a running Ray; unset starts one on this machine
    prefect_api: str | None  # PREFECT_API_URL: a running Prefect server; unset starts a temporary one

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def datasets(self) -> Path:
        return self.home / "datasets"


def settings() -> Settings:
    """The settings as the environment has them now."""
    home = Path(os.environ.get("ORCHARD_HOME") or ROOT / ".orchard").expanduser().absolute()
    return Settings(
        home=home,
        registry=os.environ.get("ORCHARD_REGISTRY") or str(home / "registry.git"),
        remote=os.environ.get("ORCHARD_REMOTE") or str(home / "remote"),
        s3_endpoint=os.environ.get("ORCHARD_S3_ENDPOINT") or None,
        ray_address=os.environ.get("RAY_ADDRESS") or None,
        prefect_api=os.environ.get("PREFECT_API_URL") or None,
    )


def ray_environment(token_file: Path) -> dict[str, str]:
    """The environment of the Ray that Orchard starts: token required, no usage statistics, no address of another Ray."""
    kept = {name: value for name, value in os.environ.items() if name not in {"RAY_ADDRESS", "RAY_AUTH_TOKEN"}}
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }


def use_ray_token(token_file: Path | None) -> None:
    """Lets this process speak to a Ray that wants a token: the one in `token_file`, or the user's own where None.

    A client sends a token only where RAY_AUTH_MODE says so, even if it has one.
    """
    if token_file:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    has_token = os.environ.get("RAY_AUTH_TOKEN") or Path(
        os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    ).exists()
    if has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


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
    """Sets what Prefect reads when it is imported: its state inside ORCHARD_HOME, and no analytics.

    `quiet` keeps its log lines off this terminal; they still reach the run page. What the user has set stays.
    """
    wanted = {
        "PREFECT_HOME": str(settings().home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if quiet:
        wanted["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
