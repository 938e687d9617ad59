"""What all sides of the RELAY comparison do; standard library only."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

LEARNING_RATE = 1e-6  # so small that the work does not change while it is timed
SHARED = Path(os.environ.get("RELAY_SHARED", "."))  # where ours leaves batches, weights and problems for the others


@dataclass(frozen=True)
class Shape:
    """Networks, and how much of the work is timed in one call."""

    layers: int
    width: int
    feed_forward_width: int
    vocabulary: int
    batch: int  # rows of a training step
    steps: int  # of a call; their batches are the same in each call, and the same for all sides
    teacher_steps: int
    asked: int  # problems decoded together
    written: int  # tokens after each of them
    anew: int  # of these, how many are timed where each is computed from the whole row: all cost alike
    heads: int = 4
    draws: int = 1  # of a length, for each batch
    buckets: int = 1  # that our side cuts a batch into, by width


PAPER = Shape(3, 256, 1024, 20, batch=16, steps=2, teacher_steps=1, asked=64, written=350, anew=1)
SHAPES = {
    "laptop": Shape(2, 64, 256, 12, batch=64, steps=12, teacher_steps=12, asked=256, written=89, anew=4),
    "paper": PAPER,
    "paper-mixed": replace(PAPER, draws=16, buckets=4),  # lengths are mixed in a batch; for training alone
}
WIDTHS = {64: (64, 4), 256: (16, 2), 1024: (4, 1)}  # of students in float32 and in bfloat16: rows of a step, steps


def place(shape: str, name: str) -> Path:
    """A file that ours leaves for the others."""
    return SHARED / f"{shape}_{name}"
