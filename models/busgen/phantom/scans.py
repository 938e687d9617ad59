"""The phantom's patients and their scans. Each patient depends on the seed, the label and its number only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from models.busgen.images.boxes import mask_boxes
from models.busgen.images.cases import Case, Scan
from models.busgen.phantom import oracle
from models.busgen.phantom.anatomy import Breast, draw_breast
from models.busgen.phantom.devices import DEVICES, Device
from models.busgen.phantom.fields import draw_curve
from models.busgen.phantom.lesions import Lesion, draw_lesion
from models.busgen.phantom.picture import Exam, Grid, Probe, draw_speckle, grid_of, moved_speckle, picture_of
from models.busgen.phantom.subtypes import SUBTYPES
from models.busgen.phantom_config import PhantomConfig

SOURCE = "phantom"
LABELS = ("normal", "benign", "malignant", "dcis")
_FINDINGS, _TISSUE, _SPECKLE, _FRAMES = range(4)  # streams of random numbers; a frame's is _FRAMES + its number


@dataclass(frozen=True)
class Patient:
    """One patient of a config. number: its place among those of its label, from 0."""

    label: str
    number: int


@dataclass(frozen=True)
class Findings:
    """What is known of a patient before a picture is made."""

    subtype: str
    pathology: str
    descriptors: dict[str, str]
    device: str


def make_scans(config: PhantomConfig, seed: int) -> Iterator[Scan]:
    """All scans of a config, patient by patient, and each patient's frames in order."""
    for patient in patients_of(config):
        yield from scans_of(config, seed, patient)


def patients_of(config: PhantomConfig) -> list[Patient]:
    """All patients of a config, label by label; `scans_of` may be given them in any order, in any process."""
    return [Patient(label, number) for label in LABELS for number in range(getattr(config, label))]


def findings_of(config: PhantomConfig, seed: int, patient: Patient) -> Findings:
    """The subtype, then its descriptors, then the device; a normal patient has neither of the first two."""
    rng = _stream(seed, patient, _FINDINGS)
    if patient.label == "normal":
        return Findings("", "normal", {}, _draw_device(config, rng, cancer=False))
    subtype = oracle.draw_subtype(patient.label, rng)
    descriptors = oracle.draw_descriptors(subtype, config.overlap, rng)
    pathology = SUBTYPES[subtype].pathology
    return Findings(subtype, pathology, descriptors, _draw_device(config, rng, cancer=pathology == "malignant"))


def cases_of(config: PhantomConfig, seed: int, patient: Patient) -> list[Case]:
    """What is known of one patient's frames before there is a picture."""
    findings = findings_of(config, seed, patient)
    name = f"{seed}-{patient.label}-{patient.number:06d}"
    truth = oracle.truth_of(findings.descriptors, config.overlap) if findings.descriptors else {}
    of_patient = Case(
        name=name,
        source=SOURCE,
        patient=name,
        pathology=findings.pathology,
        subtype=findings.subtype,
        birads=oracle.birads_of(truth["log_odds_malignant"]) if truth else "1",
        device=findings.device,
        descriptors=findings.descriptors,
        truth=truth,
    )
    return [replace(of_patient, name=f"{name}-{frame:03d}") for frame in range(config.frames)]


def scans_of(config: PhantomConfig, seed: int, patient: Patient) -> Iterator[Scan]:
    """One patient's frames: the same tissue, lesion and device, seen as the probe wanders."""
    findings = findings_of(config, seed, patient)
    known = cases_of(config, seed, patient)
    device = DEVICES[findings.device]
    field_mm = config.fov_mm / device.zoom
    grid = grid_of(config.side, field_mm)
    # The stream is not the findings' own: tissue is drawn alike whatever the subtype, the descriptors apart.
    exam = draw_exam(findings.descriptors, device, field_mm, _stream(seed, patient, _TISSUE))
    speckle = draw_speckle(grid, device.looks, _stream(seed, patient, _SPECKLE))
    for frame in range(config.frames):
        rng = _stream(seed, patient, _FRAMES + frame)
        probe = _probe(exam, field_mm, config.motion_mm if frame else 0.0, rng)
        pixels_HW, mask_HW = picture_of(exam, probe, grid, moved_speckle(speckle, grid, probe, rng))
        yield Scan(_seen(known[frame], grid, pixels_HW, mask_HW), pixels_HW, mask_HW)


