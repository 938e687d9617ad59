"""What is wrong with a data set is told by its file, and the rest is read."""

from pathlib import Path

import numpy as np
import pytest

from models.busgen.readers.registry import LAYOUTS
from models.common.errors import DataError
from tests.models.busgen.readers.making import HEIGHT, WIDTH, faults, patch, read, save, save_sheet, speckle
from tests.models.busgen.readers.published import MAKERS, busbra, busi, uclm, udiat


@pytest.mark.parametrize("layout", MAKERS)
def test_a_picture_that_does_not_decode_is_quarantined_and_the_others_are_read(tmp_path: Path, layout: str):
    root = MAKERS[layout](tmp_path)
    whole = read(layout, root)
    name = next(iter(whole))
    masks = ("masks", "Masks", "GT")
    (broken,) = (path for path in root.rglob(Path(name).name) if path.parent.name not in masks)
    broken.write_bytes(broken.read_bytes()[:40])
    scans, reasons = faults(layout, root)
    assert set(scans) == set(whole) - {name}
    assert list(reasons) == [broken.relative_to(root).as_posix()]
    assert "does not decode" in next(iter(reasons.values()))


@pytest.mark.parametrize("layout", MAKERS)
def test_a_strict_quarantine_refuses_the_first_fault_by_its_file(tmp_path: Path, layout: str):
    root = MAKERS[layout](tmp_path)
    name = Path(next(iter(read(layout, root)))).name
    for path in root.rglob(name):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"(?s)decode.*bad_images='quarantine'"):
        read(layout, root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_is_refused_by_what_was_found(tmp_path: Path, layout: str):
    save(tmp_path / "holiday" / "beach.png", speckle(0))
    with pytest.raises(DataError, match=rf"(?s)(layout '{layout}'.*fits|layout '{layout}' fits)") as refusal:
        read(layout, tmp_path)
    assert "holiday" in str(refusal.value)
    with pytest.raises(DataError, match=f"layout '{layout}'"):
        read(layout, tmp_path / "nowhere")


def test_a_layout_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no layout 'busy'(?s:.*)fits: busi, busbra"):
        read("busy", tmp_path)


def test_a_mask_without_an_image_is_quarantined(tmp_path: Path):
    root = busi(tmp_path)
    save(root / "benign" / "benign (99)_mask.png", patch(1, 1, 4, 4))
    assert faults("busi", root)[1] == {"benign/benign (99)_mask.png": "it is a mask without an image"}
    root = busbra(tmp_path)
    save(root / "Masks" / "mask_0099-l.png", patch(1, 1, 4, 4))
    save(root / "Images" / "bus_0098-l.png", speckle(0))
    reasons = faults("busbra", root)[1]
    assert "an image that bus_data.csv does not name" in reasons["Images/bus_0098-l.png"]
    assert "a mask without an image" in reasons["Masks/mask_0099-l.png"]


@pytest.mark.parametrize("layout", ["busbra", "breast", "udiat", "uclm", "buscot"])
def test_an_image_that_the_table_names_in_vain_is_quarantined(tmp_path: Path, layout: str):
    root = MAKERS[layout](tmp_path)
    name = Path(next(iter(read(layout, root)))).name
    for path in root.rglob(name):
        path.unlink()
    scans, reasons = faults(layout, root)
    assert len(reasons) == 1
    (file, reason), *_ = reasons.items()
    assert Path(file).name == name
    assert f"{name}" in reason
    assert "is missing" in reason
    assert len(scans) == len(MAKERS[layout](tmp_path / "again") and read(layout, tmp_path / "again")) - 1


def test_a_lesion_without_its_mask_is_quarantined(tmp_path: Path):
    root = busi(tmp_path)
    (root / "benign" / "benign (1)_mask.png").unlink()
    reasons = faults("busi", root)[1]
    assert "has no mask; fits: benign (1)_mask.png" in reasons["benign/benign (1).png"]


def test_a_mask_of_another_size_is_quarantined(tmp_path: Path):
    root = busi(tmp_path)
    save(root / "benign" / "benign (2)_mask.png", patch(1, 1, 4, 4, 10, 12))
    assert faults("busi", root)[1] == {
        "benign/benign (2).png": f"its mask has 12 x 10 pixels, the image {WIDTH} x {HEIGHT}; fits: one size"
    }


@pytest.mark.parametrize(("layout", "mask"), [("busi", "benign (1)_mask.png"), ("busbra", "mask_0001-l.png")])
def test_an_empty_mask_of_a_lesion_is_quarantined(tmp_path: Path, layout: str, mask: str):
    root = MAKERS[layout](tmp_path)
    (path,) = root.rglob(mask)
    save(path, np.zeros((HEIGHT, WIDTH), dtype=bool))
    (reason,) = faults(layout, root)[1].values()
    assert "its mask is empty, and the case is benign" in reason


def test_a_lesion_in_a_normal_case_is_quarantined(tmp_path: Path):
    root = busi(tmp_path)
    save(root / "normal" / "normal (1)_mask.png", patch(1, 1, 4, 4))
    assert "called normal" in faults("busi", root)[1]["normal/normal (1).png"]


def test_a_mask_of_the_other_colour_is_quarantined(tmp_path: Path):
    root = uclm(tmp_path)
    colours = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colours[2:5, 2:5] = (255, 0, 0)
    save(root / "masks" / "ALWI_001.png", colours)
    assert "Label is benign, and its mask has only the other colour" in faults("uclm", root)[1]["images/ALWI_001.png"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ('"[3,2,90,6]"', "box 3, 2 to 93, 8 does not lie in the image of 30 x 20"),
        ('"[-5,2,7,6]"', "does not lie in the image"),
        ('"[3,2,0,6]"', "does not lie in the image"),
        ('"[3,2]"', "fits: [left, top, width, height]"),
    ],
)
def test_a_box_outside_the_image_is_quarantined(tmp_path: Path, cell: str, reason: str):
    root = busbra(tmp_path)
    table = root / "bus_data.csv"
    table.write_text(table.read_text().replace('"[3,2,7,6]"', cell, 1))
    assert reason in faults("busbra", root)[1]["Images/bus_0001-l.png"]


