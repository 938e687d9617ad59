from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from models.busgen.readers.oasbud import DYNAMIC_RANGE_DB, b_mode, envelope, square_pixels
from models.busgen.readers.registry import source_files
from models.common.errors import DataError
from tests.models.busgen.readers.making import edges, faults, read

SAMPLES, LINES = 1024, 64
DEEP = round(SAMPLES * (1.54 / 80) / (38 / 510))  # rows of the image: as deep as lines are wide


def carrier(amplitude_ZL: np.ndarray, cycles: int = 256) -> np.ndarray:
    """A tone of 10 MHz at 40 MHz sampling, of this amplitude."""
    phase_Z = 2 * np.pi * cycles * np.arange(SAMPLES) / SAMPLES
    return amplitude_ZL * np.cos(phase_Z + 0.3)[:, None]


def lesion(seed: int, number: int, **changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    region = np.zeros((SAMPLES, LINES), dtype=np.uint8)
    region[256:512, 16:48] = 1
    given = {
        "id": f"SC{seed}",
        "rf1": rng.normal(size=(SAMPLES, LINES)),
        "rf2": rng.normal(size=(SAMPLES, LINES)),
        "roi1": region,
        "roi2": region,
        "birads": "4a",
        "class": number,
    }
    return {**given, **changed}


def save(path: Path, lesions: list[dict[str, Any]]) -> Path:
    fields = ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")
    held = np.zeros((1, len(lesions)), dtype=[(name, object) for name in fields if name in lesions[0]])
    for place, one in enumerate(lesions):
        for name in one:
            held[name][0, place] = one[name]
    scipy.io.savemat(path / "OASBUD.mat", {"data": held})
    return path


def test_the_envelope_of_a_modulated_carrier_is_its_amplitude():
    depth_Z = np.arange(SAMPLES) / SAMPLES
    amplitude_ZL = (3 + np.cos(2 * np.pi * 5 * depth_Z) + 0.5 * np.sin(2 * np.pi * 9 * depth_Z))[:, None] * [1.0, 7.0]
    np.testing.assert_allclose(envelope(carrier(amplitude_ZL)), amplitude_ZL, rtol=1e-9)
    np.testing.assert_allclose(envelope(carrier(amplitude_ZL) + 100.0), amplitude_ZL, rtol=1e-9)


def test_b_mode_is_linear_in_decibels():
    levels_db = np.array([[0.0, -15.0, -30.0, -60.0, -90.0]])
    np.testing.assert_array_equal(b_mode(7 * 10 ** (levels_db / 20), 60.0), [[255, 191, 128, 0, 0]])


def test_square_pixels_keep_the_mean_and_the_width():
    values = np.random.default_rng(0).random((SAMPLES, LINES))
    square = square_pixels(values)
    assert square.shape == (DEEP, LINES)
    np.testing.assert_allclose(square.mean(axis=0), values.mean(axis=0), rtol=0.01)


def test_both_planes_of_every_lesion_are_read_with_their_patient(tmp_path: Path):
    scans = read("oasbud", save(tmp_path, [lesion(0, 0), lesion(1, 1)]))
    assert list(scans) == ["OASBUD.mat#1.1", "OASBUD.mat#1.2", "OASBUD.mat#2.1", "OASBUD.mat#2.2"]
    cases = [scan.case for scan in scans.values()]
    assert [case.patient for case in cases] == ["SC0", "SC0", "SC1", "SC1"]
    assert [case.pathology for case in cases] == ["benign", "benign", "malignant", "malignant"]
    assert {case.birads for case in cases} == {"4a"}
    assert len({case.sha256 for case in cases}) == 4
    assert cases[0].mm_per_pixel == pytest.approx(38 / 510)
    assert source_files("oasbud", tmp_path) == (tmp_path / "OASBUD.mat",)


def test_the_region_is_that_of_the_file_in_square_pixels(tmp_path: Path):
    scan = read("oasbud", save(tmp_path, [lesion(0, 0)]))["OASBUD.mat#1.1"]
    assert scan.pixels_HW.shape == (DEEP, LINES)
    (left, top, right, bottom), *_ = edges(scan)
    assert (left, right) == (16, 48)
    assert top == pytest.approx(DEEP / 4, abs=1)
    assert bottom == pytest.approx(DEEP / 2, abs=1)


def test_an_echo_of_known_strength_has_its_grey_value(tmp_path: Path):
    amplitude = np.full((SAMPLES, LINES), 1e-1)  # 20 dB below the bright half
    amplitude[:, LINES // 2 :] = 1.0
    scan = read("oasbud", save(tmp_path, [lesion(0, 0, rf1=carrier(amplitude))]))["OASBUD.mat#1.1"]
    assert (scan.pixels_HW[:, LINES // 2 :] == 255).all()
    assert (scan.pixels_HW[:, : LINES // 2] == round(255 * (1 - 20 / DYNAMIC_RANGE_DB))).all()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"class": 7}, "its class is 7; fits: 0 benign, 1 malignant"),
        ({"roi1": np.ones((3, 3))}, "roi1 is (3, 3), rf1 is (1024, 64)"),
        ({"roi1": np.zeros((SAMPLES, LINES))}, "its mask is empty"),
        ({"rf1": np.full((SAMPLES, LINES), 3.0)}, "rf1 holds no echoes"),
    ],
)
def test_a_faulty_lesion_is_quarantined(tmp_path: Path, changed: dict[str, Any], reason: str):
    scans, reasons = faults("oasbud", save(tmp_path, [lesion(0, 0, **changed), lesion(1, 1)]))
    assert reason in reasons["OASBUD.mat#1.1"]
    assert "OASBUD.mat#2.1" in scans


def test_a_file_of_other_fields_or_another_kind_is_refused(tmp_path: Path):
    scipy.io.savemat(tmp_path / "OASBUD.mat", {"data": {"id": 1, "rf": np.zeros((4, 4))}})
    with pytest.raises(DataError, match=r"has the fields id, rf(?s:.*)fits: data with id, rf1"):
        read("oasbud", tmp_path)
    (tmp_path / "OASBUD.mat").write_text("no MATLAB at all, whatever its name says" * 10)
    with pytest.raises(DataError, match="no MATLAB file"):
        read("oasbud", tmp_path)
