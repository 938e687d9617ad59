"""What a batch is made of: draws of task and length, and rows of like width that go through a network together."""

# B rows of the batch   C places where the rows may be cut

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.relay.network_config import MixConfig
from models.relay.problems import Group, Problems

Rows = NDArray[np.int64]

_MOST_CUTS = 512  # places for cuts that are compared


def draw_groups(
    rng: np.random.Generator,
    problems: Problems,
    batch_size: int,
    mix: MixConfig,
    *,
    new_share: Callable[[str], float] = lambda task: 0.0,
    draw_new: Callable[[np.random.Generator, str], Group] | None = None,
) -> list[tuple[Group, int]]:
    """Of which problems the batch is made, and of how many of each; of a task's draws, a share is `draw_new`'s.

    Draws of the same problems are put together, since a task works on many at once nearly as fast as on few.
    """
    rows = dict[Group, int]()
    for count in _evenly(batch_size, mix.draws):
        group = problems.draw_group(rng)
        share = new_share(group.task)
        if share and rng.random() < share:
            assert draw_new is not None, "draws of longer problems need labels"
            group = draw_new(rng, group.task)
        rows[group] = rows.get(group, 0) + count
    return [(group, count) for group, count in rows.items() if count]


def buckets_of(widths_B: Rows, buckets: int, passes_B: Rows | None = None) -> list[Rows]:
    """The rows by width, cut into so many parts; in a part, those with more passes through the network stand first.

    Of all ways to cut, the one that computes the fewest positions: of a part, its widest row's for each pass of each of
    its rows. No part has fewer than `least_rows`, so that it has rows for every worker.
    """
    by_width_B = np.argsort(widths_B, kind="stable")
    passes = np.ones_like(widths_B) if passes_B is None else passes_B
    parts = np.split(by_width_B, _cuts(widths_B[by_width_B], passes[by_width_B], buckets))
    return parts if passes_B is None else [part[np.argsort(-passes_B[part], kind="stable")] for part in parts]


def least_rows(batch_size: int, buckets: int) -> int:
    """The fewest rows that a bucket has: half of what equal ones would have, or all where there is one."""
    return batch_size if buckets == 1 else max(1, batch_size // (2 * buckets))


def _cuts(widths_B: Rows, passes_B: Rows, buckets: int) -> Rows:
    """Before which rows, which stand by width, the parts after the first begin.

    Dynamic programming over the number of parts: fewest[c] is what the rows up to place c compute at least in so many
    parts.
    """
    if buckets == 1:
        return np.zeros(0, np.int64)
    places_C, least = _places(widths_B, buckets), least_rows(len(widths_B), buckets)
    passes_C = np.concatenate([[0], passes_B.cumsum()])[places_C]
    widest_C = np.concatenate([[0], widths_B])[places_C]  # of a part that ends there
    computed_CC = np.where(
        places_C[None, :] - places_C[:, None] >= least, (passes_C[None, :] - passes_C[:, None]) * widest_C, np.inf
    )
    fewest_C, before = computed_CC[0], list[Rows]()
    for _ in range(buckets - 1):
        so_far_CC = fewest_C[:, None] + computed_CC
        before.append(so_far_CC.argmin(axis=0))
        fewest_C = so_far_CC.min(axis=0)
    cuts, place = list[int](), len(places_C) - 1
    for before_C in reversed(before):
        place = int(before_C[place])
        cuts.append(int(places_C[place]))
    return np.array(cuts[::-1])


def _places(widths_B: Rows, buckets: int) -> Rows:
    """Where the rows may be cut: where the width changes, and where equal parts would be, so that there is a way."""
    count = len(widths_B)
    changes = np.flatnonzero(np.diff(widths_B)) + 1
    changes = changes[:: -(-len(changes) // _MOST_CUTS) or 1]
    return np.unique(np.concatenate([[0], changes, np.cumsum(_evenly(count, buckets))]))


def _evenly(count: int, parts: int) -> list[int]:
    """So many, in parts that differ by at most one."""
    return [count // parts + (part < count % parts) for part in range(parts)]


def padded_share(computed: float, filled: float) -> float:
    """The share of computed positions that hold no token."""
    return 1.0 - filled / computed if computed else 0.0
