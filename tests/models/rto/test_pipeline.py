"""The whole pipeline, tiny: every stage reads what the earlier ones wrote, and it ends in a report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.report_page import write_page
from models.common.contract import MapConfig, World
from models.common.in_process import train_in_process
from models.common.report import Report, TokenLine
from models.rto.config import RtoConfig
from models.rto.policies import policies_for
from models.rto.preferences import Preferences, sequences
from tests.fixtures.worlds import world_of
from tests.models.rto.made_up import small_config

SHORT = {f"{stage}.max_steps": 4 for stage in ("sft", "reward_model", "dpo")} | {
    "rto.iterations": 2,
    "data.pairs": 64,
    "data.held_out_pairs": 24,
    "gates.samples": 20,
}


def _spread(stage: MapConfig, world: World, folder: Path) -> Report:
    folder.mkdir()
    parts = [stage.process(shard, world) for shard in stage.shards(world.inputs)]
    stage.collect(parts, world.inputs, folder)
    return Report.read(folder)


def _run(config: RtoConfig, folder: Path) -> tuple[Report, Report, dict[str, Path]]:
    """The reports of the DPO evaluation and of the evaluation, and all inputs of the latter."""
    world = world_of({}, None)
    inputs = {"preferences": folder / "preferences"}
    inputs["preferences"].mkdir(parents=True)
    config.data.prepare(inputs["preferences"])
    assert config.sft_stage
    start = train_in_process(config.sft_stage, world, folder / "sft", inputs).folder
    trained = {"dpo": config.dpo_stage}
    trained |= {"reward_model": config.reward_model_stage} if config.reward_model_stage else {}
    before = inputs | {
        name: train_in_process(stage, world, folder / name, inputs, start).folder for name, stage in trained.items()
    }
    judged = replace(world, inputs=before | {"sft": start})
    first = _spread(config.dpo_evaluation, judged, folder / "dpo_evaluation")
    arms: dict[str, Path] = {}
    for name, stage in config.arms.items():
        arm = train_in_process(stage, world, folder / f"arm_{name}", before, start)
        curves: dict[str, Any] = {"steps": [], "metrics": arm.metrics}
        (arm.folder / "curves.json").write_text(json.dumps(curves))
        arms[f"arm_{name}"] = arm.folder
    everything = {**judged.inputs, "dpo_evaluation": folder / "dpo_evaluation", **arms}
    second = _spread(config.evaluation, replace(world, inputs=everything), folder / "evaluation")
    return first, second, everything


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[RtoConfig, Report, Report, dict[str, Path]]:
    config = small_config("ppo", "ddpo", **SHORT)
    return config, *_run(config, tmp_path_factory.mktemp("pipeline"))


def test_the_pipeline_ends_in_a_report(ended: Any, tmp_path: Path) -> None:
    config, _, report, _ = ended
    metrics = report.metrics
    assert metrics["arms"].keys() == {"rto", "ppo", "ddpo"}
    for arm in metrics["arms"].values():
        assert arm["rollouts"] == 2 * config.rto.rollouts
        assert arm["curve"][-1] == [arm["rollouts"], arm["true_reward"]]
    assert metrics["start"]["kl"] == 0.0
    assert metrics["reward"] == "true reward"
    assert metrics["dpo"]["return_spread_over_score_spread"] > 0
    write_page(report, {}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="token tone-') == sum(
        len(line.tokens) for sample in report.samples for line in sample.lines if isinstance(line, TokenLine)
    )


def test_both_evaluations_say_the_same_of_dpo(ended: Any) -> None:
    _, first, second, _ = ended
    assert second.metrics["dpo"]["preference_accuracy"] == first.metrics["preference_accuracy"]
    assert second.metrics["reward_model"]["preference_accuracy"] == first.metrics["right"]["reward_model"]


def test_the_shown_rewards_are_dpos_log_ratios_bounded_and_scaled(ended: Any) -> None:
    config, _, report, inputs = ended
    preferences = Preferences.read(inputs["preferences"])
    policies = policies_for(
        config.policy,
        preferences.vocabulary,
        start_from=inputs["sft"],
        dpo=inputs["dpo"],
        device=torch.device("cpu"),
    )
    assert policies.dpo is not None
    words = {word: number for number, word in enumerate(preferences.words)}
    reward = config.rto.reward
    for sample in report.samples:
        for line in sample.lines[1:]:
            assert isinstance(line, TokenLine)
            tokens = [words[token.strip()] for token in line.tokens]
            batch = sequences([[words[sample.lines[0].text]]], [[tokens]])  # pyright: ignore[reportAttributeAccessIssue]
            with torch.no_grad():
                dpo, reference = (
                    torch.log_softmax(policy(batch), dim=-1)[range(len(tokens)), tokens].numpy()
                    for policy in (policies.dpo, policies.reference)
                )
            expected = reward.beta1 * np.clip(dpo - reference, -reward.log_ratio_clip, reward.log_ratio_clip)
            np.testing.assert_allclose(line.values, expected, atol=1e-5)


def test_without_a_reward_model_the_true_reward_alone_judges(tmp_path: Path) -> None:
    changes = {"reward_model": None, "baselines": [], "rto.reward.beta3": 0.0}
    config = small_config("ppo", **SHORT).with_overrides(changes)
    _, report, _ = _run(config, tmp_path)
    assert report.metrics["reward_model"] == {"preference_accuracy": None, "true_order_accuracy": None}
    assert report.metrics["arms"]["rto"]["score"] is None
    assert report.metrics["dpo"]["return_spread_over_score_spread"] is None
    assert report.metrics["rollouts_to_ppo_final"] is None
