"""The stage: what it reads, what it writes, and that its shards do not depend on each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.busgen.images.dataset import Images, as_network_input
from models.busgen.optimal.curve import OptimalCurve, mixed
from models.busgen.optimal.estimators import Sampling, exact
from models.busgen.optimal.measurement import StoredImages
from models.busgen.optimal_config import OptimalLossStage
from models.common.errors import ConfigError, DataError
from tests.fixtures.worlds import world_of
from tests.models.busgen.optimal.made_up import write_images

STAGE = OptimalLossStage(draws=200, levels=6, s_min=0.1, s_max=20.0, levels_at_once=4, memory_gib=0.1)


def run(stage: OptimalLossStage, images: Path, folder: Path) -> dict[str, Any]:
    world = world_of({"images": images}, seed=4)
    folder.mkdir()
    stage.collect([stage.process(shard, world) for shard in stage.shards(world.inputs)], world.inputs, folder)
    return json.loads((folder / "optimal_loss.json").read_text())


@pytest.fixture
def images(tmp_path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


def flat(images: Images, rows: list[int]) -> torch.Tensor:
    return torch.from_numpy(as_network_input(images.pixels_NHW[rows])).flatten(1)


def test_only_images_to_train_with_are_read(images, tmp_path):
    found = run(STAGE, images, tmp_path / "loss")
    rows = list(range(18))
    direct = exact(flat(Images.read(images), rows), found["levels"], Sampling(200, 4, 0.1))
    assert found["images"] == 18
    assert found["pixels"] == 16
    assert found["curves"]["unconditional"]["j_star"] == pytest.approx(list(direct.j_star_S), rel=1e-6)


def test_a_class_is_compared_with_its_own_images(images, tmp_path):
    found = run(STAGE, images, tmp_path / "loss")
    benign = [number for number in range(18) if number % 3 == 1]
    direct = exact(flat(Images.read(images), benign), found["levels"], Sampling(200, 4, 0.1))
    assert found["curves"]["benign"]["images"] == 6
    assert found["curves"]["benign"]["j_star"] == pytest.approx(list(direct.j_star_S), rel=1e-6)
    classes = [found["curves"][name] for name in ("normal", "benign", "malignant")]
    for name in ("j_star", "total_variance"):
        mean = np.mean([np.array(curve[name]) for curve in classes], axis=0)
        assert found["curves"]["conditional"][name] == pytest.approx(mean)


def test_the_training_meets_the_mixture(images, tmp_path):
    run(STAGE.but(condition_dropout=0.3), images, tmp_path / "loss")
    training, conditional, whole = (
        OptimalCurve.read(tmp_path / "loss", of) for of in ("training", "conditional", "unconditional")
    )
    assert training.j_star_S == pytest.approx(mixed(conditional.j_star_S, whole.j_star_S, 0.3))
    assert (conditional.j_star_S <= whole.j_star_S + 4 * whole.error_S + 1e-6).all()
    assert training.pixels == 16


def test_without_conditions_the_training_meets_the_whole(images, tmp_path):
    found = run(STAGE.but(condition="none", classes=()), images, tmp_path / "loss")
    assert set(found["curves"]) == {"training", "unconditional"}
    assert found["curves"]["training"]["j_star"] == found["curves"]["unconditional"]["j_star"]


def test_devices_make_finer_conditions(images, tmp_path):
    found = run(STAGE.but(condition="class_and_device"), images, tmp_path / "loss")
    assert {"benign, esaote", "benign, unknown device"} < set(found["curves"])
    assert sum(curve["images"] for name, curve in found["curves"].items() if ", " in name) == 18


def test_shards_can_be_cut_anywhere(images, tmp_path):
    whole = run(STAGE.but(levels_at_once=6), images, tmp_path / "whole")
    cut = run(STAGE.but(levels_at_once=1), images, tmp_path / "cut")
    assert cut == whole


def test_mirror_images_count_where_the_training_flips(images, tmp_path):
    found = run(STAGE.but(flips=True, condition="none"), images, tmp_path / "loss")
    pixels = np.array(Images.read(images).pixels_NHW[:18])
    both = torch.from_numpy(as_network_input(np.concatenate([pixels, pixels[:, :, ::-1]]))).flatten(1)
    direct = exact(both, found["levels"], Sampling(200, 4, 0.1))
    assert found["images"] == 36
    assert found["curves"]["unconditional"]["j_star"] == pytest.approx(list(direct.j_star_S), rel=1e-6)


def test_images_are_read_by_number_and_mirrored_by_the_numbers_after():
    pixels = np.arange(2 * 4, dtype=np.uint8).reshape(2, 2, 2)
    stored = StoredImages(pixels, np.array([1]), flips=True, device=torch.device("cpu"))
    read = (stored[np.array([1, 0])] + 1) * 127.5
    assert read.round().tolist() == [[5.0, 4.0, 7.0, 6.0], [4.0, 5.0, 6.0, 7.0]]


def test_the_estimate_breaks_no_bound(images, tmp_path):
    found = run(STAGE, images, tmp_path / "loss")
    assert max(found["violations"].values()) < 3.0
    assert np.all(np.array(found["curves"]["unconditional"]["j_star"]) <= np.array(found["upper_bound"]) * 1.01)
    assert 0.1 <= found["curves"]["unconditional"]["critical"] <= 20.0


@pytest.mark.parametrize("estimator", ["snis", "dol", "cdol"])
def test_a_subset_serves_where_the_whole_is_too_large(images, tmp_path, estimator):
    stage = STAGE.but(estimator=estimator, subset=9, subset_count=4)
    found = run(stage, images, tmp_path / "loss")
    assert found["subset"] == 9
    assert (found["curves"]["unconditional"]["residual"] is None) == (estimator != "snis")
    assert found["curves"]["benign"]["residual"] is not None  # so few images are taken exactly


def test_a_calibrated_c_is_the_one_that_the_calibration_found_best(images, tmp_path):
    stage = STAGE.but(estimator="cdol", subset=9, subset_count=4, c_multiple=None, calibration_images=18)
    found = run(stage, images, tmp_path / "loss")
    fixed = run(stage.but(c_multiple=found["calibration"]["best"]), images, tmp_path / "fixed")
    assert found["curves"] == fixed["curves"]
    assert found["calibration"]["images"] == 18


def test_a_class_that_is_not_listed_is_told(images, tmp_path):
    with pytest.raises(DataError, match=r"its class is 'malignant'(.|\n)*list it in classes"):
        run(STAGE.but(classes=("normal", "benign")), images, tmp_path / "loss")


def test_a_folder_without_images_to_train_with_is_told(tmp_path):
    write_images(tmp_path / "images", held_out=24)
    with pytest.raises(DataError, match="has 0 images of split 'pretrain'"):
        run(STAGE, tmp_path / "images", tmp_path / "loss")


def test_a_curve_that_is_not_there_is_told(images, tmp_path):
    run(STAGE, images, tmp_path / "loss")
    with pytest.raises(DataError, match="did you mean 'benign'"):
        OptimalCurve.read(tmp_path / "loss", "benig")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"s_min": 30.0}, "is not below s_max"),
        ({"classes": ()}, "condition needs classes"),
        ({"estimator": "cdol", "draws": 20}, "at least 32"),
        ({"estimator": "cdol", "c_multiple": None}, "calibration_images"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        STAGE.but(**changes)
    with pytest.raises(ValidationError):
        OptimalLossStage(levels=1)