def draw_exam(descriptors: dict[str, str], device: Device, field_mm: float, rng: np.random.Generator) -> Exam:
    """A breast with a lesion of these descriptors, or with none where there are none, under this device."""
    breast = draw_breast(rng)
    knobs = {
        "gain_db": rng.normal(0.0, 1.5),
        "tgc_error": rng.normal(0.0, 0.03),
        "tgc_curve": draw_curve(rng, 9.0),
    }
    place = rng.random(2)
    if not descriptors:
        return Exam(breast, None, 0.0, 0.0, 1.0, device, **knobs)
    lesion = draw_lesion(descriptors, rng)
    size = min(1.0, (field_mm - 7.0) / (2 * lesion.reach_mm))
    room = _room(lesion, size, field_mm)
    z_mm = _lesion_depth(breast, lesion, size, field_mm, place[1])
    return Exam(breast, lesion, 0.8 * room * (2 * place[0] - 1), z_mm, size, device, **knobs)


def _lesion_depth(breast: Breast, lesion: Lesion, size: float, field_mm: float, share: float) -> float:
    """The depth of a lesion's centre: in the gland's layer, off skin and muscle where it fits between, and in view."""
    reach = lesion.reach_mm * size
    low = max(breast.gland_from_mm + 1.0, breast.gel_mm + breast.skin_mm + 0.8 + reach)
    high = min(breast.gland_to_mm - 1.0, breast.muscle_from_mm - reach)
    depth = low + share**1.4 * max(high - low, 0.0)  # rather shallow, so that what lies behind is in view
    return min(depth, field_mm - 1.0 - reach)


def _room(lesion: Lesion, size: float, field_mm: float) -> float:
    """How far from the middle a lesion's centre may lie, in mm, with all of the lesion in view."""
    return field_mm / 2 - lesion.reach_mm * size - 1.0


def _probe(exam: Exam, field_mm: float, motion_mm: float, rng: np.random.Generator) -> Probe:
    """The probe's place, with the lesion still in view; without motion the patient's first plane, exactly."""
    along, off_plane, pressure = rng.standard_normal(3)
    along, off_plane = along * motion_mm, 0.5 * off_plane * motion_mm
    if exam.lesion is not None:
        room = _room(exam.lesion, exam.lesion_size, field_mm)
        along = float(np.clip(along, exam.lesion_x_mm - room, exam.lesion_x_mm + room))
    return Probe(along, off_plane, 0.01 * math.tanh(pressure) * min(motion_mm, 1.0))


def _draw_device(config: PhantomConfig, rng: np.random.Generator, *, cancer: bool) -> str:
    """Any device; or, as often as the config's correlation says, one of the half that is for this class."""
    told, place = rng.random() < config.device_class_correlation, rng.random()
    middle = len(config.devices) // 2
    halves = {True: config.devices[middle:], False: config.devices[:middle]}
    choice = halves[cancer] if told else config.devices
    return choice[int(place * len(choice))]


def _seen(case: Case, grid: Grid, pixels_HW: np.ndarray, mask_HW: np.ndarray) -> Case:
    """The case with what its picture tells."""
    return replace(
        case,
        boxes=mask_boxes(mask_HW),
        mm_per_pixel=grid.cell_mm * grid.size / grid.side,
        sha256=hashlib.sha256(pixels_HW.tobytes()).hexdigest(),
    )


def _stream(seed: int, patient: Patient, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, LABELS.index(patient.label), patient.number, stream])
