"""From what phantoms and files give to a dataset: read, audit, split, write."""

# N images   S pixels of a prepared image's edge

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from models.busgen.data_config import BreastImages, FilesOrigin
from models.busgen.images.audit import Candidate, fault_of, summary_of, without_copies
from models.busgen.images.cases import Quarantine, Scan
from models.busgen.images.crops import viewed
from models.busgen.images.dataset import Images
from models.busgen.images.hashing import pixel_digest, thumbnail
from models.busgen.images.splits import given_splits, patient_of, people_of, split_of
from models.busgen.phantom.scans import Patient, patients_of, scans_of
from models.busgen.phantom_config import PhantomConfig
from models.busgen.readers.registry import read_scans
from models.common.errors import DataError

_SEEDS_APART = 1_000_003  # between the seeds of two origins, so that their phantoms differ
_PATIENTS_AT_ONCE = 8  # that a process is given
_WORTH_A_PROCESS = 100  # scans; to start one takes as long as to make some 50


@dataclass(frozen=True)
class Faulty:
    """An image that cannot be used, and why."""

    source: str
    name: str
    reason: str


def prepare(config: BreastImages, folder: Path) -> None:
    """Writes the images of all origins, audited and split by patient, into `folder`.

    Raises DataError where no image is left, a class has too few patients, or the data put a patient into two splits;
    and for the first faulty image where those are refused.
    """
    images_of(config).write(folder)


def images_of(config: BreastImages) -> Images:
    """The images of all origins, in the order they are read, with what the audit found."""
    quarantines = quarantines_of(config)
    candidates = [
        candidate
        for place in range(len(config.origins))
        for candidate in sound(_found(config, place, quarantines), quarantines)
    ]
    return assembled(candidates, config, quarantines)


def seed_of(config: BreastImages, place: int) -> int:
    """The seed of the phantoms of the origin at this place."""
    return config.seed + _SEEDS_APART * place


def quarantines_of(config: BreastImages) -> defaultdict[str, Quarantine]:
    """A quarantine for each source, made when it is asked for; all of them refuse where the config does."""
    return defaultdict(partial(Quarantine, strict=config.bad_images == "refuse"))


def candidate_of(scan: Scan, config: BreastImages) -> Candidate | Faulty:
    """What is kept of a scan: its view in the size asked for, and what its copies are known by."""
    if reason := fault_of(scan):
        return Faulty(scan.case.source, scan.case.name, reason)
    view = viewed(scan, config.side, config.crop, config.margin)
    return Candidate(view, pixel_digest(scan.pixels_HW), thumbnail(scan.pixels_HW))


def sound(found: Iterable[Candidate | Faulty], quarantines: Mapping[str, Quarantine]) -> Iterator[Candidate]:
    """The candidates; what is faulty goes to the quarantine of its source."""
    for one in found:
        if isinstance(one, Faulty):
            quarantines[one.source].add(one.name, one.reason)
        else:
            yield one


def assembled(candidates: Sequence[Candidate], config: BreastImages, quarantines: Mapping[str, Quarantine]) -> Images:
    """The dataset of these candidates: without copies, each with its split, and with the audit of all."""
    given_splits([candidate.case for candidate in candidates])
    candidates, copies = without_copies(candidates, config, quarantines)
    if not candidates:
        left_out = [f"{one.file}: {one.reason}" for quarantine in quarantines.values() for one in quarantine.found]
        told = "\n".join([f"all {len(left_out)} were left out", *left_out[:3]]) if left_out else "the origins are empty"
        raise DataError(f"there is no image to work with; {told}")
    cases = [candidate.case for candidate in candidates]
    splits = split_of(people_of(cases, copies.linked, config.splits), config.splits, config.seed)
    cases = tuple(replace(case, split=splits[patient_of(case)]) for case in cases)
    pixels_NSS = np.stack([candidate.view.pixels_SS for candidate in candidates])
    masks_NSS = np.stack([candidate.view.mask_SS for candidate in candidates])
    return Images(pixels_NSS, masks_NSS, cases, summary_of(cases, quarantines, copies, config.splits))


def _found(config: BreastImages, place: int, quarantines: Mapping[str, Quarantine]) -> Iterator[Candidate | Faulty]:
    """What the origin at this place gives."""
    origin = config.origins[place]
    if isinstance(origin, FilesOrigin):
        return _of_files(origin, config, quarantines)
    return _of_phantoms(origin, config, seed_of(config, place))


def _of_files(
    origin: FilesOrigin, config: BreastImages, quarantines: Mapping[str, Quarantine]
) -> Iterator[Candidate | Faulty]:
    for scan in read_scans(origin.layout, origin.folder, quarantines[origin.source or origin.layout]):
        case = replace(scan.case, source=origin.source or scan.case.source)
        yield candidate_of(replace(scan, case=case), config)


def _of_phantoms(origin: PhantomConfig, config: BreastImages, seed: int) -> Iterator[Candidate | Faulty]:
    """The phantoms' candidates in the order of patients, whichever process made them."""
    patients = patients_of(origin)
    made = partial(_of_patient, origin, config, seed)
    processes = min(config.processes, len(patients) * origin.frames // _WORTH_A_PROCESS)
    if processes <= 1:
        for patient in patients:
            yield from made(patient)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for found in pool.map(made, patients, chunksize=_PATIENTS_AT_ONCE):
            yield from found


def _of_patient(origin: PhantomConfig, config: BreastImages, seed: int, patient: Patient) -> list[Candidate | Faulty]:
    """Made in a process of its own, which sends back small views and not the scans."""
    return [candidate_of(scan, config) for scan in scans_of(origin, seed, patient)]
