"""The images of BUSGen's report: real beside generated, and what the search for copies found nearest."""

# N images   R training images   H height   W width

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.busgen.findings import Found
from models.busgen.images.dataset import Images
from models.busgen.privacy.copies import CopySearch, plant_copies
from models.busgen.privacy.neighbours import patient_names
from models.common.image_grid import ImageGrid

_EDGE = 96  # pixels that an image is enlarged to, about
_ROOM, _BESIDE = 745, 10  # pixels of the page that a row of images has, and between two of them
_MOST_COLUMNS = 10
_Row = list[np.ndarray | None]


def image_grids(found: Found) -> list[ImageGrid]:
    """Real beside generated: by class, by device where there are several, and with the unadapted generator."""
    grids = [by_class(found)]
    if len(devices_of(found)) > 1:
        grids.append(by_device(found))
    return [*grids, by_generator(found)]


def by_class(found: Found) -> ImageGrid:
    """Rows of real and of generated images of either label."""
    task, columns = found.config.generation.adaptation, columns_of(found.images.side)
    rows, labels = [], []
    for label in task.labels:
        real_N, generated_N = _real(found, label), _generated(found, label)
        rows += [_picked(found.images, real_N, columns), _picked(found.generated, generated_N, columns)]
        labels += [f"real {label}", f"generated {label}"]
    return ImageGrid.of(
        "Real beside generated",
        rows,
        row_labels=tuple(labels),
        caption="Real: of the test, one image a patient, seen by no training. Generated: by the adapted generator. "
        "Every so many of each; none is chosen by hand.",
        **_look(found.images.side),
    )


def devices_of(found: Found) -> list[str]:
    """The devices that the test or the generated images name."""
    cases = [*(found.images.cases[row] for row in found.test_rows_N), *found.generated.cases]
    return sorted({case.device for case in cases} - {""})


