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
    """The environment of the Ray that Orchard starts: token required, no usage statistics, no other address."""
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
    has_token = (
        os.environ.get("RAY_AUTH_TOKEN")
        or Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").exists()
    )
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
