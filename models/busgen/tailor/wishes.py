"""What is to be generated: for each image a label, descriptors, a device, and where the lesion lies.

All of it is learnt from real images and drawn jointly: the cell first, then a real case of that cell for the other
descriptors, and a box from the density of its label.
"""

# N images   C cells   H height   W width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.busgen.images.cases import Box, Case
from models.busgen.images.dataset import Images
from models.busgen.networks.conditions import Conditions, conditions_of
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.tailor.cells import CellTable, cell_errors, cell_weights, count_cells
from models.busgen.tailor.outlines import Outlines, make_mask, outlines_of
from models.busgen.tailor.places import LesionPrior, fit_prior
from models.busgen.tailor_config import PlaceConfig, TailorConfig
from models.common.errors import DataError

NORMAL = "normal"  # the label that has no lesion


@dataclass(frozen=True)
class Knowledge:
    """What the real images of some labels tell of lesions.

    rows_by_cell, rows_by_label: the images of each. priors: of the labels with lesions whose boxes are known.
    kin: of a label, images of the class that it is a kind of.
    """

    images: Images
    table: CellTable
    weights_C: np.ndarray
    rows_by_cell: tuple[np.ndarray, ...]
    rows_by_label: Mapping[str, np.ndarray]
    priors: Mapping[str, LesionPrior]
    outlines: Outlines | None
    kin: Mapping[str, Images]
    config: TailorConfig


@dataclass(frozen=True)
class Wishes:
    """The cases of images that do not exist yet, their masks, and the same as conditions."""

    cases: tuple[Case, ...]
    masks_NHW: np.ndarray  # uint8
    conditions: Conditions


def learn_knowledge(
    images: Images,
    labels: Sequence[str],
    config: TailorConfig,
    wrong_N: np.ndarray | None = None,
    kin: Mapping[str, Images] | None = None,
) -> Knowledge:
    """What these images tell of these labels; give those alone that the generator may learn from.

    wrong_N: for each image whether the current classifier is wrong about it, best from a fold that it has not seen.
    kin: of a label with few images, many of the class that it is a kind of, to learn descriptors from.
    """
    labels = tuple(labels)
    table = count_cells(images.cases, labels, config)
    errors_C = None if wrong_N is None else cell_errors(table, images.cases, wrong_N, config)
    place_N = table.places(images.cases)
    by_label = {label: images.rows(labels=[label], classes=labels) for label in labels}
    if missing := [label for label, rows in by_label.items() if not len(rows)]:
        raise DataError(f"no image is '{missing[0]}'\nfits: labels that the images have; add such images")
    lenders = outlines_of(images) if config.place.outline == "moved" else None
    return Knowledge(
        images,
        table,
        cell_weights(table, errors_C, config),
        tuple(np.flatnonzero(place_N == place) for place in range(len(table.cells))),
        by_label,
        _fit_priors(images, by_label, config.place),
        lenders if lenders and lenders.rows else None,
        kin or {},
        config,
    )


def draw_wishes(
    knowledge: Knowledge, labels: Sequence[str], conditions: ConditionsConfig, generator: np.random.Generator
) -> Wishes:
    """One wish for each of these labels. The case says no more than the generator is told.

    generator: made from the seed and what makes these images others than the next ones.
    """
    boxes = _draw_boxes(knowledge, labels, conditions, generator)
    cases, masks = [], []
    side, place = knowledge.images.side, knowledge.config.place
    for number, label in enumerate(labels):
        cases.append(_draw_case(knowledge, number, label, boxes[number], conditions, generator))
        masks.append(make_mask(boxes[number], side, knowledge.outlines, place.alike, generator))
    masks_NHW = np.stack(masks)
    blank = Images(np.broadcast_to(np.uint8(0), masks_NHW.shape), masks_NHW, tuple(cases), {})
    return Wishes(blank.cases, masks_NHW, conditions_of(blank, conditions))


def _draw_boxes(
    knowledge: Knowledge, labels: Sequence[str], conditions: ConditionsConfig, generator: np.random.Generator
) -> list[tuple[Box, ...]]:
    """One box for each lesion; none for a normal image, and where no place is given."""
    boxes: list[tuple[Box, ...]] = [() for _ in labels]
    if conditions.mask == "none":
        return boxes
    for label in dict.fromkeys(labels):
        if label == NORMAL:
            continue
        if label not in knowledge.priors:
            known = sum(len(case.boxes) for case in knowledge.images.cases)
            raise DataError(
                f"{known} boxes do not tell where lesions lie\n"
                f"fits: {knowledge.config.place.least_boxes} or more; add images with boxes, or set mask='none'"
            )
        rows = [number for number, one in enumerate(labels) if one == label]
        for number, box in zip(rows, knowledge.priors[label].draw(len(rows), generator), strict=True):
            boxes[number] = (box,)
    return boxes


def _draw_case(
    knowledge: Knowledge,
    number: int,
    label: str,
    boxes: tuple[Box, ...],
    conditions: ConditionsConfig,
    generator: np.random.Generator,
) -> Case:
    like = knowledge.images.cases[knowledge.rows_by_label[label][0]]
    descriptors = _draw_descriptors(knowledge, label, generator)
    return Case(
        name=f"{number}",
        source="generated",
        patient=f"generated {number}",
        pathology=like.pathology,
        subtype=label if like.subtype == label else "",
        device=_draw_device(knowledge, label, conditions, generator),
        boxes=boxes,
        descriptors={name: value for name, value in descriptors.items() if name in conditions.descriptors},
    )


def _draw_descriptors(knowledge: Knowledge, label: str, generator: np.random.Generator) -> dict[str, str]:
    """The cell's, and with them all others of one real case of the cell; they stay open where the cell has none.

    Or those of a real case of the class that the label is a kind of.
    """
    kin = knowledge.kin.get(label)
    if kin is not None and generator.random() < _share_of_kin(knowledge, label):
        return dict(kin.cases[generator.integers(len(kin))].descriptors)
    table = knowledge.table
    of_label = [place for place, cell in enumerate(table.cells) if cell.label == label]
    place = of_label[generator.choice(len(of_label), p=knowledge.weights_C[of_label])]
    rows = knowledge.rows_by_cell[place]
    others = knowledge.images.cases[generator.choice(rows)].descriptors if len(rows) else {}
    return {**others, **table.words(place)}


def _share_of_kin(knowledge: Knowledge, label: str) -> float:
    """k / (n + k) with n images of the label: what a prior that is worth k images has in the posterior's mean."""
    worth = knowledge.config.kin_images
    return worth / (len(knowledge.rows_by_label[label]) + worth)


def _draw_device(knowledge: Knowledge, label: str, conditions: ConditionsConfig, generator: np.random.Generator) -> str:
    how, devices = knowledge.config.devices, conditions.devices
    if how == "open" or not devices:
        return ""
    if how == "even":
        return str(generator.choice(devices))
    seen = knowledge.images.cases[generator.choice(knowledge.rows_by_label[label])].device
    return seen if seen in devices else ""


def _fit_priors(images: Images, by_label: Mapping[str, np.ndarray], config: PlaceConfig) -> dict[str, LesionPrior]:
    """A density for each label with lesions; a label with too few boxes shares that of all."""
    boxes = {label: [box for row in rows for box in images.cases[row].boxes] for label, rows in by_label.items()}
    together = [box for found in boxes.values() for box in found]
    if len(together) < config.least_boxes:
        return {}
    enough = {label: found if len(found) >= config.least_boxes else together for label, found in boxes.items()}
    return {label: fit_prior(found, config.bandwidth) for label, found in enough.items() if label != NORMAL}
