"""The published data sets, each in its own layout, read as they were written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.busgen.readers.registry import source_files
from tests.models.busgen.readers.making import WIDTH, edges, patch, read, save, speckle
from tests.models.busgen.readers.published import MAKERS, breast, busbra, buscot, busi, uclm, udiat


def test_busi_is_read_as_it_was_written(tmp_path: Path):
    scans = read("busi", busi(tmp_path))
    assert list(scans) == [
        "benign/benign (1).png",
        "benign/benign (2).png",
        "benign/benign (10).png",
        "malignant/malignant (1).png",
        "normal/normal (1).png",
    ]
    several = scans["benign/benign (10).png"]
    np.testing.assert_array_equal(several.pixels_HW, speckle(10))
    np.testing.assert_array_equal(several.mask_HW, patch(2, 3, 8, 10) | patch(12, 20, 18, 29))
    assert edges(several) == [(3, 2, 10, 8), (20, 12, 29, 18)]
    np.testing.assert_array_equal(scans["malignant/malignant (1).png"].pixels_HW, speckle(20))
    normal = scans["normal/normal (1).png"]
    assert normal.mask_HW is not None
    assert not normal.mask_HW.any()
    assert normal.case.boxes == ()
    assert len({scan.case.patient for scan in scans.values()}) == len(scans)


def test_busbra_takes_case_box_and_histology_from_its_table(tmp_path: Path):
    scans = read("busbra", busbra(tmp_path))
    left, right, dcis = scans.values()
    assert left.case.patient == right.case.patient == "1"
    assert (dcis.case.patient, dcis.case.pathology, dcis.case.subtype, dcis.case.birads) == (
        "2",
        "malignant",
        "dcis",
        "5",
    )
    assert left.case.device == "GE Logiq 7"
    np.testing.assert_array_equal(left.pixels_HW, speckle(0))
    np.testing.assert_array_equal(left.mask_HW, patch(2, 3, 8, 10))
    assert edges(left) == [(3, 2, 10, 8)]
    assert edges(dcis) == [(3, 2, WIDTH, 8)]  # runs out by the one pixel that counting from 1 explains


def test_breast_translates_descriptors_pixel_size_and_alpha(tmp_path: Path):
    benign, malignant, normal = read("breast", breast(tmp_path)).values()
    np.testing.assert_array_equal(benign.pixels_HW, speckle(1))
    np.testing.assert_array_equal(benign.mask_HW, patch(2, 3, 8, 10))
    assert edges(malignant) == [(3, 2, 10, 8), (3, 11, 10, 17)]
    assert benign.case.mm_per_pixel == pytest.approx(0.076)
    assert benign.case.descriptors == {
        "shape": "irregular",
        "echo_pattern": "complex",
        "posterior": "none",
        "halo": "present",
        "margin": "circumscribed",
    }
    assert malignant.case.descriptors["margin"] == "angular"
    assert malignant.case.descriptors["calcifications"] == "in_mass"
    assert (malignant.case.subtype, malignant.case.birads, malignant.case.patient) == ("dcis", "4a", "2")
    assert normal.case.descriptors == {}
    assert (normal.case.pathology, normal.case.subtype, normal.case.boxes) == ("normal", "", ())
    assert benign.case.licence == "CC BY 4.0"


def test_udiat_takes_the_class_from_its_sheet(tmp_path: Path):
    benign, malignant = read("udiat", udiat(tmp_path)).values()
    assert (benign.case.pathology, malignant.case.pathology) == ("benign", "malignant")
    np.testing.assert_array_equal(malignant.pixels_HW, speckle(2))
    np.testing.assert_array_equal(malignant.mask_HW, patch(2, 3, 8, 10))
    assert benign.case.patient != malignant.case.patient


def test_uclm_reads_colours_flags_and_the_patient_of_the_prefix(tmp_path: Path):
    normal, benign, malignant = read("uclm", uclm(tmp_path)).values()
    assert normal.case.patient == benign.case.patient == "ALWI"
    assert malignant.case.patient == "BETA"
    assert (normal.case.flags, benign.case.flags) == ((), ("calipers",))
    assert malignant.case.flags == ("doppler", "combined")
    assert edges(malignant) == [(20, 12, 29, 18), (3, 2, 10, 8)]  # the benign lesion, then the malignant one
    np.testing.assert_array_equal(malignant.mask_HW, patch(2, 3, 8, 10) | patch(12, 20, 18, 29))
    np.testing.assert_array_equal(benign.pixels_HW, speckle(1))


def test_buscot_takes_patients_from_the_images_that_lesions_were_cut_from(tmp_path: Path):
    malignant, benign = read("buscot", buscot(tmp_path)).values()
    assert (malignant.case.patient, benign.case.patient) == ("P0", "P1")
    assert (malignant.case.subtype, malignant.case.birads) == ("dcis", "4c")
    assert malignant.case.descriptors == {
        "margin": "indistinct",
        "echo_pattern": "hypoechoic",
        "calcifications": "in_mass",
    }
    assert benign.case.descriptors == {"margin": "circumscribed", "echo_pattern": "hypoechoic"}
    assert malignant.mask_HW is None
    np.testing.assert_array_equal(benign.pixels_HW, speckle(1))


def test_buscot_without_its_second_file_takes_the_source_image_for_the_patient(tmp_path: Path):
    root = buscot(tmp_path)
    (root / "DatasetFiles" / "BUS-Expert_dataset.json").unlink()
    assert [scan.case.patient for scan in read("buscot", root).values()] == ["image 000000", "image 000001"]


@pytest.mark.parametrize("layout", MAKERS)
def test_the_folder_above_serves_as_well_and_the_order_is_fixed(tmp_path: Path, layout: str):
    root = MAKERS[layout](tmp_path)
    above = read(layout, tmp_path)
    assert [scan.case.patient for scan in above.values()] == [s.case.patient for s in read(layout, root).values()]
    assert list(above) == list(read(layout, tmp_path))


@pytest.mark.parametrize("layout", MAKERS)
def test_source_files_are_all_files_but_those_of_other_structures(tmp_path: Path, layout: str):
    root = MAKERS[layout](tmp_path)
    there = {path for path in root.rglob("*") if path.is_file() and "_other" not in path.name}
    found = source_files(layout, root)
    assert len(found) == len(set(found))
    assert set(found) == there
    assert found == source_files(layout, root)


def test_sixteen_bit_and_coloured_input_is_accepted_and_converted(tmp_path: Path):
    root = busi(tmp_path)
    wide = speckle(1).astype(np.uint16) * 200 + 300
    save(root / "benign" / "benign (1).png", wide)
    flow = np.repeat(speckle(2)[..., None], 3, axis=-1)
    flow[5:10, 5:10] = (250, 60, 0)
    save(root / "benign" / "benign (2).png", flow)
    scans = read("busi", root)
    expected = np.rint((wide - wide.min()) * 255.0 / np.ptp(wide))
    np.testing.assert_array_equal(scans["benign/benign (1).png"].pixels_HW, expected)
    assert scans["benign/benign (2).png"].case.flags == ("doppler",)
    np.testing.assert_array_equal(
        scans["benign/benign (2).png"].pixels_HW, np.asarray(Image.fromarray(flow).convert("L"))
    )
