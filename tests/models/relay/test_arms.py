"""Each arm trained for a few steps: what it starts from, what it is given, and that all of them compute as much."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.common.contract import World
from models.common.in_process import fingerprint
from models.common.weights import load_stage_config, load_weights
from models.relay.arms import ARMS, Pipeline, TrainedArm, phases_of, teacher_further, tokens_per_step, with_steps
from models.relay.chains import Labels, with_chain
from models.relay.config import LabelsConfig, RelayConfig, StudentConfig, StudyStage, TeacherConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.network_config import NetworkConfig, OptimizerConfig
from models.relay.problems import Group, Problems
from models.relay.study import trained_stages
from models.relay.study_config import Arm, StudyConfig
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.parity import Parity

WorldOf = Callable[..., World]

NETWORK = NetworkConfig(layers=1, width=16, heads=2, feed_forward_width=16)
FURTHER = StudentConfig(
    max_steps=4,
    batch_size=8,
    network=NETWORK,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1, decay_steps=2),
)
TASK = TaskLengths(task=Arithmetic(modulus=2), train_lengths=(1, 2), label_lengths=(3, 4, 5), untouched_lengths=())


DATA = ProblemsData(tasks=(TASK,), tests_per_length=8)


def stage_of(**study: object) -> StudyStage:
    """A study of so few steps that an arm takes a fraction of a second."""
    return RelayConfig(
        data=DATA,
        teacher=TeacherConfig(
            max_steps=8, batch_size=8, network=NETWORK, optimizer=FURTHER.optimizer, supervised_pads="all"
        ),
        student=FURTHER.but(max_steps=30),
        labels=LabelsConfig(problems_per_length=20),
        fine_tuning=FURTHER.but(new_share=0.75),
        control=FURTHER,
        study=StudyConfig.model_validate(study),
    ).study_stage


def problems_of_run(folder: Path) -> Path:
    """The prepared problems of the run that a study belongs to."""
    problems = folder / "run"
    problems.mkdir()
    DATA.prepare(problems)
    return problems


@pytest.fixture
def pipeline(tmp_path: Path, world_of: WorldOf) -> Pipeline:
    config, world = stage_of(phases=2), world_of({"problems": problems_of_run(tmp_path)})
    return Pipeline(config, world, tmp_path, trained_stages(config, 0, world, tmp_path))


def run(pipeline: Pipeline, arm: Arm) -> TrainedArm:
    return ARMS[arm](pipeline, pipeline.folder / arm)


def began_with(folder: Path) -> str:
    """The fingerprint of the network that a training began with."""
    return load_parents(folder).get("start_from", "")


def load_parents(folder: Path) -> dict[str, str]:
    return json.loads((folder / "parents.json").read_text())


@pytest.mark.parametrize("arm", ["truth", "iterated", "equal_tokens"])
def test_arms_go_on_from_the_student_before(pipeline: Pipeline, arm: Arm) -> None:
    trained = run(pipeline, arm)
    assert not trained.stopped
    assert began_with(trained.network) == fingerprint(pipeline.stages["student_before"])
    before, after = (
        load_weights(folder)["head.bias"] for folder in (pipeline.stages["student_before"], trained.network)
    )
    assert not before.equal(after)


def test_the_true_labels_are_the_solvers_for_the_teachers_problems(pipeline: Pipeline) -> None:
    problems = pipeline.read_problems()
    trained = run(pipeline, "truth")
    of_teacher = Labels.read(pipeline.stages["labels"], problems)
    true = Labels.read(pipeline.folder / "truth" / "labels", problems)
    assert load_parents(trained.network)["labels"] == fingerprint(pipeline.folder / "truth" / "labels")
    for group in problems.label:
        asked = true.rows(group).asked_P[0]
        problems_PL = true.rows(group).tokens_PW[:, :asked]
        assert (of_teacher.rows(group).tokens_PW[:, :asked] == problems_PL).all()
        expected = with_chain(problems, group, problems_PL, problems.solutions(group, problems_PL))
        assert (true.rows(group).tokens_PW == expected.tokens_PW).all()
        assert trained.label_accuracy[group]["right_chains"] == 20


def test_the_control_of_equal_tokens_takes_as_many_more_steps_as_its_rows_are_shorter(pipeline: Pipeline) -> None:
    trained = run(pipeline, "equal_tokens")
    # Rows of n operators have 2n + 2 tokens of the problem, n(n + 1) of the n - 1 rounds and the answer, and EOS.
    assert trained.counted["tokens"] == pytest.approx(trained.counted["tokens_of_fine_tuning"], rel=0.1)
    assert trained.counted["steps"] > pipeline.config.control.max_steps
    shortest, longest = 8 * row_width(1), 8 * row_width(5)
    assert 4 * shortest < trained.counted["tokens_of_fine_tuning"] <= 4 * longest


def row_width(operators: int) -> int:
    """Tokens of a problem, of each round but the last, of the answer and EOS."""
    rounds = sum(2 * left + 2 for left in range(1, operators))
    return 2 * operators + 2 + rounds + 2


def test_tokens_of_a_mix_are_those_of_its_lengths_in_their_shares(problems: Problems) -> None:
    # Lengths 1 to 5 are drawn in proportion to themselves.
    expected = sum(length / 15 * row_width(length) for length in range(1, 6))
    assert tokens_per_step(StudentConfig(batch_size=2), problems, None, 0) / 2 == pytest.approx(expected, rel=0.06)


def test_a_filter_that_keeps_nothing_leaves_the_student_as_it_was(pipeline: Pipeline) -> None:
    pipeline = with_config(pipeline, {"labels.filters.least_confidence": 1.0})
    trained = run(pipeline, "filtered")
    assert trained.network == pipeline.stages["student_before"]
    assert trained.stopped == "no label passed its filter"


def test_a_filter_that_keeps_some_trains_on_these(pipeline: Pipeline) -> None:
    changes = {"teacher.max_steps": 60, "teacher.supervised_pads": "last", "labels.filters.least_confidence": 0.0}
    pipeline = with_config(pipeline, changes)
    teacher = pipeline.train(pipeline.config.teacher, pipeline.folder / "longer").folder
    pipeline = replace(pipeline, stages={**pipeline.stages, "teacher": teacher})
    trained = run(pipeline, "filtered")
    kept = sum(counts["kept"] for counts in trained.label_accuracy.values())
    labels = sum(counts["labels"] for counts in trained.label_accuracy.values())
    assert 0 < kept < labels == 60, "where both heads of a teacher of few steps agree"
    assert began_with(trained.network) == fingerprint(pipeline.stages["student_before"])


def test_iterated_relay_labels_longer_problems_with_a_teacher_trained_on(pipeline: Pipeline) -> None:
    trained = run(pipeline, "iterated")
    folder = pipeline.folder / "iterated"
    assert began_with(folder / "teacher_0") == fingerprint(pipeline.stages["teacher"])
    assert load_stage_config(folder / "teacher_0")["label_share"] == 0.5
    assert not (folder / "teacher_1").exists(), "nothing is left to label with it"
    assert sorted(group.length for group in trained.label_accuracy) == [3, 4, 5]
    problems = pipeline.read_problems()
    first, second = (Labels.read(folder / f"labels_{phase}", problems) for phase in (0, 1))
    assert ([g.length for g in first.groups], [g.length for g in second.groups]) == ([3, 4], [5])
    relay = Labels.read(pipeline.stages["labels"], problems)
    assert (first.rows(Group("arithmetic", 3)).tokens_PW == relay.rows(Group("arithmetic", 3)).tokens_PW).all()
    assert trained.counted == {"steps": 4.0, "phases": 2.0}


def test_self_training_labels_with_the_student_that_the_phase_before_left(pipeline: Pipeline) -> None:
    pipeline = with_config(pipeline, {"labels.problems_per_length": 100})
    trained = run(pipeline, "self_answer")
    folder = pipeline.folder / "self_answer"
    assert trained.network == folder / "student_1"
    assert began_with(folder / "student_0") == fingerprint(pipeline.stages["student_before"])
    assert began_with(folder / "student_1") == fingerprint(folder / "student_0")
    assert trained.counted == {"steps": 4.0, "phases": 2.0}, "as many steps as fine-tuning"
    for counts in trained.label_accuracy.values():
        assert counts["kept"] == counts["right_answers"] == counts["kept_right_answers"]


def test_self_training_that_runs_out_of_labels_says_so(pipeline: Pipeline) -> None:
    pipeline = with_config(pipeline, {"labels.filters.least_votes": 1.0, "labels.filters.vote_temperature": 10.0})
    trained = run(pipeline, "self_vote")
    assert trained.stopped == "no label passed its filter in phase 1 of 2"
    assert trained.network == pipeline.stages["student_before"]


@pytest.mark.parametrize("arm", ["alibi", "nope"])
def test_other_positions_are_trained_from_scratch_without_labels(pipeline: Pipeline, arm: Arm) -> None:
    trained = run(pipeline, arm)
    assert load_stage_config(trained.network)["network"]["positions"] == arm
    assert set(load_parents(trained.network)) == {"problems", "start_from"}
    assert set(load_parents(pipeline.folder / arm / "student")) == {"problems"}
    assert trained.counted == {"steps": 4.0, "steps_before": 30.0}


def test_the_vanilla_loop_learns_no_rounds(pipeline: Pipeline) -> None:
    trained = run(pipeline, "vanilla_loop")
    config = TeacherConfig.model_validate(load_stage_config(trained.network))
    assert (config.round_weight, config.curriculum_loss) == (0.0, None)
    assert config.network == pipeline.config.teacher.network


def test_without_labels_the_arm_that_counts_their_tokens_says_so(pipeline: Pipeline) -> None:
    stages = {name: folder for name, folder in pipeline.stages.items() if name not in ("labels", "student")}
    assert run(replace(pipeline, stages=stages), "equal_tokens").stopped == "no label passed its filter"


def test_phases_cut_the_lengths_from_short_to_long_with_their_numbers() -> None:
    tasks = (
        TaskLengths(train_lengths=(1,), label_lengths=(7, 3, 4, 6, 5), untouched_lengths=()),
        TaskLengths(task=Parity(), train_lengths=(1,), label_lengths=(9, 8), untouched_lengths=()),
    )
    labels = LabelsConfig(problems={"arithmetic": (70, 30, 40, 60, 50)})
    phases = phases_of(labels, ProblemsData(tasks=tasks), 3)
    assert [phase.lengths for phase in phases] == [
        {"arithmetic": (3, 4), "parity": (8,)},
        {"arithmetic": (5, 6), "parity": (9,)},
        {"arithmetic": (7,), "parity": ()},
    ]
    assert [phase.problems["arithmetic"] for phase in phases] == [(30, 40), (50, 60), (70,)]


def test_there_are_no_phases_without_lengths() -> None:
    assert len(phases_of(LabelsConfig(), ProblemsData(tasks=(TASK,)), 8)) == 3


def test_with_other_steps_the_rate_goes_up_and_down_over_the_same_shares() -> None:
    stage = FURTHER.but(max_steps=1000).with_overrides({"optimizer.warmup_steps": 30, "optimizer.decay_steps": 970})
    half = with_steps(stage, 500)
    assert (half.max_steps, half.optimizer.warmup_steps, half.optimizer.decay_steps) == (500, 15, 485)


def test_the_teacher_is_trained_on_as_gently_as_the_student() -> None:
    config = stage_of(teacher_share=0.5)
    config = config.with_overrides({"fine_tuning.optimizer.learning_rate": 2e-3, "teacher.curriculum_loss": 0.1})
    further = teacher_further(config)
    assert further.max_steps == 4
    assert further.curriculum_loss is None
    assert further.optimizer.learning_rate == pytest.approx(2e-3)


def test_later_phases_draw_other_batches(pipeline: Pipeline) -> None:
    first, again, later = (
        pipeline.train(
            pipeline.config.control, pipeline.folder / name, start_from=pipeline.stages["control"], phase=phase
        )
        for name, phase in (("first", 0), ("again", 0), ("later", 1))
    )
    assert first.metrics["loss"] == again.metrics["loss"]
    assert not np.allclose(first.metrics["loss"], later.metrics["loss"])


def with_config(pipeline: Pipeline, changes: dict[str, object]) -> Pipeline:
    return replace(pipeline, config=pipeline.config.with_overrides(changes))
