"""The audit: every fault is named and counted, copies do not reach two splits, and nothing is dropped in silence."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.busgen.images.audit import fault_of
from models.busgen.images.cases import Box, Case, Scan
from models.busgen.images.dataset import Images
from models.common.errors import DataError
from tests.models.busgen.images.scans import CONFIG, clinic, images_of_scans, scan, speckle

NOTHING = np.zeros((48, 64), bool)


def _with(*more: Scan, **changes: Any) -> Images:
    """A sound clinic and these scans."""
    return images_of_scans([*clinic(), *more], CONFIG.but(**changes))


def _left_out(images: Images) -> dict[str, str]:
    return {row["file"]: row["reason"] for row in images.audit["quarantined"]}


FAULTS = {
    "empty mask": scan("a", "p", "malignant", mask=NOTHING),
    "lesion in a normal image": scan("a", "p", "normal", mask=~NOTHING),
    "mask of another size": scan("a", "p", mask=np.ones((4, 4), bool)),
    "empty image": scan("a", "p", pixels=np.full((48, 64), 7, np.uint8)),
    "not grey": scan("a", "p", pixels=np.zeros((48, 64), np.uint16)),
    "too small": scan("a", "p", pixels=speckle(1, 7, 64)),
    "unknown class": scan("a", "p", "cyst"),
    "unknown descriptor": scan("a", "p", descriptors={"shape": "square"}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_image_is_left_out_named_and_counted(kind: str) -> None:
    images = _with(FAULTS[kind])
    sound = len(clinic())
    assert images.audit["images"] == {"found": sound + 1, "kept": sound, "quarantined": 1}
    assert images.audit["quarantined_by_source"] == {"made": {kind: 1}}
    assert _left_out(images)["a"].startswith(f"{kind}: ")
    assert "a" not in [case.name for case in images.cases]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_image_is_refused_by_name_where_the_config_says_so(kind: str) -> None:
    with pytest.raises(DataError, match=f"^a: {kind}: .*"):
        _with(FAULTS[kind], bad_images="refuse")


def test_a_coloured_image_is_no_grey_one() -> None:
    assert "shape (48, 64, 3)" in str(
        fault_of(Scan(Case("a", "made", "p", "benign"), np.zeros((48, 64, 3), np.uint8), None))
    )


def test_a_sound_clinic_loses_nothing() -> None:
    images = _with()
    assert images.audit["images"] == {"found": 88, "kept": 88, "quarantined": 0}
    assert images.audit["copies"] == {"exact": [], "near": [], "alike_frames": 0, "joined_patients": []}
    assert images.pixels_NHW.shape == images.masks_NHW.shape == (88, 16, 16)


def test_of_equal_images_one_stays_and_their_patients_are_one() -> None:
    images = _with(scan("a", "p", pixels=7), scan("b", "q", pixels=7), scan("c", "q", pixels=8))
    assert _left_out(images) == {"b": "copy: the same pixels as made/a"}
    assert images.audit["copies"]["exact"] == [["made/a", "made/b"]]
    assert images.audit["copies"]["joined_patients"] == [["made/p", "made/q"]]
    splits = {case.name: case.split for case in images.cases}
    assert splits["a"] == splits["c"]


@pytest.mark.parametrize(
    "other", [{"pathology": "malignant"}, {"pathology": "benign", "subtype": "cyst"}, {"pathology": "normal"}]
)
def test_an_image_with_two_classes_goes_out_under_both(other: dict[str, str]) -> None:
    first = scan("a", "p", "benign", subtype="fibroadenoma", pixels=7)
    images = _with(first, scan("b", "q", pixels=7, **other), scan("c", "q", "benign", pixels=8))
    assert set(_left_out(images)) == {"a", "b"}
    assert "made/b" in _left_out(images)["a"]
    assert images.audit["quarantined_by_source"] == {"made": {"copy with another class": 2}}


def test_a_brighter_smaller_copy_of_another_patient_with_another_class_takes_both_out() -> None:
    image = speckle(7)
    copy = (0.8 * image[::2, ::2] + 30).astype(np.uint8)
    images = _with(scan("a", "p", pixels=image), scan("b", "q", "malignant", pixels=copy))
    assert _left_out(images) == {
        "a": "near copy with another class: made/b is malignant",
        "b": "near copy with another class: made/a is benign",
    }
    [pair] = images.audit["copies"]["near"]
    assert pair["images"] == ["made/a", "made/b"]
    assert pair["correlation"] > 0.97


def test_near_copies_of_one_class_stay_and_go_into_one_split() -> None:
    more = []
    for number in range(12):
        image = speckle(700 + number)
        more += [
            scan(f"a{number}", f"p{number}", pixels=image),
            scan(f"b{number}", f"q{number}", pixels=image // 2 + 40),
        ]
    images = _with(*more)
    splits = {case.name: case.split for case in images.cases}
    assert not _left_out(images)
    assert all(splits[f"a{number}"] == splits[f"b{number}"] for number in range(12))
    assert len({splits[f"a{number}"] for number in range(12)}) > 1
    assert len(images.audit["copies"]["joined_patients"]) == 12


def test_near_copies_in_splits_that_the_data_name_stay_only_nearest_to_the_test() -> None:
    image = speckle(7)
    one, other = scan("a", "p", pixels=image, split="test"), scan("b", "q", pixels=image // 2 + 40, split="pretrain")
    assert _left_out(_with(one, other)) == {"b": "near copy in another split: made/a is in test"}
    equal = replace(other, pixels_HW=image)
    assert _left_out(_with(equal, one)) == {"b": "copy: the same pixels as made/a"}


def test_a_patient_in_two_splits_is_refused_even_by_copies_of_one_image() -> None:
    twice = [scan("a", "p", pixels=7, split="test"), scan("b", "p", pixels=7, split="pretrain")]
    with pytest.raises(DataError, match="patient made/p is in splits pretrain and test"):
        _with(*twice)


def test_frames_of_a_patient_may_be_alike_and_are_counted() -> None:
    image = speckle(7)
    frames = [scan(f"frame {number}", "p", pixels=image // 2 + number) for number in range(4)]
    images = _with(*frames)
    assert images.audit["copies"]["alike_frames"] == 3
    assert not _left_out(images)
    thinned = _with(*frames, alike_frames="quarantine")
    assert set(_left_out(thinned)) == {f"frame {number}" for number in (1, 2, 3)}


def test_a_name_given_twice_is_left_out() -> None:
    images = _with(scan("a", "p", pixels=7), scan("a", "q", pixels=8))
    assert _left_out(images) == {"a": "name twice: another image is called made/a too"}


def test_no_patient_is_in_two_splits_and_the_counts_add_up() -> None:
    images = _with()
    of_patient = {(case.patient, case.split) for case in images.cases}
    assert len(of_patient) == len({case.patient for case in images.cases})
    audit = images.audit
    assert sum(row["images"] for row in audit["counts"]) == len(images)
    for split, patients in audit["patients_by_split"].items():
        assert patients == len({case.patient for case in images.cases if case.split == split})
    dcis = Counter(row["split"] for row in audit["counts"] if row["class"] == "dcis")
    assert set(dcis) == {"few_shot", "test"}
    assert {row["device"] for row in audit["counts"]} == {"one", "two"}


def test_flags_and_lesions_without_a_place_are_counted() -> None:
    more = [
        scan("a", "p", pixels=7, flags=("doppler", "calipers")),
        scan("b", "q", pixels=8, flags=("doppler",), mask=None),
    ]
    audit = _with(*more).audit
    assert audit["flags"] == {"doppler": 2, "calipers": 1}
    assert audit["lesions_without_a_place"] == 1


def test_where_nothing_is_left_the_first_reasons_are_told() -> None:
    with pytest.raises(DataError, match=r"no image to work with; all 1 were left out\na: empty mask"):
        images_of_scans([FAULTS["empty mask"]])


def test_the_same_scans_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        _with(scan("a", "p", pixels=7), scan("b", "q", pixels=7), FAULTS["empty mask"]).write(folder)
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()
    read = Images.read(folders[0])
    assert json.loads(json.dumps(read.audit)) == read.audit
    assert all(isinstance(box, Box) for case in read.cases for box in case.boxes)
