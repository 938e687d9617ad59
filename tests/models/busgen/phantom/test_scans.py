"""The phantom's scans: repeatable, whole, and with the facts that they claim."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from models.busgen.images.cases import PATHOLOGIES, Scan
from models.busgen.images.descriptors import numbers_of
from models.busgen.phantom import oracle, scans
from models.busgen.phantom.devices import DEVICES
from models.busgen.phantom.scans import LABELS, Patient, findings_of, make_scans, patients_of, scans_of
from models.busgen.phantom.subtypes import SUBTYPES
from models.busgen.phantom_config import PhantomConfig

SMALL = PhantomConfig(side=32, normal=2, benign=4, malignant=4, dcis=4)


@pytest.fixture(scope="module")
def made() -> list[Scan]:
    return list(make_scans(SMALL.but(benign=12, malignant=12, dcis=12), 0))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = ([scan.pixels_HW.tobytes() for scan in make_scans(SMALL, seed)] for seed in (5, 5, 6))
    assert first == again
    assert not set(first) & set(other)


def test_a_patient_is_the_same_however_many_others_there_are():
    patient = Patient("dcis", 3)
    alone = next(iter(scans_of(PhantomConfig(side=32, benign=0, malignant=0, dcis=4), 1, patient)))
    among = next(scan for scan in make_scans(SMALL, 1) if scan.case.name == alone.case.name)
    assert np.array_equal(alone.pixels_HW, among.pixels_HW)
    assert alone.case == among.case


def test_patients_of_two_labels_have_nothing_in_common():
    # Random numbers that two labels shared would give the same devices; of five, one in five agrees by chance.
    pairs = [
        [findings_of(SMALL, 8, Patient(label, number)).device for label in ("malignant", "dcis")]
        for number in range(300)
    ]
    assert sum(first == second for first, second in pairs) / 300 == pytest.approx(0.2, abs=0.1)


def test_patients_come_in_the_numbers_of_the_config(made: list[Scan]):
    config = SMALL.but(benign=12, malignant=12, dcis=12)
    assert Counter(patient.label for patient in patients_of(config)) == {"normal": 2} | dict.fromkeys(LABELS[1:], 12)
    assert Counter(scan.case.label(LABELS) for scan in made) == {"normal": 2} | dict.fromkeys(LABELS[1:], 12)
    assert len({scan.case.name for scan in made}) == len(made)


def test_a_case_says_what_is_in_the_image(made: list[Scan]):
    for scan in made:
        case = scan.case
        assert scan.pixels_HW.shape == (32, 32)
        assert scan.pixels_HW.dtype == np.uint8
        assert scan.mask_HW is not None
        assert case.source == "phantom"
        assert case.pathology in PATHOLOGIES
        assert case.sha256 == hashlib.sha256(scan.pixels_HW.tobytes()).hexdigest()
        assert case.mm_per_pixel == pytest.approx(SMALL.fov_mm / DEVICES[case.device].zoom / 32)
        numbers_of(case.descriptors)  # raises for a word that is not in the lexicon
        if case.pathology != "normal":
            assert case.pathology == SUBTYPES[case.subtype].pathology
            assert case.truth == oracle.truth_of(case.descriptors, 0.0)
            assert case.birads == oracle.birads_of(case.truth["log_odds_malignant"])


def test_mask_and_box_fit_each_other_and_lie_inside(made: list[Scan]):
    for scan in made:
        assert scan.mask_HW is not None
        if scan.case.pathology == "normal":
            assert not scan.mask_HW.any()
            assert scan.case.boxes == ()
            continue
        (box,) = scan.case.boxes
        rows, columns = np.nonzero(scan.mask_HW)
        assert np.array([box.left, box.top, box.right, box.bottom]) * 32 == pytest.approx(
            np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        )
        border = np.ones_like(scan.mask_HW)
        border[1:-1, 1:-1] = False
        assert not (scan.mask_HW & border).any(), "a lesion touches the edge of its image"


def test_dark_lesions_are_darker_than_what_is_beside_them(made: list[Scan]):
    darker = []
    for scan in made:
        if scan.mask_HW is None or scan.case.descriptors.get("echo_pattern") not in ("anechoic", "hypoechoic"):
            continue
        rows = np.flatnonzero(scan.mask_HW.any(axis=1))
        beside = np.zeros_like(scan.mask_HW)
        beside[rows] = ~scan.mask_HW.any(axis=0)
        darker.append(scan.pixels_HW[scan.mask_HW].mean() < scan.pixels_HW[beside].mean() - 10)
    assert len(darker) > 10
    assert np.mean(darker) > 0.85


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_shows_an_image_of_ordinary_contrast(device: str):
    for side in (32, 128):
        config = PhantomConfig(side=side, benign=1, malignant=0, devices=(device,))
        (scan,) = make_scans(config, 2)
        assert scan.case.device == device
        assert 30 < scan.pixels_HW.mean() < 160
        assert scan.pixels_HW.std() > 12
        assert np.mean(scan.pixels_HW == 255) < 0.05


def test_frames_of_a_patient_are_more_alike_than_those_of_two_but_not_the_same():
    config = PhantomConfig(side=32, benign=4, malignant=0, frames=3, devices=("linear-10",))
    images = np.array([scan.pixels_HW.ravel() for scan in make_scans(config, 3)], float)
    alike = np.corrcoef(images)
    whose = np.repeat(np.arange(4), 3)
    same = whose[:, None] == whose
    off = ~np.eye(12, dtype=bool)
    assert alike[same & off].mean() > alike[~same].mean() + 0.2
    assert alike[same & off].max() < 0.9999


def test_frames_without_motion_are_one_image():
    config = PhantomConfig(side=32, benign=1, malignant=0, frames=2, motion_mm=0.0)
    first, second = make_scans(config, 4)
    assert np.array_equal(first.pixels_HW, second.pixels_HW)
    assert first.case.patient == second.case.patient
    assert first.case.name != second.case.name


def test_more_pixels_show_the_same_lesion():
    coarse, fine = (PhantomConfig(side=side, benign=0, malignant=4) for side in (32, 128))
    for small, large in zip(make_scans(coarse, 5), make_scans(fine, 5), strict=True):
        assert small.mask_HW is not None
        assert large.mask_HW is not None
        assert small.case.descriptors == large.case.descriptors
        reduced = large.mask_HW.reshape(32, 4, 32, 4).mean(axis=(1, 3)) >= 0.5
        assert (reduced ^ small.mask_HW).sum() <= 0.15 * small.mask_HW.sum() + 2


def test_the_picture_depends_on_the_subtype_through_its_descriptors_only(monkeypatch: pytest.MonkeyPatch):
    patient = Patient("benign", 0)
    (before,) = scans_of(SMALL, 6, patient)
    found = findings_of(SMALL, 6, patient)
    other = replace(found, subtype="idc", pathology="malignant")
    monkeypatch.setattr(scans, "findings_of", lambda config, seed, patient: other)
    (after,) = scans_of(SMALL, 6, patient)
    assert after.case.subtype == "idc"
    assert np.array_equal(before.pixels_HW, after.pixels_HW)


def test_a_full_correlation_tells_the_class_by_the_device_and_none_does_not():
    devices = ("linear-7", "linear-10", "linear-12", "linear-14")
    seen: dict[float, dict[str, Counter[str]]] = {}
    for correlation in (0.0, 1.0):
        config = PhantomConfig(devices=devices, device_class_correlation=correlation)
        seen[correlation] = {
            label: Counter(findings_of(config, 7, Patient(label, number)).device for number in range(400))
            for label in LABELS
        }
    for label in LABELS:
        expected = set(devices[2:] if label in ("malignant", "dcis") else devices[:2])
        assert set(seen[1.0][label]) == expected
        assert all(abs(seen[0.0][label][device] - 100) < 4.5 * 8.7 for device in devices)  # sqrt(400 / 4 x 3 / 4) = 8.7
