"""The report of RTO's evaluation, from made-up parts with known answers."""

import json
from pathlib import Path

import pytest

from models.common.errors import GateFailed
from models.common.report import Figure, Report, TokenLine
from models.rto import evaluate
from models.rto.config import EvaluationStage
from models.rto.findings import Found
from models.rto.study import STUDY_FILE, Study
from tests.models.rto.made_up import (
    PAIRS,
    learner_curves,
    measured,
    seed_of,
    small_config,
    small_preferences,
)

REWARDS = {"start": 0.0, "dpo": 1.5, "rto": 4.0, "ppo": 2.0, "ddpo": 1.0}
KLS = {"start": 0.0, "dpo": 8.0, "rto": 20.0, "ppo": 10.0, "ddpo": 10.0}


def _stage(**gates: float) -> EvaluationStage:
    return small_config(**{f"gates.{name}": value for name, value in gates.items()}).evaluation


def _curves(config: EvaluationStage) -> dict[str, dict[str, list[float]]]:
    """Each arm in a straight line to its end, in 3 iterations."""
    return {
        name: learner_curves(
            [REWARDS[name] * place / 3 for place in range(3)],
            [KLS[name] * place / 3 for place in range(3)],
            rollouts=stage.rollouts,
            updates=stage.updates,
        )
        for name, stage in config.arms.items()
    }


def _found(config: EvaluationStage, study: Study | None = None, truth: str | None = "a sum") -> Found:
    by_policy = measured(config, REWARDS, KLS)
    return evaluate.combine(config, by_policy, _curves(config), pairs=PAIRS, truth=truth, study=study or Study([], []))


def test_metrics_are_those_that_were_asked_for() -> None:
    config = _stage()
    metrics = evaluate.make_report(config, _found(config)).metrics
    rollouts = config.arms["rto"].rollouts * 3
    assert metrics["arms"].keys() == {"rto", "ppo", "ddpo"}
    for name, arm in metrics["arms"].items():
        assert arm["true_reward"] == pytest.approx(REWARDS[name])
        assert arm["kl"] == pytest.approx(KLS[name])
        assert arm["rollouts"] == rollouts
        assert arm["curve"] == [
            [pytest.approx(rollouts * place / 3), pytest.approx(REWARDS[name] * place / 3)] for place in range(4)
        ]
        assert arm["area"] == pytest.approx(REWARDS[name] / 2)
    assert metrics["dpo"]["preference_accuracy"] == 0.72
    assert metrics["dpo"]["true_reward"] == pytest.approx(1.5)
    assert metrics["dpo"]["kl"] == pytest.approx(8.0)
    assert metrics["rollouts_to_ppo_final"] == pytest.approx(0.5)
    assert json.loads(json.dumps(metrics)) == metrics


def test_all_arms_on_one_line_of_reward_and_kl_agree_at_equal_kl() -> None:
    config = _stage()
    found = evaluate.make_report(config, _found(config)).metrics["equal_kl"]
    assert found["kl"] == pytest.approx(10.0)
    assert found["true_reward"] == {"rto": pytest.approx(2.0), "ppo": pytest.approx(2.0), "ddpo": pytest.approx(1.0)}


def test_gates_compare_with_start_and_dpo_response_by_response() -> None:
    config = _stage(least_gain=3.9, least_gain_over_dpo=2.6)
    found = _found(config)
    assert found.gain("rto", "dpo") == (pytest.approx(2.5), pytest.approx(0.0, abs=1e-9)), "all share their luck"
    with pytest.raises(GateFailed, match=r"RTO above DPO: 2\.5, 0\.1 short of 2\.6"):
        evaluate.make_report(config, found).require_gates()


def test_seeds_of_the_study_stand_beside_this_run() -> None:
    config = _stage()
    study = Study([seed_of(1), seed_of(2, faster=0.6)], [])
    report = evaluate.make_report(config, _found(config, study))
    metrics = report.metrics["study"]
    assert metrics["seeds"] == 3
    assert [seed["seed"] for seed in metrics["by_seed"]] == [7, 1, 2]
    assert metrics["arms"]["rto"]["area"]["mean"] == pytest.approx((2.0 + 2.0 + 1.2) / 3)
    assert metrics["rollouts_to_ppo_final"]["mean"] == pytest.approx((0.5 + 0.5 + 5 / 6) / 3)
    assert metrics["rto_area_above"] == {"ppo": 3, "ddpo": 3}
    reward = report.figures[0]
    assert isinstance(reward, Figure)
    assert all(curve.low for curve in reward.curves)
    assert {table.title for table in report.tables} >= {"The arms over 3 seeds", "Mean rise, seed by seed"}


