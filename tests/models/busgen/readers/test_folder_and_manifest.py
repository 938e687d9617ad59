import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.busgen.images.cases import Box, Case
from models.busgen.readers.registry import source_files
from models.common.errors import DataError
from tests.models.busgen.readers.making import edges, faults, patch, read, save, speckle


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "manifest.json").write_text(json.dumps(rows))
    return folder


def test_a_folder_is_read_by_its_classes_and_subtypes(tmp_path: Path):
    save(tmp_path / "benign" / "b 10.png", speckle(10))
    save(tmp_path / "benign" / "b 9.jpg", speckle(9))
    save(tmp_path / "Malignant" / "DCIS" / "m.png", speckle(1))
    save(tmp_path / "Malignant" / "DCIS" / "m_mask.png", patch(2, 3, 8, 10))
    save(tmp_path / "dcis" / "d.tif", speckle(2))
    save(tmp_path / "normal" / "n.bmp", speckle(3))
    (tmp_path / "benign" / "notes.txt").write_text("not a picture")
    scans = read("folder", tmp_path)
    labels = {name: (scan.case.pathology, scan.case.subtype) for name, scan in scans.items()}
    assert labels == {
        "benign/b 9.jpg": ("benign", ""),
        "benign/b 10.png": ("benign", ""),
        "Malignant/DCIS/m.png": ("malignant", "dcis"),
        "dcis/d.tif": ("malignant", "dcis"),
        "normal/n.bmp": ("normal", ""),
    }
    names = list(scans)
    assert names.index("benign/b 9.jpg") < names.index("benign/b 10.png")
    np.testing.assert_array_equal(scans["Malignant/DCIS/m.png"].pixels_HW, speckle(1))
    assert edges(scans["Malignant/DCIS/m.png"]) == [(3, 2, 10, 8)]
    assert scans["benign/b 10.png"].mask_HW is None
    assert scans["normal/n.bmp"].mask_HW is not None
    assert len(source_files("folder", tmp_path)) == 6


def test_what_lies_in_no_class_is_quarantined(tmp_path: Path):
    save(tmp_path / "benign" / "a.png", speckle(0))
    save(tmp_path / "benign" / "b_mask.png", patch(1, 1, 2, 2))
    save(tmp_path / "loose.png", speckle(1))
    save(tmp_path / "begnin" / "c.png", speckle(2))
    scans, reasons = faults("folder", tmp_path)
    assert list(scans) == ["benign/a.png"]
    assert "lies in no class's folder" in reasons["loose.png"]
    assert "'begnin' is no class; fits: normal, benign" in reasons["begnin/c.png"]
    assert reasons["benign/b_mask.png"] == "it is a mask without an image"


def test_a_manifest_in_json_carries_every_field_of_a_case(tmp_path: Path):
    path = save(tmp_path / "images" / "a.png", speckle(0))
    case = Case(
        name="a",
        source="hospital",
        patient="p1",
        pathology="malignant",
        subtype="dcis",
        birads="4a",
        device="a scanner",
        boxes=(Box(0.1, 0.1, 0.5, 0.5),),
        descriptors={"posterior": "none", "halo": "present"},
        mm_per_pixel=0.1,
        flags=("calipers",),
        licence="ours",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        split="test",
        truth={"log_odds": 1.5},
    )
    write(tmp_path, [{"image": "images/a.png", **case.as_json()}])
    (scan,) = read("manifest", tmp_path).values()
    assert scan.case == case
    np.testing.assert_array_equal(scan.pixels_HW, speckle(0))


