"""The presets for large machines: their sizes, the paper's tables, their test sets, and their first steps."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from infra.clusters import CLUSTER, NODE_8, ONE_GPU, Cluster
from infra.preflight import check_batches, check_memory
from models.common.contract import World
from models.common.in_process import train_in_process
from models.relay.chains import Labels, with_chain
from models.relay.config import RelayConfig, StudentConfig, TeacherConfig
from models.relay.learning import require_rows
from models.relay.memory import student_parameters
from models.relay.network import Decoder
from models.relay.presets import gpu, paper
from models.relay.problems import Group, Problems
from tests.fixtures.worlds import world_of

WITHIN_TRAINING = {"arithmetic": 42_515, "edit_distance": 60_844, "increasing_subsequence": 73_235}  # table 3
MERGED = 100_000  # of each task


@pytest.mark.parametrize("make", [gpu, paper])
def test_the_network_is_the_papers(make: Callable[[], RelayConfig]) -> None:
    """4 D^2 of attention and 2 D F of the MLP in 3 layers are 2.36 million weights; the rest is biases and norms."""
    for stage in (make().teacher, make().student, make().fine_tuning, make().control):
        blocks = stage.network.block_parameters()
        assert 3 * (4 * 256**2 + 2 * 256 * 1024) == 2_359_296 < blocks < 1.01 * 2_359_296
    network = Decoder(make().student.network, 50)
    assert sum(p.numel() for p in network.blocks.parameters()) == make().student.network.block_parameters()
    assert student_parameters(make().student.network, 50) == sum(p.numel() for p in network.parameters())


def test_labels_are_those_of_table_3() -> None:
    config = paper()
    for each in config.data.tasks:
        task = each.task.name
        counts = config.labels.problems[task]
        assert len(counts) == len(each.label_lengths)
        assert sum(counts) + WITHIN_TRAINING[task] == MERGED
        assert config.fine_tuning.new_share_of(task) == pytest.approx(sum(counts) / MERGED)
    rising = config.labels.problems["increasing_subsequence"]
    assert (rising[0], rising[-1]) == (1479, 1198)
    assert {before - after for before, after in pairwise(rising)} <= {14, 15}


def test_settings_are_those_of_table_1() -> None:
    config = paper()
    rates = {"teacher": 5e-4, "student": 5e-4, "fine_tuning": 1e-4, "control": 1e-4}
    for name, rate in rates.items():
        stage = getattr(config, name)
        optimizer = stage.optimizer
        assert (stage.batch_size, stage.network.dropout, optimizer.weight_decay) == (512, 0.1, 0.01)
        assert (optimizer.learning_rate, optimizer.final_rate) == (rate, 0.0)
        assert optimizer.warmup_steps == stage.max_steps / 100
        assert optimizer.decay_steps + optimizer.warmup_steps == stage.max_steps
        assert stage.network.positions == "rope"
    assert not config.teacher.task_weights
    for stage in (config.student, config.fine_tuning, config.control):
        assert stage.task_weights == {"arithmetic": 1.0, "edit_distance": 10.0, "increasing_subsequence": 5.0}
    teacher = config.teacher
    assert (teacher.alignment, teacher.supervised_pads, teacher.curriculum_loss) == ("right", "last", None)
    assert (teacher.outer_norm, teacher.tied_head, teacher.input_injection) == (False, False, False)


def small_data(config: RelayConfig, folder: Path) -> Problems:
    config.data.but(tests_per_length=4).prepare(folder)
    return Problems.read(folder)


@pytest.mark.parametrize("make", [gpu, paper])
def test_every_length_has_problems_that_can_be_worked_off(make: Callable[[], RelayConfig], tmp_path: Path) -> None:
    problems = small_data(make(), tmp_path)
    assert len(problems.groups) == len(set(problems.groups)) > 20
    for group in problems.groups:
        tests = problems.tests(group)
        assert len(tests) == 4
        rounds = problems.tasks[group.task].work(tests, group.length).rounds_PTR
        assert rounds.shape[:2] == (4, problems.loops(group))
        assert rounds.shape[2] <= tests.shape[1]


@pytest.mark.parametrize(("make", "cluster"), [(gpu, ONE_GPU), (paper, ONE_GPU), (paper, NODE_8), (paper, CLUSTER)])
def test_a_preset_fits_the_machines_it_is_meant_for(make: Callable[[], RelayConfig], cluster: Cluster) -> None:
    config = make()
    check_batches(config, cluster)
    check_memory(config, cluster)
    world = world_of({})
    for stage in (config.teacher, config.student, config.fine_tuning):
        require_rows(stage, World(**{**vars(world), "size": cluster.workers}))


@pytest.mark.parametrize("make", [gpu, paper])
@pytest.mark.parametrize("name", ["teacher", "student", "fine_tuning", "control"])
def test_each_stage_takes_two_steps_on_real_batches(make: Callable[[], RelayConfig], name: str, tmp_path: Path) -> None:
    config = make()
    stage: TeacherConfig | StudentConfig = getattr(config, name)
    inputs = {"problems": tmp_path / "problems"}
    inputs["problems"].mkdir()
    problems = small_data(config, inputs["problems"])
    changes: dict[str, Any] = {"max_steps": 2, "batch_size": 8, "mix": {"draws": 4, "buckets": 2}}
    changes |= {"optimizer.warmup_steps": 0, "optimizer.decay_steps": 2}
    if name == "fine_tuning":
        inputs["labels"] = tmp_path / "labels"
        inputs["labels"].mkdir()
        solved_labels(problems).write(inputs["labels"])
    trained = train_in_process(stage.with_overrides(changes), world_of({}), tmp_path / "out", inputs)
    assert not trained.stopped
    assert len(trained.metrics["loss"]) == 2
    assert all(math.isfinite(value) and value > 0.0 for value in trained.metrics["loss"])
    assert all(math.isfinite(value) and value > 0.0 for value in trained.metrics["gradient_norm"])


def solved_labels(problems: Problems) -> Labels:
    """Right chains of two lengths beyond training for each task."""
    rows = {}
    ends = {task: [g for g in problems.label if g.task == task] for task in problems.tasks}
    for group in [Group(task, each.length) for task, groups in ends.items() for each in (groups[0], groups[-1])]:
        tests = problems.tests(group)
        rows[group] = with_chain(problems, group, tests, problems.solutions(group, tests))
    return Labels(rows, problems.vocabulary)
