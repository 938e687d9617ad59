"""What is wrong with the images of a dataset: faults of one image, copies among many, and the numbers of all."""

# N images   P pairs

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from models.busgen.data_config import BreastImages, SplitConfig
from models.busgen.images.cases import PATHOLOGIES, Case, Quarantine, Scan
from models.busgen.images.crops import View
from models.busgen.images.dataset import quarantine_table
from models.busgen.images.descriptors import numbers_of
from models.busgen.images.hashing import correlations, near_pairs, perceptual_hash
from models.busgen.images.splits import SPLITS, patient_of, task_label
from models.common.errors import DataError

_LEAST_EDGE = 8  # pixels; less shows no lesion
Leave = Callable[[int, str], None]  # quarantines the image of this row, for this reason


@dataclass(frozen=True)
class Candidate:
    """An image on its way into the dataset: what is kept of its scan.

    digest: of its pixels at full size. thumbnail_TT: of all of it, whatever the view shows.
    """

    view: View
    digest: str
    thumbnail_TT: np.ndarray

    @property
    def case(self) -> Case:
        return self.view.case


@dataclass
class Copies:
    """What was found of copies; pairs and groups by the images' names."""

    exact: list[list[str]] = field(default_factory=list)
    near: list[tuple[str, str, float]] = field(default_factory=list)  # of different patients, with the correlation
    alike_frames: int = 0  # images with a near copy before them that shows the same patient
    linked: set[tuple[str, str]] = field(default_factory=set)  # patients with a copy in common

    def as_json(self) -> dict[str, Any]:
        near = [{"images": [one, other], "correlation": round(alike, 4)} for one, other, alike in sorted(self.near)]
        joined = [list(pair) for pair in sorted(self.linked)]
        return {"exact": self.exact, "near": near, "alike_frames": self.alike_frames, "joined_patients": joined}


def name_of(case: Case) -> str:
    """The image's name among those of all sources."""
    return f"{case.source}/{case.name}"


def fault_of(scan: Scan) -> str | None:
    """Why the scan cannot be used, or None; what stands before the colon is the kind of fault."""
    case, pixels_HW, mask_HW = scan.case, scan.pixels_HW, scan.mask_HW
    if pixels_HW.ndim != 2 or pixels_HW.dtype != np.uint8:
        return f"not grey: pixels are {pixels_HW.dtype} of shape {pixels_HW.shape}; fits: uint8 [height, width]"
    height, width = pixels_HW.shape
    if min(height, width) < _LEAST_EDGE:
        return f"too small: {width} by {height} pixels; fits: {_LEAST_EDGE} and more"
    if pixels_HW.min() == pixels_HW.max():
        return f"empty image: every pixel is {pixels_HW.min()}"
    if case.pathology not in PATHOLOGIES:
        return f"unknown class: '{case.pathology}'; fits: {', '.join(PATHOLOGIES)}"
    if mask_HW is not None and mask_HW.shape != pixels_HW.shape:
        return f"mask of another size: {mask_HW.shape[1]} by {mask_HW.shape[0]}, the image is {width} by {height}"
    if mask_HW is not None and case.pathology != "normal" and not mask_HW.any():
        return f"empty mask: the image is {case.pathology}, and its mask marks no lesion"
    if case.pathology == "normal" and (case.boxes or (mask_HW is not None and mask_HW.any())):
        return "lesion in a normal image: a mask or a box marks one"
    try:
        numbers_of(case.descriptors)
    except DataError as fault:
        return f"unknown descriptor: {' '.join(str(fault).split())}"
    return None


