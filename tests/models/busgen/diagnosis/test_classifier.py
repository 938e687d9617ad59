"""The classifier: its loss, what it learns and from what, that workers do not matter, and where it starts."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.busgen.diagnosis.classifier import (
    ClassifierLearner,
    features,
    head_loss,
    predict,
    read_classifier,
    start_classifier,
)
from models.busgen.diagnosis.network import make_classifier
from models.busgen.diagnosis.rehearsal import made_up_images
from models.busgen.diagnosis_config import ClassifierStage, DiagnosisNetworkConfig
from models.busgen.statistics.auc import area
from models.common.errors import CheckpointError, ConfigError, DataError
from models.common.in_process import train_in_process
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import world_of

SMALL = DiagnosisNetworkConfig(width=8, stages=2, features=16)
STAGE = ClassifierStage(
    network=SMALL,
    max_steps=30,
    batch_size=16,
    split="few_shot",
    positive="dcis",
    negative="benign",
    descriptors=("margin", "calcifications"),
    pathology_weight=0.2,
)
CPU = torch.device("cpu")


def _written(folder: Path, stage: ClassifierStage = STAGE) -> dict[str, Path]:
    folder.mkdir()
    return stage.rehearse(folder).folders


def test_the_loss_of_a_head_is_its_surprise_and_what_is_not_known_has_none() -> None:
    logits = [0.3, -1.2, 2.0]
    found = head_loss(torch.tensor(logits)[:, None], torch.tensor([1, 0, -1]), known=2)
    assert found.item() == pytest.approx((math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-1.2))) / 2)

    rows = np.array([[0.1, 0.5, -0.3], [2.0, 0.0, 1.0]])
    found = head_loss(torch.tensor(rows), torch.tensor([-1, 2]), known=1)
    assert found.item() == pytest.approx(-math.log(math.exp(1.0) / np.exp(rows[1]).sum()))


def test_it_tells_a_bright_blob_from_a_dark_one_in_images_that_it_has_not_seen(tmp_path: Path) -> None:
    stage = STAGE.but(max_steps=60, batch_size=32)
    trained = train_in_process(stage, world_of({}), tmp_path / "trained", _written(tmp_path / "in", stage))
    unseen = made_up_images(80, 16, "dcis", "benign", "test", seed=99)
    logits = predict(read_classifier(trained.folder, CPU), unseen.pixels_NHW, at_once=33)
    positive = np.array([case.subtype == "dcis" for case in unseen.cases])
    assert area(logits["label"], positive) > 0.95
    calcified = np.array([case.descriptors.get("calcifications", "") for case in unseen.cases])
    known = calcified != ""
    assert ((logits["calcifications"].argmax(axis=1) == 1) == (calcified == "in_mass"))[known].mean() > 0.9


def test_all_that_is_predicted_comes_from_the_features(tmp_path: Path) -> None:
    images = made_up_images(6, 40, "dcis", "benign", "test", seed=1)
    network = make_classifier(STAGE)
    features_NF = features(network, images.pixels_NHW, at_once=4)
    logits = predict(network, images.pixels_NHW, at_once=5)
    for name, head in network.heads.items():
        weight, bias = (value.detach().double().numpy() for value in head.parameters())
        by_hand = features_NF @ weight.T + bias
        assert logits[name] == pytest.approx(by_hand[:, 0] if name == "label" else by_hand, abs=1e-5)


@pytest.mark.parametrize("side", [32, 50, 256])
def test_images_of_any_side_fit(side: int) -> None:
    logits = make_classifier(STAGE)(torch.zeros(2, 1, side, side))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "label": (2, 1),
        "pathology": (2, 3),
        "margin": (2, 5),
        "calcifications": (2, 4),
    }


def _steps(rank: int, inputs: dict[str, Path], stage: ClassifierStage) -> tuple[list[dict[str, float]], dict]:
    learner = ClassifierLearner(stage, world_of(inputs))
    return [learner.step() for _ in range(5)], learner.weights()


@pytest.mark.parametrize("train_on", ["real", "both"])
def test_two_workers_do_what_one_does(train_on: str, tmp_path: Path) -> None:
    stage = STAGE.but(train_on=train_on)
    inputs = _written(tmp_path / "in", stage)
    alone, weights = _steps(0, inputs, stage)
    for told, trained in run_ranks(_steps, 2, inputs, stage):
        for one, two in zip(alone, told, strict=True):
            assert two == pytest.approx(one, rel=1e-3, abs=1e-5)
        assert all(torch.allclose(trained[name], weights[name], atol=2e-3) for name in weights)


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    inputs = _written(tmp_path / "in")
    first = ClassifierLearner(STAGE, world_of(inputs))
    for _ in range(3):
        first.step()
    again = ClassifierLearner(STAGE, world_of(inputs))
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(3):
        assert first.step() == again.step()
    assert all(torch.equal(value, again.weights()[name]) for name, value in first.weights().items())


def test_another_tasks_label_starts_afresh_on_the_trained_network(tmp_path: Path) -> None:
    before = STAGE.but(positive="malignant")
    trained = train_in_process(before.but(max_steps=3), world_of({}), tmp_path / "a", _written(tmp_path / "in", before))
    torch.manual_seed(8)
    fresh = make_classifier(STAGE).state_dict()
    torch.manual_seed(8)
    started = start_classifier(STAGE, trained.folder).state_dict()
    learnt = read_classifier(trained.folder, CPU).state_dict()
    for name, value in started.items():
        assert torch.equal(value, (fresh if name.startswith("heads.label.") else learnt)[name]), name
    with pytest.raises(CheckpointError, match="of another shape"):
        start_classifier(STAGE.but(network=SMALL.but(width=16)), trained.folder)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    inputs = _written(tmp_path / "in")
    with pytest.raises(ConfigError, match="no input 'generated'"):
        ClassifierLearner(STAGE.but(train_on="both"), world_of(inputs))
    with pytest.raises(DataError, match="0 images of 'fibroadenoma'"):
        ClassifierLearner(STAGE.but(positive="fibroadenoma"), world_of(inputs))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"descriptors": ("colour",)}, "no descriptor"),
        ({"label_weight": 0.0, "descriptor_weight": 0.0, "pathology_weight": 0.0}, "no head has a weight"),
        ({"positive": "benign"}, "name two labels"),
        ({"other_labels": True}, "balanced=False"),
        ({"other_labels": True, "balanced": False, "shots": 4}, "shots=None"),
        ({"batch_size": 1}, "no room"),
    ],
)
def test_a_config_that_cannot_be_trained_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        STAGE.but(**changes)
