"""Phantoms and a folder of pictures together: prepared, audited, split, and trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.busgen.config import BusgenConfig
from models.busgen.data_config import FilesOrigin
from models.busgen.images.dataset import Images
from models.busgen.presets import tiny
from models.common.errors import DataError
from models.common.in_process import train_in_process
from tests.fixtures.worlds import world_of
from tests.models.busgen.images.scans import speckle
from tests.models.busgen.readers.making import save

FAULTY = {
    "benign/benign (1).png": "",  # no picture
    "benign/benign (2).png": "empty",
    "malignant/malignant (3).png": "copy",
}


def pictures(folder: Path) -> Path:
    """In the layout of BUSI: a file that is no picture, a mask that marks nothing, and a picture in two classes."""
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 30:60] = True
    for place, label in enumerate(("benign", "malignant", "normal")):
        for number in range(1, 9):
            save(folder / label / f"{label} ({number}).png", speckle(100 * place + number, 60, 80))
            save(folder / label / f"{label} ({number})_mask.png", mask & (label != "normal"))
    (folder / "benign" / "benign (1).png").write_bytes(b"no picture")
    save(folder / "benign" / "benign (2)_mask.png", mask & False)
    both = (folder / "benign" / "benign (3).png").read_bytes()
    (folder / "malignant" / "malignant (3).png").write_bytes(both)
    return folder


def two_sources(folder: Path) -> BusgenConfig:
    phantoms = tiny().data.origins[0].but(normal=2, benign=26, malignant=6, dcis=12)
    splits = tiny().data.splits.but(few_shot=6, test=6, rare_few_shot=6)
    origins = (phantoms, FilesOrigin(layout="busi", folder=folder, source="clinic"))
    config = tiny()
    devices = (*config.conditions.devices, "GE LOGIQ E9")
    return config.but(
        data=config.data.but(origins=origins, splits=splits), conditions=config.conditions.but(devices=devices)
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[BusgenConfig, Path]:
    root = tmp_path_factory.mktemp("two")
    config = two_sources(pictures(root / "busi"))
    (root / "images").mkdir()
    config.data.prepare(root / "images")
    return config, root / "images"


def test_the_audit_names_what_was_quarantined(prepared: tuple[BusgenConfig, Path]) -> None:
    audit = json.loads((prepared[1] / "audit.json").read_text())
    assert audit["images"] == {"found": 46 + 24, "kept": 46 + 20, "quarantined": 4}
    assert audit["kept_by_source"] == {"phantom": 46, "clinic": 20}
    left_out = {one["file"]: one["reason"] for one in audit["quarantined"]}
    assert left_out.keys() == {*FAULTY, "benign/benign (3).png"}
    assert "picture" in left_out["benign/benign (1).png"] or "image" in left_out["benign/benign (1).png"]
    assert "mask is empty" in left_out["benign/benign (2).png"]
    assert "clinic/benign/benign (3).png" in left_out["malignant/malignant (3).png"]
    assert {one["source"] for one in audit["quarantined"]} <= {"clinic", "busi"}


def test_both_sources_are_in_the_splits_and_no_patient_in_two(prepared: tuple[BusgenConfig, Path]) -> None:
    images = Images.read(prepared[1])
    where: dict[str, set[str]] = {}
    for case in images.cases:
        where.setdefault(f"{case.source}/{case.patient}", set()).add(case.split)
    assert {len(splits) for splits in where.values()} == {1}
    assert {case.source for case in images.cases if case.split == "pretrain"} == {"phantom", "clinic"}
    assert {case.source for case in images.cases if case.subtype == "dcis"} == {"phantom"}


def test_a_generator_is_trained_on_both(prepared: tuple[BusgenConfig, Path], tmp_path: Path) -> None:
    config, images = prepared
    stage = config.pretraining_stage.but(max_steps=2)
    trained = train_in_process(stage, world_of({}), tmp_path / "pretraining", {"images": images})
    assert all(np.isfinite(trained.metrics["loss"]))


def test_a_device_that_is_not_listed_is_named(prepared: tuple[BusgenConfig, Path], tmp_path: Path) -> None:
    config, images = prepared
    stage = config.but(conditions=tiny().conditions).pretraining_stage.but(max_steps=8, batch_size=32)
    with pytest.raises(DataError, match=r"its device is 'GE LOGIQ E9'\nfits: linear-7, .*\nlist it in the conditions"):
        train_in_process(stage, world_of({}), tmp_path / "pretraining", {"images": images})


def test_files_are_not_forecast(prepared: tuple[BusgenConfig, Path]) -> None:
    """What a folder holds is known when it is read; so nothing is refused ahead."""
    prepared[0].but(task=tiny().task.but(shots=1000)).check_here()