def test_an_image_of_another_size_than_the_table_says_is_quarantined(tmp_path: Path):
    root = uclm(tmp_path)
    save(root / "images" / "ALWI_001.png", speckle(0, 10, 15))
    assert "says 30 x 20 pixels, the image has 15 x 10" in faults("uclm", root)[1]["images/ALWI_001.png"]


def test_a_class_of_another_name_is_quarantined(tmp_path: Path):
    root = uclm(tmp_path)
    table = root / "INFO.csv"
    table.write_text(table.read_text().replace("Benign", "Odd"))
    assert "its Label is 'Odd'; fits: normal, benign, malignant" in faults("uclm", root)[1]["images/ALWI_001.png"]


def test_a_row_that_comes_twice_is_quarantined(tmp_path: Path):
    root = uclm(tmp_path)
    with (root / "INFO.csv").open("a") as file:
        file.write(f"ALWI_000.png;{WIDTH}x{HEIGHT};Normal;No;No;No\n")
    scans, reasons = faults("uclm", root)
    assert len(scans) == 3
    assert "named twice" in reasons["images/ALWI_000.png"]


def test_a_table_without_a_column_is_refused_by_the_column(tmp_path: Path):
    root = uclm(tmp_path)
    (root / "INFO.csv").write_text("Image;Resolution;Label;Doppler;Marks\n")
    with pytest.raises(DataError, match="has no column Combined: it has Image, Resolution"):
        read("uclm", root)
    root = udiat(tmp_path)
    save_sheet(root / "DatasetB.xlsx", [{"Image": 1, "Kind": "Benign"}])
    with pytest.raises(DataError, match="has no column Type: it has Image, Kind"):
        read("udiat", root)
    (root / "DatasetB.xlsx").write_text("no sheet")
    with pytest.raises(DataError, match="no Excel file"):
        read("udiat", root)