def without_copies(
    candidates: Sequence[Candidate], config: BreastImages, quarantines: Mapping[str, Quarantine]
) -> tuple[list[Candidate], Copies]:
    """The candidates without those that are copies of others, and what was found.

    Of equal images one stays, the one nearest to the test. Images that are equal, or near copies of different patients,
    and have two classes all go, as nobody knows which is right. Near copies of one class stay, and link their patients;
    where the data put them into different splits, only the one nearest to the test stays.

    quarantines: by source.
    """
    copies = Copies()
    gone: set[int] = set()

    def leave(row: int, reason: str) -> None:
        if row not in gone:
            gone.add(row)
            case = candidates[row].case
            quarantines[case.source].add(case.name, reason)

    _equal_names(candidates, leave)
    _equal_images(candidates, gone, leave, copies)
    _near_copies(candidates, config, gone, leave, copies)
    kept = [candidate for row, candidate in enumerate(candidates) if row not in gone]
    there = {patient_of(candidate.case) for candidate in kept}
    copies.linked = {pair for pair in copies.linked if there.issuperset(pair)}
    return kept, copies


def _equal_names(candidates: Sequence[Candidate], leave: Leave) -> None:
    seen: set[str] = set()
    for row, candidate in enumerate(candidates):
        if (name := name_of(candidate.case)) in seen:
            leave(row, f"name twice: another image is called {name} too")
        seen.add(name)


