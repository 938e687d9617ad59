"""What is told of phantoms ahead is what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.busgen.data_config import BreastImages, FilesOrigin, SplitConfig
from models.busgen.images.dataset import Images
from models.busgen.images.forecast import forecast, require_shots, require_words
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.phantom.devices import DEVICES
from models.busgen.phantom_config import PhantomConfig
from models.common.errors import ConfigError, DataError

FIRST = PhantomConfig(side=32, normal=2, benign=10, malignant=4, dcis=6, frames=2)
SECOND = PhantomConfig(side=32, normal=0, benign=4, malignant=3, dcis=2)
SPLITS = SplitConfig(few_shot=3, test=3, rare_few_shot=5)
CONFIG = BreastImages(origins=(FIRST, SECOND), side=16, splits=SPLITS, processes=1, seed=4)
WORDS = ConditionsConfig(classes=("normal", "benign", "malignant", "dcis"), devices=tuple(DEVICES))


def test_a_forecast_is_the_dataset_without_its_pictures(tmp_path: Path) -> None:
    CONFIG.prepare(tmp_path)
    cases = forecast(CONFIG)
    assert cases is not None

    def known(case):
        return case.name, case.patient, case.split, case.subtype, case.device, case.descriptors, case.truth

    assert [known(case) for case in cases] == [known(case) for case in Images.read(tmp_path).cases]


def test_shots_are_counted_in_images() -> None:
    cases = forecast(CONFIG)
    assert cases is not None
    pool = sum(case.split == "few_shot" and case.subtype == "dcis" for case in cases)
    assert 5 < pool <= 10, "five patients, most of them with two images"
    require_shots(cases, CONFIG, pool, None)
    with pytest.raises(DataError, match=rf"will have {pool} images of 'dcis'(.|\n)*--set task.shots={pool}"):
        require_shots(cases, CONFIG, pool + 1, None)
    with pytest.raises(DataError, match=r"images of 'benign'(.|\n)*--set task.negative_shots="):
        require_shots(cases, CONFIG, 1, 100)


@pytest.mark.parametrize("what", ["classes", "devices"])
def test_words_that_the_conditions_lack_are_named(what: str) -> None:
    cases = forecast(CONFIG)
    assert cases is not None
    require_words(cases, WORDS)
    fewer = getattr(WORDS, what)[1:]
    with pytest.raises(ConfigError, match=rf"'{getattr(WORDS, what)[0]}'(.|\n)*add it to conditions.{what}"):
        require_words(cases, WORDS.but(**{what: fewer}))


def test_nothing_is_told_of_files() -> None:
    assert forecast(CONFIG.but(origins=(FIRST, FilesOrigin(layout="busi", folder=Path("unread"))))) is None
