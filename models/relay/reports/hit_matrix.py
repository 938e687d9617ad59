"""Where in a chain a model is right: round by round and token by token (arXiv 2502.08482, figures 5 and 6)."""

# P problems   L tokens of a problem   W tokens written   T rounds   R tokens of a round

from collections.abc import Mapping, Sequence

import numpy as np

from models.common.report import Cells, Map, MapRow
from models.relay.reports.scores import hits, key_to
from models.relay.task import PAD, Task, Tokens


def hit_matrix(task: Task, problems_PL: Tokens, length: int, written_PW: Tokens) -> Cells:
    """The share of problems whose token of round t at place r is right, T rows of R; None where no solution has one.

    Where the last round is not the answer, the answer is one row more. Its last token is EOS.
    """
    key = key_to(task, problems_PL, length)
    there_PW = key.solutions_PW != PAD
    shape = int(key.rounds_PW.max()), int(key.places_PW.max())
    counts_TR, hits_TR = np.zeros(shape), np.zeros(shape)
    cells = key.rounds_PW[there_PW] - 1, key.places_PW[there_PW] - 1
    np.add.at(counts_TR, cells, 1)
    np.add.at(hits_TR, cells, hits(key, written_PW)[there_PW])
    return tuple(
        tuple(float(hit / count) if count else None for hit, count in zip(*row, strict=True))
        for row in zip(hits_TR, counts_TR, strict=True)
    )


def hit_maps(title: str, task: Task, matrices: Mapping[str, Cells], caption: str) -> MapRow:
    """The matrices of several models side by side, from 0 to 1, each with its name."""
    return MapRow(
        title=title,
        caption=caption,
        columns=2,
        maps=tuple(
            Map(
                title=name,
                values=values,
                unit="share of problems with the right token there",
                x_label="token of the round",
                y_label="round",
                row_labels=_row_labels(values, task),
                column_labels=tuple(str(place + 1) for place in range(len(values[0]))),
                value_range=(0.0, 1.0),
            )
            for name, values in matrices.items()
        ),
    )


def _row_labels(values: Sequence[object], task: Task) -> tuple[str, ...]:
    """Rounds by their numbers, and the row of the answer by its name."""
    rounds = [str(number + 1) for number in range(len(values) - 1)]
    return (*rounds, str(len(values)) if task.last_round_is_answer else "answer")
