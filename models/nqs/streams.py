"""Random numbers by position: keyed by seed, purpose, step and global walker number, and by nothing else.

Walker w of step s gets the same numbers on 1 worker and on 8, at the start of a run and after a resume; no generator
has a state that would have to be saved.
"""

# W walkers of this rank   R numbers per walker

from __future__ import annotations

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

# Purposes keep the streams of one seed apart. A number, once given, stays: it is part of what a seed means.
START = 1  # where walkers begin
SWEEP = 2  # proposals and acceptance while training
START_OF_EVALUATION = 3
SWEEP_OF_EVALUATION = 4
START_OF_NODES = 5  # walkers of a fixed-node projection, until they branch
SWEEP_OF_NODES = 6
NODE_HOPS = 8  # of a fixed-node projection
NODE_BRANCHES = 9
START_OF_CONTEST = 10  # of two published states
SWEEP_OF_CONTEST = 11

_WORDS = 4  # numbers that one position of Philox's counter gives


def uniforms(
    seed: int, purpose: int, step: int, first_walker: int, walkers: int, draws: int, part: int = 0
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), float64 [walkers, draws], of global walkers first_walker .. first_walker + walkers.

    Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with key (seed, purpose)
    and counter (walker * blocks + block, part, step, 0): a walker owns `blocks` = draws / 4, rounded up, positions. So
    its numbers depend on `draws` too, and a rank computes only its own rows. A step that needs many numbers takes them
    in parts, which keeps memory small. 53 bits are kept of 64.

    ValueError: a key or position that is negative or does not fit into 64 bits.
    """
    blocks = -(-draws // _WORDS)
    _require_64_bits(seed=seed, purpose=purpose, step=step, part=part, first_walker=first_walker)
    _require_64_bits(walkers=walkers, draws=draws, last_position=(first_walker + walkers) * blocks)
    # Philox adds 1 to its counter before it gives numbers, here too: position p is counter p + 1.
    source = Philox(key=_words(seed, purpose), counter=_words(0, part, step, 0)).advance(first_walker * blocks)
    numbers_WR = source.random_raw(walkers * blocks * _WORDS).reshape(walkers, blocks * _WORDS)[:, :draws]
    return (numbers_WR >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _words(*values: int) -> NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


def _require_64_bits(**values: int) -> None:
    for name, value in values.items():
        if not 0 <= value < 2**64:
            raise ValueError(f"{name}={value} keys no random numbers; what fits is 0 ... 2**64 - 1")