def _equal_images(candidates: Sequence[Candidate], gone: Set[int], leave: Leave, copies: Copies) -> None:
    """Leaves all but one of each group of equal images, and all of a group that has two classes."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, candidate in enumerate(candidates):
        if row not in gone:
            groups[candidate.digest].append(row)
    for rows in (rows for rows in groups.values() if len(rows) > 1):
        cases = [candidates[row].case for row in rows]
        copies.exact.append([name_of(case) for case in cases])
        keep = max(rows, key=lambda row: _nearness(candidates[row].case))  # the first of the nearest
        if any(_differ(one, other) for one, other in combinations(cases, 2)):
            for row in rows:
                others = (candidates[other].case for other in rows if other != row)
                said = ", ".join(f"{name_of(other)} ({_class(other)})" for other in others)
                leave(row, f"copy with another class: the same pixels as {said}")
        else:
            for row in (row for row in rows if row != keep):
                leave(row, f"copy: the same pixels as {name_of(candidates[keep].case)}")
                _link(copies, candidates[row].case, candidates[keep].case)


def _near_copies(
    candidates: Sequence[Candidate], config: BreastImages, gone: Set[int], leave: Leave, copies: Copies
) -> None:
    """Goes through all near copies: links patients, and leaves what cannot stay."""
    rows = [row for row in range(len(candidates)) if row not in gone]
    frames, strangers = _near_pairs([candidates[row] for row in rows], config)
    for first, second, alike in strangers:
        one, other = rows[first], rows[second]
        first_case, second_case = candidates[one].case, candidates[other].case
        copies.near.append((name_of(first_case), name_of(second_case), alike))
        if _differ(first_case, second_case):
            for row, case in ((one, second_case), (other, first_case)):
                leave(row, f"near copy with another class: {name_of(case)} is {_class(case)}")
        elif not _apart(first_case, second_case):
            _link(copies, first_case, second_case)
        elif gone.isdisjoint((one, other)):
            stays, goes = (first_case, other) if _nearness(first_case) > _nearness(second_case) else (second_case, one)
            leave(goes, f"near copy in another split: {name_of(stays)} is in {stays.split}")
    copies.alike_frames = len(np.unique(frames[:, 1]))
    if config.alike_frames == "quarantine":
        for first, second in frames[np.lexsort(frames.T)]:  # by the later frame: whether the earlier stays is settled
            if rows[first] not in gone:
                earlier = name_of(candidates[rows[first]].case)
                leave(rows[second], f"near copy of a frame: {earlier} shows the same patient")


def _near_pairs(
    candidates: Sequence[Candidate], config: BreastImages
) -> tuple[np.ndarray, list[tuple[int, int, float]]]:
    """The near copies among the candidates: pairs of one patient [P, 2], and pairs of two with their correlations.

    Of 1,500 phantoms of 1,500 patients, no two came nearer than 7 bits and a correlation of 0.90.
    """
    patients_N = np.unique([patient_of(candidate.case) for candidate in candidates], return_inverse=True)[1]
    thumbnails_NTT = np.array([candidate.thumbnail_TT for candidate in candidates])
    hashes_N = np.array([perceptual_hash(thumbnail_TT) for thumbnail_TT in thumbnails_NTT], dtype=np.uint64)
    frames, strangers = [np.zeros((0, 2), np.int32)], []
    for first_P, second_P in near_pairs(hashes_N, config.near_duplicates):
        alike_P = correlations(thumbnails_NTT, first_P, second_P)
        sure_P = alike_P >= config.least_correlation
        same_P = patients_N[first_P] == patients_N[second_P]
        frames.append(np.stack([first_P, second_P], axis=1)[sure_P & same_P].astype(np.int32))
        two_P = sure_P & ~same_P
        strangers += zip(first_P[two_P].tolist(), second_P[two_P].tolist(), alike_P[two_P].tolist(), strict=True)
    return np.concatenate(frames), sorted(strangers)


def _differ(one: Case, other: Case) -> bool:
    """Whether two cases cannot be of one image: another pathology, or another subtype where both are known."""
    subtypes = {one.subtype, other.subtype} - {""}
    return one.pathology != other.pathology or len(subtypes) > 1


def _class(case: Case) -> str:
    return f"{case.pathology} ({case.subtype})" if case.subtype else case.pathology


def _nearness(case: Case) -> int:
    """How near to the test the split is that the data name."""
    return SPLITS.index(case.split) if case.split in SPLITS else -1


def _apart(one: Case, other: Case) -> bool:
    """Whether the data put two cases into different splits."""
    return bool(one.split and other.split) and one.split != other.split


def _link(copies: Copies, one: Case, other: Case) -> None:
    first, second = sorted((patient_of(one), patient_of(other)))
    if first != second and not _apart(one, other):
        copies.linked.add((first, second))


def summary_of(
    cases: Sequence[Case], quarantines: Mapping[str, Quarantine], copies: Copies, config: SplitConfig
) -> dict[str, Any]:
    """What `audit.json` says: how many images were found, kept and left out, by source and reason, and who is where."""
    left_out = [
        {"source": source} | row
        for source, quarantine in quarantines.items()
        for row in quarantine_table(quarantine.found)
    ]
    reasons = {
        source: dict(Counter(kind_of(one.reason) for one in quarantine.found))
        for source, quarantine in quarantines.items()
        if quarantine.found
    }
    return {
        "images": {"found": len(cases) + len(left_out), "kept": len(cases), "quarantined": len(left_out)},
        "kept_by_source": dict(Counter(case.source for case in cases)),
        "quarantined_by_source": reasons,
        "quarantined": left_out,
        "copies": copies.as_json(),
        "patients_by_split": {split: len({patient_of(c) for c in cases if c.split == split}) for split in SPLITS},
        "counts": _counts(cases, config),
        "flags": dict(Counter(flag for case in cases for flag in case.flags)),
        "lesions_without_a_place": sum(case.pathology != "normal" and not case.boxes for case in cases),
    }


def kind_of(reason: str) -> str:
    """What reasons of one kind have in common: their beginning, without numbers and names."""
    beginning = re.split(r"[:,;\n]", reason)[0]
    return re.sub(r"'[^']*'|\S+\.\w+|\d+", "…", beginning)


def _counts(cases: Sequence[Case], config: SplitConfig) -> list[dict[str, str | int]]:
    """Images and patients of each split, class, subtype and device that there is."""
    cells: defaultdict[tuple[str, str, str, str], list[Case]] = defaultdict(list)
    for case in cases:
        cells[case.split, task_label(case, config), case.subtype, case.device].append(case)
    names = ("split", "class", "subtype", "device")
    rows = sorted(cells.items(), key=lambda cell: (SPLITS.index(cell[0][0]), cell[0][1:]))
    return [
        dict(zip(names, cell, strict=True))
        | {"images": len(found), "patients": len({patient_of(case) for case in found})}
        for cell, found in rows
    ]
