"""What all sides of the BUSGen comparison do, and how they say what they measured.

Standard library only: it is read by this project's Python and by the one that has diffusers.
"""

from pathlib import Path

BATCH, LEARNING_RATE = 2, 1e-6  # so small that the work does not change while it is timed
CLASSES, DEVICES = 2, 19  # of the conditions, as in the release
OFFICIAL_WIDTH = {"cpu": 64, "cuda": 128}  # 12 million parameters, and the released network's 48
OUR_WIDTH = {"cpu": 32, "cuda": 64}
EVALUATIONS = 4  # of a sampling call

MARKS = Path("/proc/self")


def forget_peak() -> None:
    """From here on, `peak_bytes` counts anew; Linux only."""
    (MARKS / "clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most resident memory since `forget_peak`."""
    return _kibibytes("VmHWM") * 1024


def resident_bytes() -> int:
    return _kibibytes("VmRSS") * 1024


def _kibibytes(name: str) -> int:
    lines = (MARKS / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1])