def test_a_seed_in_which_rto_never_gets_there_is_counted_and_not_hidden() -> None:
    config = _stage()
    report = evaluate.make_report(config, _found(config, Study([seed_of(1, faster=0.4)], [])))
    assert report.metrics["study"]["rollouts_to_ppo_final"]["missing"] == 1
    table = next(table for table in report.tables if table.title == "The arms over 2 seeds")
    assert "never in 1 of 2 seeds" in table.caption


def test_without_ppo_there_is_nothing_to_reach() -> None:
    config = small_config("ddpo").evaluation
    rewards = {name: value for name, value in REWARDS.items() if name != "ppo"}
    curves = _curves(config)
    found = evaluate.combine(
        config, measured(config, rewards, KLS), curves, pairs=PAIRS, truth="a sum", study=Study([], [])
    )
    assert evaluate.make_report(config, found).metrics["rollouts_to_ppo_final"] is None


def test_where_nobody_knows_the_truth_the_report_says_that_the_score_stands_for_it() -> None:
    config = _stage()
    report = evaluate.make_report(config, _found(config, truth=None))
    assert report.metrics["reward"] == "score"
    assert report.headline
    assert report.headline.columns[1] == "score"
    assert "nobody knows the true reward: the score stands for it" in report.headline.caption


def test_samples_show_each_token_with_its_reward_before_and_after() -> None:
    config = _stage()
    (sample,) = evaluate.make_report(config, _found(config)).samples
    lines = [line for line in sample.lines if isinstance(line, TokenLine)]
    assert [line.label for line in lines] == ["start", "DPO", "RTO"]
    assert lines[0].values == (0.01, -0.2)
    reward = config.arms["rto"].reward
    assert reward.log_ratio_clip is not None
    assert sample.most == pytest.approx(reward.beta1 * reward.log_ratio_clip)


def test_each_policy_is_a_shard_of_its_own() -> None:
    config = _stage()
    assert [shard["policy"] for shard in evaluate.shards(config, {})] == ["start", "dpo", "rto", "ppo", "ddpo"]


def test_the_report_is_collected_from_the_folders_of_earlier_stages(tmp_path: Path) -> None:
    config = small_config(**{"study.seeds": 1}).evaluation
    inputs = {"preferences": tmp_path / "preferences"}
    small_preferences(inputs["preferences"])
    for name, curves in _curves(config).items():
        inputs[f"arm_{name}"] = tmp_path / name
        inputs[f"arm_{name}"].mkdir()
        (tmp_path / name / "curves.json").write_text(json.dumps({"steps": [], "metrics": curves}))
    for name in ("dpo_evaluation", "study", "report"):
        (tmp_path / name).mkdir()
    inputs |= {"dpo_evaluation": tmp_path / "dpo_evaluation", "study": tmp_path / "study"}
    Report(workload="rto", title="t", summary="s", metrics=PAIRS | {"kl": 1.0}).write(inputs["dpo_evaluation"])
    study = {"seeds": [seed_of(1).as_json()], "length_trap": [seed_of(0).as_json()]}
    (inputs["study"] / STUDY_FILE).write_text(json.dumps(study))
    by_policy = measured(config, REWARDS, KLS)
    parts = [by_policy[shard["policy"]] for shard in evaluate.shards(config, inputs)]
    evaluate.collect(config, parts, inputs, tmp_path / "report")
    report = Report.read(tmp_path / "report")
    assert report.metrics["study"]["seeds"] == 2
    assert len(report.metrics["length_trap"]) == 1
    assert any(figure.title.startswith("Length trap") for figure in report.figures)


def test_every_arm_that_can_be_named_has_a_label() -> None:
    from models.rto.arms import ARMS
    from models.rto.study import TRAP_ARMS
    from models.rto.tables import LABELS

    assert {*ARMS, *TRAP_ARMS, "start", "dpo"} <= LABELS.keys()
