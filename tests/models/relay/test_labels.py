"""Labels by teacher, student and solver: which problems, which rows, which are kept, and how right they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.common.contract import World
from models.common.errors import ConfigError, DataError
from models.common.in_process import train_in_process
from models.relay.chains import Labels
from models.relay.config import LabelsConfig, StudentConfig, TeacherConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.decoding import room, write_chains
from models.relay.labels import (
    Part,
    collect,
    process,
    read_filter_accuracy,
    read_label_accuracy,
    shards,
    write_labels,
    write_made_up_labels,
)
from models.relay.labels_config import FilterConfig
from models.relay.network import read_student
from models.relay.network_config import NetworkConfig
from models.relay.problems import Group, Problems, fingerprints
from models.relay.task import EOS, PAD
from models.relay.tasks.arithmetic import Arithmetic

WorldOf = Callable[..., World]
NETWORK = NetworkConfig(layers=1, width=16, heads=2, feed_forward_width=16)
FEW = LabelsConfig(problems_per_length=12, shard_size=8)


@pytest.fixture
def teacher(tmp_path: Path, world_of: WorldOf, problems_folder: Path) -> Path:
    return teacher_of(tmp_path / "teacher", world_of, problems_folder)


@pytest.fixture
def easy_folder(tmp_path: Path) -> Path:
    """Sums modulo 2, of which a student soon has some right."""
    folder = tmp_path / "easy"
    folder.mkdir()
    task = TaskLengths(task=Arithmetic(modulus=2), train_lengths=(1, 2), label_lengths=(3, 4), untouched_lengths=())
    ProblemsData(tasks=(task,), tests_per_length=8).prepare(folder)
    return folder


@pytest.fixture
def student(tmp_path: Path, world_of: WorldOf, easy_folder: Path) -> Path:
    """It ends its chains, and a few of them are as long as they should be."""
    stage = StudentConfig(max_steps=40, batch_size=16, network=NETWORK)
    stage = stage.with_overrides({"optimizer.learning_rate": 2e-2, "optimizer.warmup_steps": 0})
    inputs = {"problems": easy_folder}
    return train_in_process(stage, world_of(inputs), tmp_path / "student", inputs).folder


def teacher_of(folder: Path, world_of: WorldOf, problems: Path, *, steps: int = 3) -> Path:
    stage = TeacherConfig(max_steps=steps, batch_size=4, network=NETWORK, supervised_pads="all")
    return train_in_process(stage, world_of({}), folder, {"problems": problems}).folder


def made(config: LabelsConfig, world: World, folder: Path) -> Labels:
    assert write_labels(config, world, world.inputs, folder)
    return Labels.read(folder, Problems.read(world.inputs["problems"]))


def test_shards_hold_each_problem_once_and_begin_with_the_longest(problems_folder: Path) -> None:
    found = shards(FEW.but(source="solver"), {"problems": problems_folder})
    assert [(shard["length"], shard["first"], shard["count"]) for shard in found] == [
        (8, 0, 8), (8, 8, 4), (7, 0, 8), (7, 8, 4), (6, 0, 8), (6, 8, 4)
    ]  # fmt: skip


def test_numbers_of_problems_are_given_length_by_length_as_in_table_3(problems_folder: Path) -> None:
    config = FEW.but(source="solver", problems={"arithmetic": (20, 1, 9)})
    found = shards(config, {"problems": problems_folder})
    counts = {length: sum(s["count"] for s in found if s["length"] == length) for length in (6, 7, 8)}
    assert counts == {6: 20, 7: 1, 8: 9}


def test_lengths_can_be_chosen_among_those_for_labels_alone(problems_folder: Path) -> None:
    inputs = {"problems": problems_folder}
    chosen = FEW.but(source="solver", lengths={"arithmetic": (7,)})
    assert {shard["length"] for shard in shards(chosen, inputs)} == {7}
    with pytest.raises(ConfigError, match="at 5, 9, which the data does not have for labels\nfits: 6, 7, 8"):
        shards(FEW.but(source="solver", lengths={"arithmetic": (7, 9, 5)}), inputs)
    with pytest.raises(ConfigError, match="2 numbers of problems for 3 lengths"):
        shards(FEW.but(source="solver", problems={"arithmetic": (7, 9)}), inputs)


def test_labels_without_their_writer_are_refused(problems_folder: Path) -> None:
    with pytest.raises(ConfigError, match="give it as input 'teacher'"):
        shards(FEW, {"problems": problems_folder})
    with pytest.raises(ConfigError, match="give it as input 'student'"):
        shards(FEW.but(source="student"), {"problems": problems_folder})


@pytest.mark.parametrize(("source", "name"), [("student", "last_round"), ("solver", "votes"), ("solver", "confidence")])
def test_a_filter_that_cannot_judge_the_writer_is_refused(source: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"filters {name} cannot judge labels of the {source}"):
        FEW.with_overrides({"source": source, "filters.kept": (name,)})


def test_voters_who_would_vote_alike_are_refused(problems_folder: Path, teacher: Path) -> None:
    config = FEW.but(filters=FilterConfig(kept=("votes",), voters=3, vote_dropout=0.0).model_dump())
    inputs = {"problems": problems_folder, "teacher": teacher}
    with pytest.raises(ConfigError, match="3 voters, but 2 teachers without dropout"):
        shards(config, inputs | {"voter_1": teacher})
    assert shards(config, inputs | {"voter_1": teacher, "voter_2": teacher})


def test_the_solvers_labels_are_right_altogether(problems_folder: Path, world_of: WorldOf, tmp_path: Path) -> None:
    problems = Problems.read(problems_folder)
    found = made(FEW.but(source="solver"), world_of({"problems": problems_folder}), tmp_path / "labels")
    for group in problems.label:
        rows = found.rows(group)
        for tokens, asked in zip(rows.tokens_PW, rows.asked_P, strict=True):
            expected = problems.solutions(group, tokens[None, :asked].astype(np.uint16))[0]
            assert tokens[asked:][tokens[asked:] != PAD].tolist() == expected[expected != PAD].tolist()
        counts = read_label_accuracy(tmp_path / "labels")[group]
        assert counts == dict.fromkeys(counts, 12)


def test_labelled_problems_are_the_same_whoever_labels_them_and_never_tests(
    problems_folder: Path, teacher: Path, world_of: WorldOf
) -> None:
    problems = Problems.read(problems_folder)
    world = world_of({"problems": problems_folder, "teacher": teacher})
    for shard in shards(FEW, world.inputs):
        part, solved = (process(FEW.but(source=source), shard, world) for source in ("teacher", "solver"))
        assert (part.problems_PL == solved.problems_PL).all()
        tests = fingerprints(problems.tests(part.group))
        assert not np.isin(fingerprints(part.problems_PL), tests).any()


def test_two_shards_of_a_length_have_problems_of_their_own(problems_folder: Path, world_of: WorldOf) -> None:
    world = world_of({"problems": problems_folder})
    first, second = (
        process(FEW.but(source="solver"), {"task": "arithmetic", "length": 8, "first": at, "count": 8}, world)
        for at in (0, 8)
    )
    assert not np.isin(fingerprints(first.problems_PL), fingerprints(second.problems_PL)).any()


def test_without_filters_every_label_is_kept_right_or_wrong(
    problems_folder: Path, teacher: Path, world_of: WorldOf, tmp_path: Path
) -> None:
    found = made(FEW, world_of({"problems": problems_folder, "teacher": teacher}), tmp_path / "labels")
    for group, counts in read_label_accuracy(tmp_path / "labels").items():
        assert len(found.rows(group).asked_P) == counts["kept"] == counts["labels"] == 12
        assert counts["right_chains"] < 12, "a teacher of three steps"


def test_what_is_counted_as_right_is_what_the_solver_writes_after_the_kept_problems(
    easy_folder: Path, student: Path, world_of: WorldOf, tmp_path: Path
) -> None:
    problems = Problems.read(easy_folder)
    config = LabelsConfig(source="student", problems_per_length=60, filters=FilterConfig(kept=("right_answer",)))
    found = made(config, world_of({"problems": easy_folder, "student": student}), tmp_path / "labels")
    for group, counts in read_label_accuracy(tmp_path / "labels").items():
        rows = found.rows(group) if group in found.groups else None
        right_answers = right_chains = kept = 0
        for tokens, asked in zip(*rows, strict=True) if rows else ():
            chain = [int(token) for token in tokens[asked:] if token != PAD]
            solution = [
                int(t) for t in problems.solutions(group, tokens[None, :asked].astype(np.uint16))[0] if t != PAD
            ]
            kept += 1
            right_answers += chain[: chain.index(EOS)][-1:] == solution[-2:-1]
            right_chains += chain == solution
        assert (counts["kept"], counts["kept_right_answers"], counts["kept_right_chains"]) == (
            kept,
            right_answers,
            right_chains,
        )
        assert counts["kept_right_answers"] == counts["kept"] == counts["right_answers"] < counts["labels"] == 60
        assert read_filter_accuracy(tmp_path / "labels")[group]["right_answer"]["kept"] == kept


def test_filters_are_passed_together(easy_folder: Path, student: Path, world_of: WorldOf) -> None:
    world = world_of({"problems": easy_folder, "student": student})
    problems, group = Problems.read(easy_folder), Group("arithmetic", 3)
    shard = {"task": group.task, "length": group.length, "first": 0, "count": 100}
    every = process(LabelsConfig(source="student"), shard, world).problems_PL
    network = read_student(student, len(problems.vocabulary), world.device)
    confidence = write_chains(network, problems, group, every, most=room(problems, group)).confidence_P
    median = float(np.sort(confidence)[50])

    def kept(*names: str) -> list[list[int]]:
        changes = {"source": "student", "filters.kept": names, "filters.least_confidence": median}
        return process(LabelsConfig().with_overrides(changes), shard, world).problems_PL.tolist()

    sure, right, long = kept("confidence"), kept("right_answer"), kept("length")
    assert sure == every[confidence >= np.float32(median)].tolist()
    assert 0 < len(right) < len(every) == 100
    in_both = [problem for problem in every.tolist() if problem in sure and problem in right]
    assert kept("confidence", "right_answer") == in_both
    assert kept("confidence", "right_answer", "length") == [problem for problem in in_both if problem in long]


def test_each_filter_alone_is_counted_though_none_is_asked_for(
    problems_folder: Path, teacher: Path, world_of: WorldOf
) -> None:
    world = world_of({"problems": problems_folder, "teacher": teacher})
    shard = {"task": "arithmetic", "length": 6, "first": 0, "count": 50}
    part = process(FEW, shard, world)
    assert set(part.alone) == {"last_round", "confidence", "length", "right_answer"}
    for name, counts in part.alone.items():
        alone = process(FEW.with_overrides({"filters.kept": (name,)}), shard, world)
        assert counts["kept"] == len(alone.problems_PL)
        assert counts["right_answers"] == alone.counts["kept_right_answers"]


def test_where_nothing_is_kept_there_is_nothing_to_train_on(
    problems_folder: Path, teacher: Path, world_of: WorldOf, tmp_path: Path
) -> None:
    config = FEW.with_overrides({"filters.kept": ("confidence",), "filters.least_confidence": 1.0})
    world = world_of({"problems": problems_folder, "teacher": teacher})
    parts = [process(config, shard, world) for shard in shards(config, world.inputs)]
    with pytest.raises(DataError, match="none of 36 labels passed the filters confidence\nfits: fewer filters"):
        collect(config, parts, world.inputs, tmp_path)
    assert not write_labels(config, world, world.inputs, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_a_length_of_which_nothing_is_kept_is_left_out(
    problems: Problems, problems_folder: Path, tmp_path: Path
) -> None:
    counts = dict.fromkeys(("labels", "right_answers", "right_chains", "kept", "kept_right_answers"), 0)
    parts = []
    for length, kept in ((6, 0), (7, 2)):
        group = Group("arithmetic", length)
        drawn = problems.draw(np.random.default_rng(0), group, kept + 1)[:kept]
        chains = problems.solutions(group, problems.tests(group))[:kept]
        parts.append(Part(group, drawn, chains, counts | {"labels": 5, "kept": kept}, {}))
    collect(FEW, parts, {"problems": problems_folder}, tmp_path)
    assert Labels.read(tmp_path, problems).groups == (Group("arithmetic", 7),)
    assert read_label_accuracy(tmp_path)[Group("arithmetic", 6)]["kept"] == 0


def test_two_teachers_who_write_alike_outvote_the_third(
    problems_folder: Path, teacher: Path, world_of: WorldOf, tmp_path: Path
) -> None:
    other = teacher_of(tmp_path / "other", world_of, problems_folder, steps=12)
    config = FEW.but(filters=FilterConfig(kept=("votes",), voters=3, vote_dropout=0.0, least_votes=0.6).model_dump())
    shard = {"task": "arithmetic", "length": 7, "first": 0, "count": 10}
    inputs = {"problems": problems_folder, "teacher": teacher, "voter_1": other, "voter_2": other}
    voted = process(config, shard, world_of(inputs))
    plain, of_other = (process(FEW, shard, world_of(inputs | {"teacher": each})) for each in (teacher, other))
    assert plain.chains_PW.tolist() != of_other.chains_PW.tolist()
    assert voted.chains_PW.tolist() == of_other.chains_PW.tolist()
    assert voted.alone["votes"]["kept"] == 10
    assert voted.counts["right_answers"] == plain.counts["right_answers"], "before the filters it is the teacher's"


@pytest.mark.parametrize("source", ["teacher", "student"])
def test_votes_are_the_same_each_time_and_few_are_unanimous(
    easy_folder: Path, student: Path, world_of: WorldOf, tmp_path: Path, source: str
) -> None:
    teacher = teacher_of(tmp_path / "teacher", world_of, easy_folder)
    changes = {
        "source": source,
        "filters.kept": ("votes",),
        "filters.vote_dropout": 0.5,
        "filters.vote_temperature": 3.0,
    }
    shard = {"task": "arithmetic", "length": 4, "first": 0, "count": 40}
    world = world_of({"problems": easy_folder, "teacher": teacher, "student": student})
    lax, strict = (FEW.with_overrides(changes | {"filters.least_votes": least}) for least in (0.0, 1.0))
    first, second = process(lax, shard, world), process(lax, shard, world)
    assert first.chains_PW.tolist() == second.chains_PW.tolist()
    assert len(first.problems_PL) == 40
    assert len(process(strict, shard, world).problems_PL) < 40


def test_labels_with_tokens_of_another_task_are_dropped(mixed_folder: Path, world_of: WorldOf, tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path / "teacher", world_of, mixed_folder, steps=1)
    world = world_of({"problems": mixed_folder, "teacher": teacher})
    problems = Problems.read(mixed_folder)
    parts = [process(FEW, shard, world) for shard in shards(FEW, world.inputs)]
    for part in parts:
        assert (part.chains_PW < 2 + len(problems.tasks[part.group.task].symbols)).all()
        assert part.counts["kept"] == len(part.chains_PW)
    assert sum(part.counts["kept"] for part in parts) < sum(part.counts["labels"] for part in parts)


def test_made_up_labels_can_be_read_and_end(problems_folder: Path, tmp_path: Path) -> None:
    problems = Problems.read(problems_folder)
    found = Labels.read(write_made_up_labels(problems_folder, tmp_path / "labels"), problems)
    assert found.groups == problems.label
    for group in found.groups:
        assert ((found.rows(group).tokens_PW == EOS).sum(axis=1) == 1).all()