def test_a_manifest_in_csv_says_the_same(tmp_path: Path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", speckle(0))
    save(tmp_path / "a1.png", patch(2, 3, 8, 10))
    save(tmp_path / "a2.png", patch(12, 20, 18, 29))
    (tmp_path / "list.csv").write_text(
        "image;mask;pathology;subtype;patient;posterior;boxes_px;flags;mm_per_pixel\n"
        "a.png;a1.png|a2.png;malignant;Ductal carcinoma in situ;p1;none;;doppler|calipers;0,5\n".replace("0,5", "0.5")
        + 'b.png;;Benign;;p1;;"[[3, 2, 10, 8]]";;\n'
    )
    first, second = read("manifest", tmp_path / "list.csv").values()
    assert edges(first) == [(3, 2, 10, 8), (20, 12, 29, 18)]
    assert (first.case.subtype, first.case.flags, first.case.mm_per_pixel) == ("dcis", ("doppler", "calipers"), 0.5)
    assert first.case.descriptors == {"posterior": "none"}
    assert edges(second) == [(3, 2, 10, 8)]
    assert first.case.patient == second.case.patient == "p1"
    assert {path.name for path in source_files("manifest", tmp_path / "list.csv")} == {
        "list.csv",
        "a.png",
        "a1.png",
        "a2.png",
        "b.png",
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"boxes_px": [[3, 2, 31, 8]]}, "box 3, 2 to 31, 8 does not lie in the image of 30 x 20 pixels"),
        ({"boxes": [[0.1, 0.1, 1.2, 0.5]]}, "does not lie in the image"),
        ({"boxes": [[0.1, 0.1]]}, "fits: [[left, top, right, bottom], ...]"),
        ({"boxes": [[0, 0, 1, 1]], "boxes_px": [[0, 0, 9, 9]]}, "fits: one of the two"),
        ({"pathology": "bad"}, "its pathology is 'bad'; fits: normal, benign, malignant"),
        ({"descriptors": {"shape": "square"}}, "shape is 'square'"),
        ({"posterior": "bright"}, "posterior is 'bright'"),
        ({"flags": ["blurred"]}, "its flags are blurred; fits: doppler"),
        ({"mm_per_pixel": -1}, "fits: more than 0"),
        ({"mm_per_pixel": "wide"}, "fits: a number"),
        ({"sha256": "0" * 64}, "the manifest says 000000000000"),
        ({"mask": "none.png"}, "missing"),
        ({"image": "a.dcm"}, "the layout 'dicom' reads it"),
        ({"image": "away.png"}, "the file is missing"),
    ],
)
def test_a_faulty_row_is_quarantined(tmp_path: Path, row: dict[str, Any], reason: str):
    save(tmp_path / "a.png", speckle(0))
    save(tmp_path / "b.png", speckle(1))
    write(tmp_path, [{"image": "a.png", "pathology": "benign", **row}, {"image": "b.png", "pathology": "benign"}])
    scans, reasons = faults("manifest", tmp_path)
    assert list(scans) == ["b.png"]
    (found,) = reasons.values()
    assert reason in found


def test_a_manifest_that_cannot_be_meant_is_refused(tmp_path: Path):
    write(tmp_path, [{"image": "a.png", "pathology": "benign", "pathologie": "x"}])
    with pytest.raises(DataError, match="has the column pathologie"):
        read("manifest", tmp_path)
    write(tmp_path, [{"pathology": "benign"}])
    with pytest.raises(DataError, match="row 1 names no image"):
        read("manifest", tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        read("manifest", tmp_path)
    (tmp_path / "manifest.csv").write_text("image,pathology\na.png\n")
    with pytest.raises(DataError, match="remove one of them"):
        read("manifest", tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DataError, match="row 2: it does not have the header's 2 cells"):
        read("manifest", tmp_path)


def test_an_image_without_a_patient_is_its_own(tmp_path: Path):
    for name in ("a.png", "b.png"):
        save(tmp_path / name, speckle(0))
    write(tmp_path, [{"image": name, "pathology": "benign"} for name in ("a.png", "b.png")])
    first, second = read("manifest", tmp_path).values()
    assert (first.case.patient, second.case.patient) == ("a.png", "b.png")
    assert replace(first.case, name="", patient="") == replace(second.case, name="", patient="")
