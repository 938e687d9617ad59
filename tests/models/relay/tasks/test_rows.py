"""Rows of tokens: what was written, where it ends, and how it is put side by side."""

import numpy as np
import pytest

from models.relay.task import (
    EOS,
    PAD,
    closed_up,
    exact_matches,
    flush_right,
    stacked,
    widened,
    widths_of,
    written_answers,
)
from models.relay.tasks.arithmetic import Arithmetic


def rows(*tokens: list[int]) -> np.ndarray:
    return np.array(tokens, np.uint16)


def test_what_a_row_answers_stands_before_its_first_end():
    written = rows([9, 2, 7, EOS, PAD], [7, EOS, 9, EOS, PAD], [EOS, 9, 9, 9, 9], [9, 9, 9, 9, 9])
    assert written_answers(written, 1).tolist() == [[7], [7], [PAD], [PAD]]
    assert written_answers(written, 2).tolist() == [[2, 7], [PAD, 7], [PAD, PAD], [PAD, PAD]]


def test_a_chain_matches_whole_or_not_at_all():
    task = Arithmetic()
    solutions = task.solutions(task.draw(np.random.default_rng(0), 3, 50), 3)
    written = widened(solutions, solutions.shape[1] + 4)
    assert exact_matches(written, solutions).all()
    written[0, 2] += 1
    written[1, solutions.shape[1]] = 5  # something after the end
    assert exact_matches(written, solutions).tolist() == [False, False, *[True] * 48]


def test_rows_close_up_and_move_to_either_side():
    gaps = rows([PAD, 4, PAD, 5], [6, PAD, PAD, PAD], [PAD, PAD, PAD, PAD])
    assert closed_up(gaps).tolist() == [[4, 5], [6, PAD], [PAD, PAD]]
    assert flush_right(rows([4, 5, PAD], [6, PAD, PAD]), 4).tolist() == [[PAD, PAD, 4, 5], [PAD, PAD, PAD, 6]]
    assert flush_right(rows([4, 5, 6, 7, 8], [9, PAD, PAD, PAD, PAD]), 2).tolist() == [[7, 8], [PAD, 9]]
    assert widths_of(gaps).tolist() == [4, 1, 0]
    assert stacked([rows([1]), rows([2, 3])]).tolist() == [[1, PAD], [2, 3]]


def test_the_last_round_is_the_one_without_its_end_sign():
    task = Arithmetic()
    found = task.is_last(np.stack([widened(task.read(text)[None], 4)[0] for text in ("1 + 2 =", "3")]))
    assert found is not None
    assert found.tolist() == [False, True]


def test_symbols_are_read_as_they_are_written():
    task = Arithmetic(brackets=True)
    assert task.text(task.read("( 1 + 6 ) - 2 =")) == "( 1 + 6 ) - 2 ="
    with pytest.raises(ValueError, match="index"):
        task.read("1 + 7 =")
