"""Cells: counts, errors and weights by hand."""

import math

import numpy as np
import pytest

from models.busgen.images.cases import Case
from models.busgen.tailor.cells import Cell, cell_errors, cell_weights, count_cells
from models.busgen.tailor_config import TailorConfig
from models.common.errors import ConfigError

LABELS = ("benign", "dcis")
CONFIG = TailorConfig(attributes=("orientation",), rarity=0.5, pseudo_count=1.0, error_cases=2.0)


def _case(label: str, orientation: str = "") -> Case:
    return Case(
        name="x",
        source="made up",
        patient="x",
        pathology="malignant" if label == "dcis" else label,
        subtype="dcis" if label == "dcis" else "",
        descriptors={"orientation": orientation, "halo": "none"} if orientation else {},
    )


CASES = [
    *[_case("benign", "parallel")] * 8,
    *[_case("benign", "not_parallel")] * 3,
    *[_case("benign")] * 1,
    *[_case("dcis", "parallel")] * 3,
    *[_case("malignant", "parallel")] * 5,
    _case("normal"),
]


def test_cells_are_counted_among_the_labels_asked_for() -> None:
    table = count_cells(CASES, LABELS, CONFIG)
    cells = [("benign", (0,)), ("benign", (1,)), ("benign", (2,)), ("dcis", (1,))]
    assert table.cells == tuple(Cell(*cell) for cell in cells)
    assert table.counts_C.tolist() == [1, 8, 3, 3]
    assert [table.words(place) for place in (0, 2)] == [{}, {"orientation": "not_parallel"}]
    assert table.places(CASES).tolist() == [1] * 8 + [2] * 3 + [0] + [3] * 3 + [-1] * 6


def test_all_cells_are_the_seen_ones_and_every_combination() -> None:
    table = count_cells(CASES, LABELS, CONFIG.but(cells="all"))
    assert len(table.cells) == 2 * 2 + 1
    assert table.counts_C.tolist() == [1, 8, 3, 3, 0]
    both = count_cells(CASES, LABELS, CONFIG.but(cells="all", attributes=("orientation", "margin")))
    assert (both.counts_C == 0).sum() == 2 * 2 * 5  # in none of the cases is a margin known


def test_errors_are_drawn_to_that_of_all_cells_and_none_is_nil() -> None:
    table = count_cells(CASES, LABELS, CONFIG.but(cells="all"))
    wrong = np.array([0] * 8 + [1, 1, 0] + [0] + [1, 0, 0] + [1] * 6)  # the last six are in no cell
    overall = 3.5 / 16
    by_hand = [(0 + 2 * overall) / 3, 2 * overall / 10, (2 + 2 * overall) / 5, (1 + 2 * overall) / 5, overall]
    assert cell_errors(table, CASES, wrong, CONFIG) == pytest.approx(by_hand)


def test_weights_grow_with_rarity_and_error() -> None:
    table = count_cells(CASES, LABELS, CONFIG)
    raw = [0.2 / math.sqrt(2), 0.3 / math.sqrt(9), 0.4 / math.sqrt(4)]
    weights = cell_weights(table, np.array([0.2, 0.3, 0.4, 0.9]), CONFIG)
    assert weights == pytest.approx([*(np.array(raw) / sum(raw)), 1.0])
    without = cell_weights(table, None, CONFIG.but(rarity=0.0))
    assert without == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    as_seen = cell_weights(table, np.array([0.2, 0.3, 0.4, 0.9]), CONFIG.but(weighting="as_seen"))
    assert as_seen == pytest.approx([1 / 12, 8 / 12, 3 / 12, 1.0])


def test_no_cell_of_all_is_left_without_weight_when_tailored() -> None:
    table = count_cells(CASES, LABELS, CONFIG.but(cells="all"))
    perfect = cell_errors(table, CASES, np.zeros(len(CASES)), CONFIG)
    assert (cell_weights(table, perfect, CONFIG) > 0).all()


@pytest.mark.parametrize("attributes", [("colour",), ("margin", "margin")])
def test_attributes_that_are_none_are_refused(attributes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"no descriptor|twice"):
        CONFIG.but(attributes=attributes)


def test_cells_that_no_image_shows_cannot_be_drawn_as_often_as_seen() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        CONFIG.but(cells="all", weighting="as_seen")
