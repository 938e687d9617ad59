"""Two classifiers on the same images: new phantoms, or the test split of files."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.busgen import study
from models.busgen.arms import ARMS
from models.busgen.config import BusgenConfig
from models.busgen.contest import NewPhantom, images_of_phantoms, new_phantoms
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.diagnosis.rehearsal import made_up_images
from models.busgen.images.dataset import Images
from models.busgen.presets import tiny
from models.busgen.statistics.auc import auc_difference, delong_covariance, error_of_difference
from models.common.contest import HELD_OUT
from models.common.errors import ConfigError, DataError
from models.common.in_process import train_in_process
from tests.fixtures.contests import damaged, held, published
from tests.fixtures.worlds import world_of
from tests.models.busgen.readers.making import save

CONFIG = tiny().with_overrides({"promotion.patients": 40, "promotion.margin": 0.02})


def version_of(config: BusgenConfig, folder: Path) -> Path:
    """A version whose classifier has learnt from all real images; its generator is nobody's business here."""
    images = {"images": folder / "images"}
    images["images"].mkdir(parents=True)
    config.data.prepare(images["images"])
    stage = config.classifier_stage.with_overrides(ARMS["many_real"])
    classifier = train_in_process(stage, world_of({}), folder / "classifier", images).folder
    return published(folder / "version", config, classifier, {"classifier": classifier}, of=folder / "made_of")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and the version that was made of them."""
    folder = tmp_path_factory.mktemp("busgen-version")
    version_of(CONFIG, folder)
    return folder


@pytest.fixture
def version(made: Path) -> Path:
    return made / "version"


def test_a_version_gains_exactly_nothing_on_itself(version: Path, tmp_path: Path) -> None:
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    assert (contest.gain.value, contest.gain.error) == (0.0, 0.0)
    assert contest.items == 80
    assert contest.margin == 0.02


def test_a_version_has_the_area_that_its_own_test_says(made: Path, version: Path, tmp_path: Path) -> None:
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    images = Images.read(made / "images")
    rows = study.test_rows(images, "dcis", "benign")
    logits = predict(read_classifier(version / "classifier", world_of({}).device), np.asarray(images.pixels_NHW[rows]))
    positive = images.are("dcis", ("dcis", "benign"))[rows]
    area, variance = (part.item() for part in delong_covariance(logits["label"][None], positive))
    assert abs(contest.candidate.value - area) < 4 * np.hypot(contest.candidate.error, np.sqrt(variance))


def test_new_phantoms_are_of_both_labels_and_of_no_data(made: Path) -> None:
    stage = CONFIG.contest()
    assert Counter(phantom.label for phantom in new_phantoms(stage)) == {"dcis": 40, "benign": 40}
    assert len(set(new_phantoms(stage))) == 80
    known = {case.name for case in Images.read(made / "images").cases}
    first = [NewPhantom(0, "dcis", 0)]
    names = [{case.name for case in images_of_phantoms(stage.but(seed=seed), first)[0]} for seed in (0, 1)]
    assert not names[0] & names[1]
    assert not (names[0] | names[1]) & known


def test_kinds_and_origins_come_as_often_as_the_data_have_them() -> None:
    origins = [{"side": 32, "benign": 30, "malignant": 40, "dcis": 20}, {"side": 32, "benign": 10, "malignant": 0}]
    changes = {"data.origins": origins, "data.splits.positive": "malignant", "data.splits.rare": False}
    stage = CONFIG.with_overrides(changes | {"task.parents": {}}).contest()
    found = Counter((phantom.place, phantom.label) for phantom in new_phantoms(stage))
    assert found[0, "malignant"] + found[0, "dcis"] == 40
    assert found[0, "malignant"] / found[0, "dcis"] == pytest.approx(2, abs=0.3)
    assert found[0, "benign"] / found[1, "benign"] == pytest.approx(3, abs=0.4)
    nobody = stage.data.but(origins=[{"side": 32, "malignant": 3, "benign": 0}]).model_dump()
    with pytest.raises(DataError, match="too few patients of benign"):
        new_phantoms(stage.but(data=nobody, patients=3))


def test_files_compete_on_their_test_split_and_a_damaged_copy_loses(tmp_path: Path) -> None:
    made_up = made_up_images(80, 32, "malignant", "benign", "", seed=1)
    for place, case in enumerate(made_up.cases):
        save(tmp_path / "scans" / case.pathology / f"{place}.png", np.asarray(made_up.pixels_NHW[place]))
    changes = {
        "data.origins": [{"layout": "folder", "folder": tmp_path / "scans"}], "data.crop": "whole",
        "data.splits.positive": "malignant", "data.splits.rare": False, "data.splits.few_shot": 10,
        "data.splits.test": 20, "task.parents": {}, "conditions.descriptors": [], "probes.descriptors": [],
        "gates.combination.overall": True, "classifier.max_steps": 60,
    }  # fmt: skip
    config = CONFIG.with_overrides(changes)
    version = version_of(config, tmp_path / "files")
    worse = damaged(version, tmp_path / "worse", noise=5.0, part="classifier")
    contest, parts = held(config.contest(), worse, version, tmp_path / "contest")
    images = Images.read(tmp_path / "contest" / HELD_OUT)
    tested = {f"{case.source}/{case.patient}" for case in images.cases if case.split == "test"}
    assert set(parts[0].patients_N) == tested
    assert contest.items == len(tested) == 40
    assert contest.champion.value > 0.9, "else there is little to lose"
    assert contest.gain.value + 3 * contest.gain.error < 0
    assert contest.gain.value == pytest.approx(contest.candidate.value - contest.champion.value)


def test_the_error_of_a_difference_is_delongs_and_that_of_its_bootstrap() -> None:
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.4
    shared = random.normal(size=300) + positive
    first, second = shared + 0.7 * random.normal(size=300), shared + 1.2 * random.normal(size=300)
    found = error_of_difference(first, second, positive)
    _, covariance = delong_covariance(np.stack([first, second]), positive)
    assert found == pytest.approx(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]), rel=1e-9)
    interval = auc_difference(first, second, positive, 0.95)
    assert (interval.high - interval.low) / 2 / 1.959964 == pytest.approx(found, rel=1e-6)
    draws = [
        np.concatenate(
            [random.choice(np.flatnonzero(positive == label), (positive == label).sum()) for label in (0, 1)]
        )
        for _ in range(1000)
    ]
    drawn = [np.subtract(*delong_covariance(np.stack([first, second])[:, rows], positive[rows])[0]) for rows in draws]
    assert found == pytest.approx(np.std(drawn), rel=0.12)
    assert error_of_difference(first, 3 * first + 1, positive) == 0.0, "the same order"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (("data", "side"), 24, "data.side 16, the champion 24"),
        (("data", "splits", "positive"), "malignant", "the positive label dcis, the champion malignant"),
    ],
)
def test_other_tasks_and_other_pictures_are_refused(field: tuple[str, ...], value: object, told: str) -> None:
    champion = json.loads(CONFIG.model_dump_json())
    place = champion
    for name in field[:-1]:
        place = place[name]
    place[field[-1]] = value
    with pytest.raises(ConfigError, match=told):
        CONFIG.contest().check_versions(CONFIG.model_dump(mode="json"), champion)
