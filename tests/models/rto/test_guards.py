"""Guards stop a run for the thing that is wrong, when it has been wrong long enough, and say what to change."""

import json
import math
import re
from pathlib import Path

import pytest

from infra import manifests
from models.common.errors import TrainingError
from models.rto.guards import Guards
from models.rto.ppo_config import GuardConfig, PpoConfig
from tests.fixtures.stages import rehearsal, request_for, tiny_stage, train_alone

HEALTHY = {"kl": 5.0, "entropy": 1.5, "score": 0.0}
CONFIG = GuardConfig(most_kl=50.0, least_entropy=0.1, most_score_drop=2.0, patience=3)


def _after_healthy_rollouts(count: int = 4) -> Guards:
    guards = Guards(CONFIG)
    for rollout in range(count):
        guards.check(8 * rollout, HEALTHY, 1.0)
    return guards


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kl": 60.0}, r"60 nats a response .* guards.most_kl is 50\ntry a larger reward.beta2"),
        ({"entropy": 0.01}, r"0.01 nats of entropy .* guards.least_entropy is 0.1"),
        ({"score": -2.5}, r"mean score is -2.5, and in the first 3 rollouts it was 0 .* allows -2"),
    ],
)
def test_what_is_wrong_often_enough_in_a_row_stops_the_run(wrong: dict[str, float], message: str) -> None:
    guards = _after_healthy_rollouts()
    guards.check(32, HEALTHY | wrong, 1.0)
    guards.check(40, HEALTHY | wrong, 1.0)
    with pytest.raises(TrainingError, match=message) as stopped:
        guards.check(48, HEALTHY | wrong, 1.0)
    assert "stopped before step 49" in str(stopped.value)


def test_one_healthy_rollout_between_starts_the_count_anew() -> None:
    guards = _after_healthy_rollouts()
    for rollout in range(9):
        guards.check(8 * rollout, HEALTHY | ({"kl": 60.0} if rollout % 3 else {}), 1.0)


def test_the_score_is_held_against_the_spread_of_the_first_rollouts() -> None:
    guards = Guards(CONFIG)
    for score, spread in ((1.0, 1.0), (2.0, 2.0), (3.0, 2.0)):
        guards.check(0, HEALTHY | {"score": score}, spread)
    least = 2.0 - 2.0 * math.sqrt((1.0 + 4.0 + 4.0) / 3)
    for _ in range(5):
        guards.check(0, HEALTHY | {"score": least + 0.01}, 1.0)
    for _ in range(2):
        guards.check(0, HEALTHY | {"score": least - 0.01}, 1.0)
    with pytest.raises(TrainingError, match="mean score"):
        guards.check(0, HEALTHY | {"score": least - 0.01}, 1.0)


def test_without_a_score_the_others_are_still_looked_at() -> None:
    guards = Guards(CONFIG)
    far = {"kl": 60.0, "entropy": 1.0}
    for _ in range(2):
        guards.check(0, far, 0.0)
    with pytest.raises(TrainingError, match=r"guards.most_kl"):
        guards.check(0, far, 0.0)


def test_a_number_that_is_not_finite_stops_the_run_at_once_and_says_which() -> None:
    with pytest.raises(TrainingError, match=r"before step 9: of the rollout, score is nan") as stopped:
        _after_healthy_rollouts().check(8, HEALTHY | {"score": math.nan}, 1.0)
    assert "nothing was learnt from it" in str(stopped.value)


def test_a_resumed_guard_goes_on_counting() -> None:
    guards = _after_healthy_rollouts()
    guards.check(32, HEALTHY | {"kl": 60.0}, 1.0)
    guards.check(40, HEALTHY | {"kl": 60.0}, 1.0)
    resumed = Guards(CONFIG)
    resumed.load_state_dict(json.loads(json.dumps(guards.state_dict())))
    with pytest.raises(TrainingError, match=r"guards.most_kl"):
        resumed.check(48, HEALTHY | {"kl": 60.0}, 1.0)


def test_a_stopped_stage_says_what_to_change_and_leaves_a_sound_checkpoint(tmp_path: Path) -> None:
    config = tiny_stage("rto", "rto")
    assert isinstance(config, PpoConfig)
    strict = config.but(guards=config.guards.but(most_kl=1e-6, patience=1))
    request = request_for(strict, rehearsal(strict, tmp_path / "inputs"), tmp_path / "run" / "rto")
    told = r"stopped before step \d+, after 1 such rollouts in a row: the policy is [\d.e-]+ nats(.|\n)*reward.beta2"
    with pytest.raises(TrainingError, match=told) as stopped:
        train_alone(request)
    step = re.search(r"the checkpoint of step (\d+) is good", str(stopped.value))
    assert step, stopped.value
    manifests.verify(request.folder / "checkpoints" / f"step-{int(step[1]):010d}")
    assert not (request.folder / "result").exists()
