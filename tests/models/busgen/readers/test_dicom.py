import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from models.busgen.readers import dicom_frames
from models.busgen.readers.registry import source_files
from tests.models.busgen.readers.making import edges, faults, patch, read, save, speckle

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
STILL, MOVING = UID("1.2.840.10008.5.1.4.1.1.6.1"), UID("1.2.840.10008.5.1.4.1.1.3.1")


def region(left: int, top: int, right: int, bottom: int, **more: Any) -> Dataset:
    """An ultrasound region, right and bottom included as DICOM has it, of 0.02 cm a pixel."""
    given = {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionLocationMinX0": left,
        "RegionLocationMinY0": top,
        "RegionLocationMaxX1": right,
        "RegionLocationMaxY1": bottom,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.02,
        "PhysicalDeltaY": 0.02,
    }
    part = Dataset()
    for name, value in (given | more).items():
        setattr(part, name, value)
    return part


def ultrasound(
    path: Path,
    pixels: np.ndarray,
    *,
    regions: Sequence[Dataset] = (),
    syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> Path:
    """Writes an uncompressed file of pixels [H, W], [H, W, 3] or, with NumberOfFrames, [N, H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MOVING if "NumberOfFrames" in tags else STILL
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = UID(syntax)
    little = syntax != ExplicitVRBigEndian
    made = FileDataset(str(path), {}, b"\0" * 128, meta, is_implicit_VR=False, is_little_endian=little)
    colour = pixels.shape[-1] == 3
    bits = 8 * pixels.dtype.itemsize
    given = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "Modality": "US",
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "StudyInstanceUID": "1.2.3",
        "Manufacturer": "Maker",
        "ManufacturerModelName": "Model 5",
        "Rows": pixels.shape[-3 if colour else -2],
        "Columns": pixels.shape[-2 if colour else -1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }
    if colour:
        given["PlanarConfiguration"] = 0
    for name, value in (given | tags).items():
        setattr(made, name, value)
    if regions:
        made.SequenceOfUltrasoundRegions = DicomSequence(list(regions))
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
    made["PixelData"].VR = "OB" if bits == 8 else "OW"
    made.save_as(path, enforce_file_format=True)
    return path


def shipped(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(SHIPPED / name, folder))


def grey(colours: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colours).convert("L"))


@pytest.mark.parametrize("name", ["examples_rgb_color.dcm", "examples_jpeg2k.dcm", "ExplVR_BigEnd.dcm"])
def test_real_files_of_colour_are_read_in_grey(tmp_path: Path, name: str):
    path = shipped(tmp_path / "benign", name)
    (scan,) = read("dicom", tmp_path).values()
    stored = pydicom.dcmread(path).pixel_array
    np.testing.assert_array_equal(scan.pixels_HW, grey(stored))
    assert scan.case.device == "G.E. Medical Systems LOGIQ 700"
    assert "overlay" in scan.case.flags  # no region says where the interface ends
    assert "doppler" in scan.case.flags  # power Doppler of a lymph node, colour flow in a heart
    assert scan.case.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_real_clip_of_jpeg_is_read_frame_by_frame_within_its_region(tmp_path: Path):
    path = shipped(tmp_path / "benign", "examples_ybr_color.dcm")
    clip = pydicom.dcmread(path)
    # As it is shipped the clip is scaled by a half and its region is not; mended here.
    part = clip.SequenceOfUltrasoundRegions[0]
    part.RegionLocationMinX0, part.RegionLocationMinY0 = 42, 15
    part.RegionLocationMaxX1, part.RegionLocationMaxY1 = 297, 206
    clip.save_as(path)
    scans = read("dicom", tmp_path)
    assert list(scans) == [f"benign/examples_ybr_color.dcm#{number}" for number in range(1, 31)]
    assert len({scan.case.patient for scan in scans.values()}) == 1
    # The heart stands still in some: those frames are one image, and are known as such.
    assert len({scan.case.sha256 for scan in scans.values()}) == len(
        {scan.pixels_HW.tobytes() for scan in scans.values()}
    )
    for number, scan in enumerate(scans.values()):
        whole = pixel_array(clip, index=number)
        np.testing.assert_array_equal(scan.pixels_HW, grey(whole)[15:207, 42:298])
    assert next(iter(scans.values())).case.mm_per_pixel == pytest.approx(0.51049706, rel=1e-6)


def test_a_real_clip_that_was_scaled_after_its_regions_were_written_is_quarantined(tmp_path: Path):
    shipped(tmp_path / "benign", "examples_ybr_color.dcm")
    scans, reasons = faults("dicom", tmp_path)
    assert not scans
    assert "region 84, 31 to 595, 414 runs out of its 320 x 240 pixels" in reasons["benign/examples_ybr_color.dcm"]


def test_a_real_palette_is_looked_up_and_the_banner_with_the_patients_number_cropped_away(tmp_path: Path):
    path = shipped(tmp_path / "malignant", "examples_palette.dcm")
    (scan,) = read("dicom", tmp_path).values()
    stored = pydicom.dcmread(path)
    red = np.frombuffer(stored.RedPaletteColorLookupTableData, dtype="<u2") >> 8
    green = np.frombuffer(stored.GreenPaletteColorLookupTableData, dtype="<u2") >> 8
    blue = np.frombuffer(stored.BluePaletteColorLookupTableData, dtype="<u2") >> 8
    looked_up = np.stack([red, green, blue], axis=-1)[stored.pixel_array].astype(np.uint8)
    np.testing.assert_array_equal(scan.pixels_HW, grey(looked_up)[60:, 120:])  # from below the banner to the cut
    assert scan.case.mm_per_pixel == pytest.approx(0.2622878766)
    assert "doppler" not in scan.case.flags


def test_nothing_that_identifies_is_taken_over(tmp_path: Path):
    tags: dict[str, Any] = {
        "PatientBirthDate": "19700101",
        "InstitutionName": "St Mary",
        "StudyDate": "20200101",
        "StationName": "US7",
    }
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), AccessionNumber="A123", **tags)
    (scan,) = read("dicom", tmp_path).values()
    told = json.dumps(scan.case.as_json())
    for secret in ("Doe", "Jane", "4711", "1.2.3", "A123", *tags.values()):
        assert secret not in told
    assert scan.case.patient == hashlib.sha256(b"4711").hexdigest()[:16]
    assert scan.case.device == "Maker Model 5"


def test_a_patient_is_its_number_else_its_study_else_its_file(tmp_path: Path):
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0))
    ultrasound(tmp_path / "benign" / "b.dcm", speckle(1))
    for name, study in (("c", "1.2.3"), ("d", "1.2.3"), ("e", ""), ("f", "")):
        ultrasound(tmp_path / "benign" / f"{name}.dcm", speckle(2), PatientID="", StudyInstanceUID=study)
    a, b, c, d, e, f = (scan.case.patient for scan in read("dicom", tmp_path).values())
    assert a == b
    assert c == d
    assert len({a, c, e, f}) == 4
    assert c == hashlib.sha256(b"1.2.3").hexdigest()[:16]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_both_orders_of_bytes_give_the_same_pixels(tmp_path: Path, syntax: str):
    wide = speckle(0).astype(np.uint16) * 15 + 100
    ultrasound(tmp_path / "benign" / "wide.dcm", wide, syntax=syntax, BitsStored=12, HighBit=11)
    ultrasound(tmp_path / "benign" / "plain.dcm", speckle(0), syntax=syntax)
    plain, spread = read("dicom", tmp_path).values()
    np.testing.assert_array_equal(plain.pixels_HW, speckle(0))
    np.testing.assert_array_equal(spread.pixels_HW, np.rint((wide - wide.min()) * 255.0 / np.ptp(wide)))


def test_the_files_own_window_decides_over_the_frames_range(tmp_path: Path):
    wide = np.arange(0, 4096, 8, dtype=np.uint16).reshape(16, 32)
    tags: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 1024, "WindowWidth": 1024}
    ultrasound(tmp_path / "benign" / "a.dcm", wide, **tags)
    (scan,) = read("dicom", tmp_path).values()
    expected = np.clip((wide - 1023.5) / 1023 + 0.5, 0, 1) * 255  # DICOM PS3.3 C.11.2.1.2.1
    np.testing.assert_allclose(scan.pixels_HW, expected, atol=0.51)


def test_monochrome1_is_turned(tmp_path: Path):
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), PhotometricInterpretation="MONOCHROME1")
    (scan,) = read("dicom", tmp_path).values()
    np.testing.assert_array_equal(scan.pixels_HW, 255 - speckle(0))


def test_luminance_and_colour_difference_become_grey(tmp_path: Path):
    luminance = np.full((8, 8, 3), 128, dtype=np.uint8)
    luminance[..., 0] = speckle(0, 8, 8)
    ultrasound(tmp_path / "benign" / "a.dcm", luminance, PhotometricInterpretation="YBR_FULL")
    (scan,) = read("dicom", tmp_path).values()
    np.testing.assert_allclose(scan.pixels_HW, luminance[..., 0], atol=1)


def test_frames_are_cropped_to_the_region_with_its_millimetres(tmp_path: Path):
    frames = np.stack([speckle(seed) for seed in range(4)])
    ultrasound(tmp_path / "benign" / "a.dcm", frames, NumberOfFrames=4, regions=[region(5, 3, 24, 17)])
    scans = read("dicom", tmp_path)
    assert list(scans) == [f"benign/a.dcm#{number}" for number in (1, 2, 3, 4)]
    for frame, scan in zip(frames, scans.values(), strict=True):
        np.testing.assert_array_equal(scan.pixels_HW, frame[3:18, 5:25])
        assert scan.case.mm_per_pixel == pytest.approx(0.2)
        assert scan.case.flags == ()


def test_frames_are_decoded_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frames = np.stack([speckle(seed) for seed in range(4)])
    path = ultrasound(tmp_path / "a.dcm", frames, NumberOfFrames=4)
    shown = []
    monkeypatch.setattr(dicom_frames, "_shown", lambda stored, header: shown.append(1) or stored)
    stream = dicom_frames.frames(path, dicom_frames.read_header(path))
    next(stream)
    assert len(shown) == 1


def test_spectra_are_left_out_and_boxes_of_flow_belong_to_their_image(tmp_path: Path):
    parts = [
        region(2, 2, 27, 11),
        region(8, 4, 20, 9, RegionDataType=2),
        region(2, 13, 27, 18, RegionSpatialFormat=3, RegionDataType=3),
    ]
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), regions=parts)
    (scan,) = read("dicom", tmp_path).values()
    np.testing.assert_array_equal(scan.pixels_HW, speckle(0)[2:12, 2:28])


def test_two_images_side_by_side_are_two_scans(tmp_path: Path):
    parts = [region(16, 2, 28, 18), region(1, 2, 13, 18)]
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), regions=parts)
    scans = read("dicom", tmp_path)
    assert list(scans) == ["benign/a.dcm@1", "benign/a.dcm@2"]
    np.testing.assert_array_equal(scans["benign/a.dcm@1"].pixels_HW, speckle(0)[2:19, 1:14])
    np.testing.assert_array_equal(scans["benign/a.dcm@2"].pixels_HW, speckle(0)[2:19, 16:29])
    assert len({scan.case.sha256 for scan in scans.values()}) == 2


def test_oblong_pixels_and_other_units_have_no_one_size(tmp_path: Path):
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), regions=[region(0, 0, 29, 19, PhysicalDeltaY=0.03)])
    ultrasound(tmp_path / "benign" / "b.dcm", speckle(0), regions=[region(0, 0, 29, 19, PhysicalUnitsXDirection=4)])
    assert [scan.case.mm_per_pixel for scan in read("dicom", tmp_path).values()] == [None, None]


def test_burned_in_text_is_cropped_away_or_the_file_quarantined(tmp_path: Path):
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), BurnedInAnnotation="YES", regions=[region(5, 3, 24, 17)])
    ultrasound(tmp_path / "benign" / "b.dcm", speckle(1), BurnedInAnnotation="YES")
    ultrasound(tmp_path / "benign" / "c.dcm", speckle(2), BurnedInAnnotation="NO")
    scans, reasons = faults("dicom", tmp_path)
    assert scans["benign/a.dcm"].pixels_HW.shape == (15, 20)
    assert scans["benign/c.dcm"].case.flags == ()
    assert reasons == {
        "benign/b.dcm": "its BurnedInAnnotation is YES, and it has no ultrasound region to crop to",
    }


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"Modality": "CT"}, "its modality is 'CT'; fits: US"),
        ({"regions": [region(40, 3, 50, 9)]}, "region 40, 3 to 50, 9 does not lie in its 30 x 20 pixels"),
        ({"regions": [region(2, 2, 9, 9, RegionDataType=3, RegionSpatialFormat=3)]}, "none of its ultrasound regions"),
        ({"NumberOfFrames": 3}, "do not decode"),
        ({"BitsAllocated": 7}, "do not decode"),
    ],
)
def test_a_file_that_cannot_be_used_is_quarantined(tmp_path: Path, made: dict[str, Any], reason: str):
    ultrasound(tmp_path / "benign" / "a.dcm", speckle(0), **made)
    ultrasound(tmp_path / "benign" / "b.dcm", speckle(1))
    scans, reasons = faults("dicom", tmp_path)
    assert "benign/b.dcm" in scans
    assert reason in reasons["benign/a.dcm"]


def test_a_damaged_file_a_report_and_a_scan_of_another_kind_are_quarantined(tmp_path: Path):
    path = ultrasound(tmp_path / "benign" / "cut.dcm", speckle(0))
    path.write_bytes(path.read_bytes()[:-200])
    (tmp_path / "benign" / "text.dcm").write_text("no DICOM")
    shipped(tmp_path / "benign", "test-SR.dcm")
    shipped(tmp_path / "benign", "CT_small.dcm")
    (tmp_path / "benign" / "readme.txt").write_text("passed over")
    scans, reasons = faults("dicom", tmp_path)
    assert not scans
    assert "pixels do not decode" in reasons["benign/cut.dcm"]
    assert "no DICOM file that can be read" in reasons["benign/text.dcm"]
    assert "modality is 'SR'" in reasons["benign/test-SR.dcm"]
    assert "modality is 'CT'" in reasons["benign/CT_small.dcm"]
    assert len(reasons) == 4


def test_a_file_without_ending_is_known_by_its_first_bytes(tmp_path: Path):
    ultrasound(tmp_path / "normal" / "IM0001", speckle(0))
    shutil.copy(tmp_path / "normal" / "IM0001", tmp_path / "DICOMDIR")
    assert list(read("dicom", tmp_path)) == ["normal/IM0001"]
    assert source_files("dicom", tmp_path) == (tmp_path / "normal" / "IM0001",)


def test_a_manifest_beside_the_files_gives_class_boxes_and_masks_of_the_whole_frame(tmp_path: Path):
    frames = np.stack([speckle(seed) for seed in range(3)])
    ultrasound(tmp_path / "raw" / "a.dcm", frames, NumberOfFrames=3, regions=[region(5, 3, 24, 17)])
    ultrasound(tmp_path / "raw" / "b.dcm", speckle(9), PatientID="0815", regions=[region(5, 3, 24, 17)])
    save(tmp_path / "masks" / "b.png", patch(5, 8, 9, 14))
    rows = [
        {"image": "raw/a.dcm", "pathology": "malignant", "subtype": "DCIS", "birads": "5"},
        {"image": "raw/a.dcm#2", "boxes_px": [[10, 6, 20, 12]]},
        {"image": "raw/b.dcm", "pathology": "benign", "mask": "masks/b.png", "patient": "p2"},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    first, second, third, other = read("dicom", tmp_path).values()
    assert {scan.case.label(("dcis", "benign")) for scan in (first, second, third)} == {"dcis"}
    assert (first.case.boxes, third.case.boxes) == ((), ())
    assert edges(second) == [(5, 3, 15, 9)]
    assert other.case.patient == "p2"
    np.testing.assert_array_equal(other.mask_HW, patch(5, 8, 9, 14)[3:18, 5:25])
    assert edges(other) == [(3, 2, 9, 6)]
    names = {path.name for path in source_files("dicom", tmp_path)}
    assert names == {"manifest.json", "a.dcm", "b.dcm", "b.png"}


def test_rows_and_frames_that_do_not_fit_are_quarantined_and_the_other_frames_read(tmp_path: Path):
    frames = np.stack([speckle(seed) for seed in range(3)])
    ultrasound(tmp_path / "a.dcm", frames, NumberOfFrames=3, regions=[region(5, 3, 24, 17)])
    ultrasound(tmp_path / "b.dcm", speckle(0))
    save(tmp_path / "small.png", patch(1, 1, 3, 3, 5, 5))
    rows = [
        {"image": "a.dcm", "pathology": "benign"},
        {"image": "a.dcm#1", "boxes_px": [[0, 0, 10, 10]]},
        {"image": "a.dcm#2", "mask": "small.png"},
        {"image": "a.dcm#9", "birads": "3"},
        {"image": "gone.dcm", "pathology": "benign"},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    scans, reasons = faults("dicom", tmp_path)
    assert list(scans) == ["a.dcm#3"]
    assert "does not lie in the image of 20 x 15 pixels" in reasons["a.dcm#1"]
    assert "its mask has 5 x 5 pixels, the frame 30 x 20" in reasons["a.dcm#2"]
    assert "the file has 3 frames" in reasons["a.dcm#9"]
    assert "missing or no DICOM file" in reasons["gone.dcm"]
    assert "neither its folder nor a manifest names its class" in reasons["b.dcm"]