def by_device(found: Found) -> ImageGrid:
    """A row for each device, the real images left and the generated ones right."""
    side = max(1, (columns_of(found.images.side) - 1) // 2)
    rows: list[_Row] = []
    for device in devices_of(found):
        real_N = _of_device(found.images, _one_a_patient(found.images, found.test_rows_N), device)
        generated_N = _of_device(found.generated, np.arange(len(found.generated)), device)
        rows.append([*_picked(found.images, real_N, side), None, *_picked(found.generated, generated_N, side)])
    return ImageGrid.of(
        "By device",
        rows,
        row_labels=tuple(devices_of(found)),
        column_labels=(*["real"] * side, "", *["generated"] * side),
        caption="Either label. A generated image has the device that it was asked for.",
        **_look(found.images.side),
    )


def by_generator(found: Found) -> ImageGrid:
    """The real images, the adapted generator's, and those of the generator before it saw the few lesions."""
    task, columns = found.config.generation.adaptation, columns_of(found.images.side)
    shown = found.distances.unadapted_shown
    real_N = _in_turn(*(_real(found, label) for label in task.labels))
    adapted_N, shown_N = (
        _in_turn(*(images.rows(labels=(label,), classes=task.labels) for label in task.labels))
        for images in (found.generated, shown)
    )
    return ImageGrid.of(
        "Before and after adaptation",
        [
            _filled([found.images.pixels_NHW[row] for row in real_N[:columns]], columns),
            _filled([found.generated.pixels_NHW[row] for row in adapted_N[:columns]], columns),
            _filled([shown.pixels_NHW[row] for row in shown_N[:columns]], columns),
        ],
        row_labels=("real", "adapted", "unadapted"),
        caption=f"{task.positive} and {task.negative} in turn. Unadapted: the pretrained generator, asked for the same "
        f"labels{_as_parents(found)}.",
        **_look(found.images.side),
    )


def _as_parents(found: Found) -> str:
    """What the unadapted generator takes classes for that it does not know."""
    parents = found.config.generation.adaptation.parents
    return "".join(f"; it takes {name} for {parent}" for name, parent in parents.items())


def pair_grids(found: Found) -> list[ImageGrid]:
    """The nearest pairs of each measure of distance, and planted copies."""
    privacy = found.privacy
    searches = [search for search in (privacy.by_pixels, privacy.by_features) if search and search.pairs]
    planted = [planted_grid(found)] if privacy.by_pixels.planted else []
    return [*(nearest_grid(found, search) for search in searches), *planted]


def nearest_grid(found: Found, search: CopySearch) -> ImageGrid:
    """Generated images that are nearest to a training image, each above it."""
    above = [found.generated.pixels_NHW[pair.generated] for pair in search.pairs]
    below = [found.images.pixels_NHW[found.training_rows_R[pair.train]] for pair in search.pairs]
    notes = [f"{one.distance:.3f}{', copy' if one.distance < search.threshold else ''}" for one in search.pairs]
    alike = "A mirrored or shifted copy counts as near. " if search.measure == "pixels" else ""
    return _in_pairs(
        f"Nearest pairs by {search.measure}",
        above,
        below,
        ("generated", "nearest real"),
        notes,
        f"Nearest first, with the distance; below {search.threshold:.3f} it is called a copy. {alike}The real image is "
        "of the training.",
        found.images.side,
    )


def planted_grid(found: Found) -> ImageGrid:
    """Copies that were planted to try the detector, each above the image that it was made of."""
    pixels = found.privacy.by_pixels
    config, columns = found.config.generation.privacy, columns_of(found.images.side)
    train_RHW = np.asarray(found.images.pixels_NHW[found.training_rows_R])
    planted_NHW, sources_N = plant_copies(train_RHW, config.plant, found.seed)
    told = [f"by {s.measure} {s.planted_found}" for s in (pixels, found.privacy.by_features) if s]
    return _in_pairs(
        "Planted copies",
        list(planted_NHW[:columns]),
        [train_RHW[row] for row in sources_N[:columns]],
        ("planted", "made of"),
        [],
        f"Altered copies of training images, put among the generated ones to try the detector. Of {pixels.planted} it "
        f"finds {', '.join(told)}.",
        found.images.side,
    )


def _in_pairs(
    title: str,
    above: Sequence[np.ndarray],
    below: Sequence[np.ndarray],
    labels: tuple[str, str],
    notes: Sequence[str],
    caption: str,
    side: int,
) -> ImageGrid:
    """Pairs one above the other, in as many double rows as the page asks for."""
    lines = -(-len(above) // columns_of(side))
    columns = -(-len(above) // lines)
    rows: list[_Row] = []
    told: list[tuple[str, ...]] = []
    for first in range(0, len(above), columns):
        part = slice(first, first + columns)
        rows += [_filled(above[part], columns), _filled(below[part], columns)]
        under = [*notes[part], *[""] * columns][:columns]
        told += [("",) * columns, tuple(under)]
    return ImageGrid.of(
        title,
        rows,
        row_labels=labels * lines,
        notes=tuple(told) if notes else (),
        caption=caption,
        **_look(side),
    )


def columns_of(side: int) -> int:
    """How many images of this side the page has room for in a row."""
    return max(3, min(_MOST_COLUMNS, _ROOM // (side * _scale(side) + _BESIDE)))


def _scale(side: int) -> int:
    return max(1, min(32, round(_EDGE / side)))


def _look(side: int) -> dict[str, Any]:
    return {"scale": _scale(side), "smooth": True}


def _real(found: Found, label: str) -> np.ndarray:
    """The rows of the test with this label, one a patient."""
    task = found.config.generation.adaptation
    rows_N = found.test_rows_N[found.positive_N == (label == task.positive)]
    return _one_a_patient(found.images, rows_N)


def _generated(found: Found, label: str) -> np.ndarray:
    task = found.config.generation.adaptation
    return found.generated.rows(labels=(label,), classes=task.labels)


def _one_a_patient(images: Images, rows_N: np.ndarray) -> np.ndarray:
    """The first row of each patient."""
    names = patient_names(images.take(rows_N)) if len(rows_N) else []
    return rows_N[np.sort(np.unique(names, return_index=True)[1])] if names else rows_N


def _of_device(images: Images, rows_N: np.ndarray, device: str) -> np.ndarray:
    return np.array([row for row in rows_N if images.cases[row].device == device], np.int64)


def _in_turn(first_N: np.ndarray, second_N: np.ndarray) -> list[int]:
    return [int(row) for pair in zip(first_N, second_N, strict=False) for row in pair]


def _picked(images: Images, rows_N: np.ndarray, count: int) -> _Row:
    """So many of these rows' images, evenly spread over them; the last places stay empty where there are fewer."""
    places = np.unique(np.linspace(0, len(rows_N) - 1, min(count, len(rows_N))).round().astype(np.int64))
    return _filled([images.pixels_NHW[row] for row in rows_N[places]], count)


def _filled(images: Sequence[np.ndarray], count: int) -> _Row:
    """The images, and Nones up to so many."""
    return [*images, *[None] * (count - len(images))]
