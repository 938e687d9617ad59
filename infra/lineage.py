"""Where a version comes from: code, dependencies, machine."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from infra.manifests import sha256_of
from infra.settings import ROOT

LOCK = ROOT / "requirements.lock"


def code() -> dict[str, Any]:
    """The commit of the code that runs, whether files differ from it, and the hash of the dependency lock."""
    commit = _git("rev-parse", "HEAD")
    return {
        "git_commit": commit or "unknown: not a git checkout",
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None,
        "lock_sha256": sha256_of(LOCK) if LOCK.exists() else None,
    }


def hardware() -> dict[str, Any]:
    """This machine, without its name."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib(), 1),
    }


def memory_gib() -> float:
    """All memory of this machine."""
    return psutil.virtual_memory().total / 2**30


def process_start() -> float:
    """When this process began, in seconds since 1970: before any import."""
    return psutil.Process().create_time()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _git(*arguments: str) -> str | None:
    """What git prints about this checkout; None where it is none, or git is not installed."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
