"""Cells: a label with values of some descriptors. How often each was seen, how often it errs, how often it is drawn."""

# N images   C cells

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from models.busgen.images.cases import Case
from models.busgen.images.descriptors import DESCRIPTORS, from_numbers, numbers_of
from models.busgen.tailor_config import TailorConfig


@dataclass(frozen=True, order=True)
class Cell:
    """A label, and the number of each attribute's value; 0 where it was not known."""

    label: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class CellTable:
    """The cells in order, and of how many real images each is made."""

    attributes: tuple[str, ...]
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    counts_C: np.ndarray

    def places(self, cases: Sequence[Case]) -> np.ndarray:
        """The cell of each case, [N]; -1 where the table has none for it."""
        number = {cell: place for place, cell in enumerate(self.cells)}
        return np.array([number.get(_cell(case, self.labels, self.attributes), -1) for case in cases], np.int64)

    def words(self, place: int) -> dict[str, str]:
        """The descriptors of a cell, without those that are not known."""
        return from_numbers(self.cells[place].numbers, self.attributes)


def count_cells(cases: Sequence[Case], labels: Sequence[str], config: TailorConfig) -> CellTable:
    """The table of the cases that have one of these labels.

    Where the config says all, it also has every combination of known values that no case shows.
    """
    of_label = [case for case in cases if case.label(tuple(labels)) in labels]
    counts = Counter(_cell(case, labels, config.attributes) for case in of_label)
    cells = set(counts)
    if config.cells == "all":
        values = [range(1, len(DESCRIPTORS[name]) + 1) for name in config.attributes]
        cells |= {Cell(label, numbers) for label in labels for numbers in product(*values)}
    in_order = tuple(sorted(cells))
    return CellTable(config.attributes, tuple(labels), in_order, np.array([counts[cell] for cell in in_order]))


def cell_errors(table: CellTable, cases: Sequence[Case], wrong_N: np.ndarray, config: TailorConfig) -> np.ndarray:
    """The classifier's error in each cell, [C], drawn to its error over all cells.

        e_c = (wrong_c + b e) / (n_c + b),   e = (wrong + 1/2) / (n + 1)

    So a cell without a case has the error of all, and none has an error of 0: each is still drawn now and then.
    """
    place_N = table.places(cases)
    known_N = place_N >= 0
    place_N, wrong_N = place_N[known_N], np.asarray(wrong_N, np.float64)[known_N]
    overall = (wrong_N.sum() + 0.5) / (len(wrong_N) + 1)
    wrong_C = np.bincount(place_N, wrong_N, minlength=len(table.cells))
    cases_C = np.bincount(place_N, minlength=len(table.cells))
    return (wrong_C + config.error_cases * overall) / (cases_C + config.error_cases)


def cell_weights(table: CellTable, errors_C: np.ndarray | None, config: TailorConfig) -> np.ndarray:
    """How often each cell is drawn, [C], summing to 1 over the cells of each label.

        w_c ~ (1 / (n_c + a))^tau e_c

    errors_C: None where nothing has been diagnosed yet; then all cells err alike. As seen: w_c ~ n_c instead.
    """
    if config.weighting == "as_seen":
        weights_C = table.counts_C.astype(np.float64)
    else:
        weights_C = (table.counts_C + config.pseudo_count) ** -config.rarity
        weights_C = weights_C * (1.0 if errors_C is None else errors_C)
    for label in table.labels:
        of_label_C = np.array([cell.label == label for cell in table.cells], dtype=bool)
        if of_label_C.any():
            weights_C[of_label_C] /= weights_C[of_label_C].sum()
    return weights_C


def _cell(case: Case, labels: Sequence[str], attributes: Sequence[str]) -> Cell:
    known = {name: value for name, value in case.descriptors.items() if name in attributes}
    return Cell(case.label(tuple(labels)), tuple(numbers_of(known, attributes)))
