"""What cannot work is refused when the settings are read, before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from models.common import workloads
from models.common.errors import ConfigError
from models.rto.arms import ARMS
from models.rto.config import RtoConfig
from models.rto.presets import laptop, paper, tiny


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rto.reward.layout": "ppo", "rto.reward.beta3": 0.0}, "nothing is rewarded"),
        ({"rto.score.truncated": "bootstrap", "rto.algorithm": "reinforce"}, "has no critic"),
        ({"rto.least_response": 13}, "least_response is 13 and most_response 12"),
        ({"rto.responses_per_prompt": 3}, "do not divide into 3"),
        ({"rto.algorithm": "group"}, "set responses_per_prompt to 2"),
        ({"rto.most_response": 16}, "do not fit into policy.context=16; try 17"),
        ({"data.task.kind": "transduction"}, "task"),
        ({"dpo.loss": "tdpo"}, "set reference='live'"),
        ({"policy.width": 36, "policy.heads": 8}, "try width=48"),
        ({"sft": None}, "no pretrained weights"),
        ({"reward_model": None}, "of source 'model', and reward_model is"),
        ({"reward_model": None, "rto.critic.start": "reward_model"}, "set rto.critic.start='policy'"),
        ({"baselines": ["ppoo"]}, "ppo_lambda1"),
        ({"rto.reward.beta4": 1.0}, "no field 'rto.reward.beta4'"),
    ],
)
def test_what_cannot_work_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny().with_overrides(overrides)


def test_every_arm_changes_one_thing_of_the_same_settings() -> None:
    config = laptop().but(baselines=tuple(name for name in ARMS if name != "rto"))
    rto = config.arms["rto"].model_dump()
    for name, arm in config.arms.items():
        found = arm.model_dump()
        changed = {key for key in rto if rto[key] != found[key]}
        assert changed <= {path.split(".")[0] for path in ARMS[name]}, name


def test_a_run_without_a_reward_model_needs_no_baseline_with_a_score() -> None:
    config = tiny().with_overrides({"reward_model": None, "rto.reward.beta3": 0.0, "baselines": []})
    assert "reward_model" not in config.trained_stages()
    assert list(config.trained_stages()) == ["sft", "dpo", "rto"]


def test_the_paper_preset_has_the_numbers_of_the_paper() -> None:
    config = paper()
    assert (config.rto.rollouts, config.rto.batch_size, config.rto.updates) == (1024, 128, 8)
    reward = config.rto.reward
    assert (reward.beta1, reward.beta2, reward.beta3, reward.log_ratio_clip) == (0.05, 0.01, 1.0, 1.0)
    assert (config.rto.optimizer.learning_rate, config.rto.critic.optimizer.learning_rate) == (5e-7, 9e-6)
    assert (config.rto.discount, config.rto.gae_lambda, config.rto.clip) == (1.0, 0.95, 0.2)
    assert (config.dpo.beta, config.dpo.batch_size, config.dpo.optimizer.learning_rate) == (0.1, 256, 5e-7)


@pytest.mark.parametrize("preset", workloads.preset_names("rto"))
def test_a_preset_s_stages_survive_json(preset: str) -> None:
    config = workloads.preset("rto", preset)
    assert isinstance(config, RtoConfig)
    for stage in (*config.trained_stages().values(), config.dpo_evaluation, config.study_stage, config.evaluation):
        assert type(stage).model_validate_json(stage.model_dump_json()) == stage


def test_files_are_sources_of_the_data_and_made_up_tasks_have_none() -> None:
    assert paper().data.sources() == (
        Path("data/ultrafeedback_binarized/train_prefs.parquet"),
        Path("data/ultrafeedback_binarized/test_prefs.parquet"),
    )
    assert tiny().data.sources() == ()
