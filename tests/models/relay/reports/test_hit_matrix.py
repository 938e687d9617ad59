"""Hit matrices beside cells that are counted by hand."""

import numpy as np

from models.common.report import Cells
from models.relay.problems import Group, Problems
from models.relay.reports.hit_matrix import hit_maps, hit_matrix
from models.relay.task import EOS, Tokens, stacked
from models.relay.tasks.arithmetic import Arithmetic

SUMS = Arithmetic()


def _ended(text: str) -> Tokens:
    return np.append(SUMS.read(text), EOS).astype(np.uint16)[None]


def test_cells_are_shares_of_problems_with_the_right_token_there() -> None:
    problems = stacked([SUMS.read(text)[None] for text in ("3 + 5 - 6 =", "1 + 1 + 1 =")])
    # Right are "1 - 6 =", "2" and "2 + 1 =", "3".
    written = stacked([_ended("1 - 5 = 2"), _ended("2 + 1 = 4")])
    assert hit_matrix(SUMS, problems, 2, written) == (
        (1.0, 1.0, 0.5, 1.0),
        (0.5, 1.0, None, None),
    )


def test_a_token_left_out_moves_all_behind_it() -> None:
    problem = SUMS.read("3 + 5 - 6 =")[None]
    matrix = hit_matrix(SUMS, problem, 2, _ended("1 6 = 2"))
    assert matrix == ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, None, None))


def test_an_answer_behind_all_rounds_has_a_row_of_its_own(mixed: Problems) -> None:
    group = Group("edit_distance", 4)
    task, tests_PL = mixed.tasks[group.task], mixed.tests(group)
    matrix = hit_matrix(task, tests_PL, group.length, mixed.solutions(group, tests_PL))
    assert len(matrix) == task.loops(4) + 1
    assert matrix[-1][:2] == (1.0, 1.0), "the answer and the end"
    assert set(matrix[-1][2:]) == {None}
    assert {value for row in matrix for value in row} <= {1.0, None}


def test_maps_name_rounds_and_answer_and_run_from_0_to_1(mixed: Problems) -> None:
    matrix: Cells = ((1.0, 0.5), (0.0, None))
    apart = hit_maps("t", mixed.tasks["edit_distance"], {"teacher": matrix, "student": matrix}, "c")
    assert [one.title for one in apart.maps] == ["teacher", "student"]
    assert apart.maps[0].row_labels == ("1", "answer")
    assert apart.maps[0].column_labels == ("1", "2")
    assert apart.maps[0].value_range == (0.0, 1.0)
    assert hit_maps("t", SUMS, {"teacher": matrix}, "c").maps[0].row_labels == ("1", "2")
