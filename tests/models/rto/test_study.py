"""The pipeline in small: stages trained in process, their folders, and what a seed's shard brings back."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.errors import TrainingError
from models.common.in_process import train_in_process
from models.rto import study
from models.rto.config import SftStage, StudyStage
from tests.fixtures.worlds import world_of
from tests.models.rto.made_up import seed_of, small_config


@dataclass
class CountingLearner:
    """Counts its steps, and is stopped by a guard after so many."""

    world: World
    stopped_at: int | None
    finished: bool = False
    sound: bool = True
    steps: int = 0

    def step(self) -> Metrics:
        if self.steps == self.stopped_at:
            raise TrainingError("step 3: KL is 300\nlower the learning rate")
        self.steps += 1
        return {"loss": 1.0 / self.steps}

    def state_dict(self) -> LearnerState:
        return LearnerState({})

    def load_state_dict(self, state: LearnerState) -> None:
        raise AssertionError("there is no checkpoint to load")

    def weights(self) -> dict[str, Tensor]:
        return {"count": torch.tensor([float(self.steps)]), "luck": torch.rand(1)}


class CountingStage(SftStage):
    """A stage whose learner is the counting one."""

    max_steps: int = 5
    stopped_at: int | None = None

    def build(self, world: World) -> CountingLearner:
        return CountingLearner(world, self.stopped_at)


def _stage(**changes: Any) -> StudyStage:
    return small_config("ppo", **{"study.seeds": 2, "study.length_trap_seeds": 1, **changes}).study_stage


def test_a_stage_trained_in_process_leaves_the_folder_that_the_frame_would(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").write_text("data")
    world = world_of({}, None)
    trained = train_in_process(CountingStage(), world, tmp_path / "stage", {"preferences": source}, source)
    assert load_file(trained.folder / "weights.safetensors")["count"].item() == 5.0
    assert json.loads((trained.folder / "config.json").read_text())["max_steps"] == 5
    parents = json.loads((trained.folder / "parents.json").read_text())
    assert parents.keys() == {"preferences", "start_from"}
    assert trained.metrics == {"loss": [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]}
    assert not trained.stopped


def test_the_seed_decides_what_a_stage_begins_with(tmp_path: Path) -> None:
    def luck(seed: int, name: str) -> float:
        trained = train_in_process(CountingStage(), replace(world_of({}, None), seed=seed), tmp_path / name, {})
        return load_file(trained.folder / "weights.safetensors")["luck"].item()

    assert luck(1, "a") == luck(1, "b") != luck(2, "c")


def test_other_bytes_are_another_parent(tmp_path: Path) -> None:
    found = []
    for place, content in enumerate(("data", "data", "other")):
        source = tmp_path / f"source{place}"
        source.mkdir()
        (source / "data").write_text(content)
        trained = train_in_process(CountingStage(), world_of({}, None), tmp_path / f"stage{place}", {"x": source})
        found.append(json.loads((trained.folder / "parents.json").read_text())["x"])
    assert found[0] == found[1] != found[2]


def test_an_arm_that_a_guard_stops_is_a_result_with_its_reason(tmp_path: Path) -> None:
    trained = train_in_process(CountingStage(stopped_at=2), world_of({}, None), tmp_path / "stage", {})
    assert trained.stopped == "step 3: KL is 300"
    assert trained.metrics == {"loss": [1.0, 1 / 2]}


def test_a_stage_that_cannot_begin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="KL is 300"):
        train_in_process(CountingStage(stopped_at=0), world_of({}, None), tmp_path / "stage", {})


def test_the_runs_own_seed_is_not_repeated() -> None:
    numbers = [(shard["kind"], shard["number"]) for shard in study.shards(_stage())]
    assert numbers == [("seeds", 1), ("seeds", 2), ("length_trap", 0)]


def test_the_length_trap_gives_its_responses_room() -> None:
    trap = study.in_length_trap(_stage(**{"study.length_trap.longest": 40, "study.length_trap_iterations": 7}))
    assert trap.arms.keys() == study.TRAP_ARMS.keys()
    for arm in trap.arms.values():
        assert (arm.most_response, arm.max_steps) == (40, 7 * arm.updates)
        assert arm.policy.context == arm.scorer.context == 41
    assert trap.arms["rto_without_clip"].reward.log_ratio_clip is None
    assert trap.arms["rto_without_score"].reward.beta3 == 0.0
    assert trap.dpo.policy.context == 41


def test_a_study_is_read_back_as_it_was_collected(tmp_path: Path) -> None:
    config = _stage()
    study.collect(config, [seed_of(1), seed_of(2), seed_of(5)], tmp_path)
    assert study.Study.read(tmp_path) == study.Study([seed_of(1), seed_of(2)], [seed_of(5)])


@pytest.mark.parametrize("number", [0, 2], ids=["seed", "length trap"])
def test_a_shard_goes_from_data_to_measured_arms(number: int) -> None:
    changes = {
        "rto.iterations": 2,
        "study.length_trap_iterations": 2,
        "study.length_trap.longest": 12,
        "data.pairs": 64,
    }
    config = _stage(**changes, **{"sft.max_steps": 3, "dpo.max_steps": 3, "reward_model.max_steps": 3})
    shard = study.shards(config)[number]
    found = study.process(config, shard, world_of({}, None))
    rollouts = config.arms["rto"].rollouts
    assert found.arms.keys() == (study.TRAP_ARMS if shard["kind"] == "length_trap" else config.arms).keys()
    for arm in found.arms.values():
        assert [x for x, _ in arm.points] == [0.0, rollouts, 2.0 * rollouts]
        assert arm.final["kl"] >= 0
        assert not arm.stopped
    assert len({arm.rewards[0] for arm in found.arms.values()}) == 1, "all arms begin with the same rollouts"
    assert found.start["kl"] == 0.0
    assert found.pairs["true_right"].keys() == {"dpo", "reward_model"}
    again = study.process(config, shard, world_of({}, None))
    assert json.dumps(again.as_json()) == json.dumps(found.as_json())
