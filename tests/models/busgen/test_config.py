"""What fields of different parts do to each other is said when the config is read, not hours later."""

from __future__ import annotations

from typing import Any

import pytest

from models.busgen.presets import tiny
from models.common.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"probes.label_weight": 0.0}, r"probes\.label_weight is 0"),
        ({"classifier.label_weight": 0.0, "classifier.pathology_weight": 1.0}, r"classifier\.label_weight is 0"),
        ({"gates.combination.overall": False, "probes.descriptors": ()}, "has nothing to read"),
        ({"gates.combination.overall": False, "probes.descriptor_weight": 0.0}, "has nothing to read"),
        ({"gates.combination.overall": False, "conditions.descriptors": ()}, "has nothing to read"),
        ({"data.splits.positive": "fibroadenoma"}, "knows no class 'fibroadenoma'"),
    ],
)
def test_what_the_evaluation_could_not_measure_is_refused(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tiny().with_overrides(overrides)


def test_a_diagnosis_by_descriptors_alone_is_one() -> None:
    assert not tiny().with_overrides({"gates.combination.overall": False}).gates.combination.overall


def test_what_a_classifier_trains_on_is_the_arms_to_say() -> None:
    with pytest.raises(ConfigError, match="train_on"):
        tiny().with_overrides({"classifier.train_on": "real"})


def test_the_evaluation_tells_the_generator_what_the_optimal_loss_is_of() -> None:
    config = tiny().with_overrides({"optimal_loss.condition": "none"})
    assert config.evaluation_stage.condition == config.optimal_loss_stage.condition == "none"
