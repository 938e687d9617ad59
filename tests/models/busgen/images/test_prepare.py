"""Prepared datasets: the same bytes however many processes made them, from phantoms and from files alike."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from models.busgen.data_config import BreastImages, FilesOrigin
from models.busgen.images import prepare
from models.busgen.images.dataset import Images
from models.busgen.phantom_config import PhantomConfig
from models.common.errors import DataError
from tests.models.busgen.images.scans import speckle

PHANTOMS = PhantomConfig(side=32, normal=1, benign=8, malignant=2, dcis=4, frames=2)
CONFIG = BreastImages(origins=(PHANTOMS,), side=16, processes=1)


def _prepared(config: BreastImages, folder: Path) -> Images:
    folder.mkdir()
    config.prepare(folder)
    return Images.read(folder)


def _busi(folder: Path) -> Path:
    """A folder in the layout of BUSI with an image that does not decode, an empty mask, and one in two classes."""
    for place, label in enumerate(("benign", "malignant", "normal")):
        (folder / label).mkdir(parents=True)
        for number in range(1, 10):
            image = speckle(100 * place + number, 60, 80)
            mask = np.zeros((60, 80), np.uint8)
            mask[20:40, 30:60] = 255 * (label != "normal")
            Image.fromarray(image).save(folder / label / f"{label} ({number}).png")
            Image.fromarray(mask).save(folder / label / f"{label} ({number})_mask.png")
    (folder / "benign" / "benign (1).png").write_bytes(b"no image")
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(folder / "benign" / "benign (2)_mask.png")
    both = (folder / "benign" / "benign (3).png").read_bytes()
    (folder / "malignant" / "malignant (3).png").write_bytes(both)
    return folder


def _of_busi(folder: Path) -> BreastImages:
    origin = FilesOrigin(layout="busi", folder=folder)
    splits = CONFIG.splits.but(positive="malignant", rare=False, least_patients=1)
    return CONFIG.but(origins=(origin,), splits=splits)


def test_processes_do_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_WORTH_A_PROCESS", 10)
    _prepared(CONFIG, tmp_path / "one")
    _prepared(CONFIG.but(processes=2), tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_phantoms_are_prepared_with_masks_boxes_and_millimetres(tmp_path: Path) -> None:
    images = _prepared(CONFIG, tmp_path / "phantoms")
    assert images.audit["images"] == {"found": 30, "kept": 30, "quarantined": 0}
    assert images.audit["copies"]["near"] == []
    for case, mask in zip(images.cases, images.masks_NHW, strict=True):
        assert case.mm_per_pixel
        if case.pathology == "normal":
            assert not mask.any()
            continue
        [box] = case.boxes
        assert (box.right - box.left) * case.mm_per_pixel * images.side < PHANTOMS.fov_mm
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        found = tuple(edge * images.side for edge in (box.left, box.top, box.right, box.bottom))
        assert np.abs(np.subtract(edges, found)).max() <= 1, "the box holds what the mask covers"


def test_phantoms_of_two_origins_differ(tmp_path: Path) -> None:
    images = _prepared(CONFIG.but(origins=(PHANTOMS, PHANTOMS)), tmp_path / "both")
    assert images.audit["images"] == {"found": 60, "kept": 60, "quarantined": 0}
    assert len({case.patient for case in images.cases}) == 30


def test_faulty_files_are_named_and_the_others_prepared(tmp_path: Path) -> None:
    images = _prepared(_of_busi(_busi(tmp_path / "busi")), tmp_path / "prepared")
    left_out = {Path(row["file"]).name for row in images.audit["quarantined"]}
    assert left_out == {"benign (1).png", "benign (2).png", "benign (3).png", "malignant (3).png"}
    assert images.audit["images"] == {"found": 27, "kept": 23, "quarantined": 4}
    assert sum(images.audit["quarantined_by_source"]["busi"].values()) == 4
    assert {row["source"] for row in images.audit["quarantined"]} == {"busi"}


def test_faulty_files_are_refused_where_the_config_says_so(tmp_path: Path) -> None:
    config = _of_busi(_busi(tmp_path / "busi")).but(bad_images="refuse")
    with pytest.raises(DataError, match=r"benign \(1\).png"):
        _prepared(config, tmp_path / "prepared")


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="layout"):
        _prepared(_of_busi(tmp_path), tmp_path / "prepared")


def test_the_sources_of_a_dataset_are_its_files(tmp_path: Path) -> None:
    config = _of_busi(_busi(tmp_path / "busi"))
    assert {path.name for path in config.sources()} == {file.name for file in (tmp_path / "busi").rglob("*.png")}
    assert CONFIG.sources() == ()


def test_two_folders_of_one_layout_are_told_apart_by_the_names_they_are_given(tmp_path: Path) -> None:
    folders = [_busi(tmp_path / name) for name in ("here", "there")]
    for file in folders[1].rglob("*.png"):
        if "mask" not in file.name and file.name != "benign (1).png":
            Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    origins = tuple(FilesOrigin(layout="busi", folder=folder, source=folder.name) for folder in folders)
    images = _prepared(_of_busi(folders[0]).but(origins=origins), tmp_path / "prepared")
    assert images.audit["kept_by_source"] == {"here": 23, "there": 23}
    assert {row["source"] for row in images.audit["quarantined"]} == {"here", "there"}


def test_a_config_is_read_back_with_its_origins() -> None:
    config = BreastImages(origins=(PHANTOMS, FilesOrigin(layout="folder", folder=Path("scans"))))
    assert BreastImages.model_validate_json(config.model_dump_json()) == config


def test_a_layout_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValidationError, match="there is no layout 'bussi'; did you mean 'busi'"):
        FilesOrigin(layout="bussi", folder=Path("scans"))
