"""Two students on the same problems: who is right, on what neither has seen, and who may compete at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from models.common.contest import HELD_OUT
from models.common.errors import ConfigError
from models.common.in_process import train_in_process
from models.relay.config import EvaluationConfig, RelayConfig
from models.relay.contest import held_out_problems
from models.relay.presets import tiny
from models.relay.problems import Group, Problems, chosen_tests, fingerprints
from models.relay.streams import TESTS
from models.relay.task import exact_matches
from tests.fixtures.contests import damaged, entered, held, published
from tests.fixtures.worlds import world_of

LARGEST = Path(__file__).parent / "tasks" / "largest.py"
SUMS = {"task": {"kind": "arithmetic", "modulus": 5, "operators": ["+"]}, "train_lengths": [1, 2], "label_lengths": [3]}
TASK = "arithmetic"
CONFIG = tiny().with_overrides(
    {
        "data.tasks": [SUMS],
        "data.tests_per_length": 40,
        "student.max_steps": 400,
        "student.optimizer.decay_steps": 395,
        "promotion.problems_per_length": 60,
    }
)


def version_of(config: RelayConfig, folder: Path, seed: int = 0) -> Path:
    """A version of the student before fine-tuning, which is right often enough."""
    problems = folder / "problems"
    problems.mkdir(parents=True)
    config.data.prepare(problems)
    student = train_in_process(config.student, world_of({}, seed=seed), folder / "student", {"problems": problems})
    return published(folder / "version", config, student.folder, of=folder / "made_of")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version_of(CONFIG, tmp_path_factory.mktemp("relay-version"))


def test_a_version_gains_exactly_nothing_on_itself(version: Path, tmp_path: Path):
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    assert (contest.gain.value, contest.gain.error) == (0.0, 0.0)
    assert 0.2 < contest.candidate.value < 1.0, "else this says little"
    assert contest.candidate == contest.champion


def test_a_damaged_copy_loses_as_the_paired_test_says(version: Path, tmp_path: Path):
    worse = damaged(version, tmp_path / "worse", noise=0.3)
    contest, parts = held(CONFIG.contest(), worse, version, tmp_path / "contest")
    candidate, champion = np.concatenate(parts, axis=1)
    expected = stats.ttest_rel(candidate, champion)
    assert contest.gain.value / contest.gain.error == pytest.approx(expected.statistic, rel=1e-9)
    assert contest.gain.value + 3 * contest.gain.error < 0
    assert contest.items == len(candidate)


def test_a_version_scores_what_its_own_evaluation_found(version: Path, tmp_path: Path):
    stage = CONFIG.contest()
    world = entered(stage, version, version, tmp_path / "contest")
    problems = Problems.read(world.inputs[HELD_OUT])
    evaluated = replace(world, inputs={"problems": world.inputs[HELD_OUT], "student": version})
    for group in (*problems.train, *problems.label):
        shard = {"model": "student", "task": group.task, "length": group.length}
        written_PW = EvaluationConfig().process(shard, evaluated).written_PW
        right = exact_matches(written_PW, problems.solutions(group, problems.tests(group))).astype(float)
        mine, _ = stage.process({"task": group.task, "length": group.length}, world)
        if group in problems.train:
            assert mine.mean() == right.mean(), "where training has met most problems, the very same are left"
        else:
            assert abs(mine.mean() - right.mean()) < 4 * np.hypot(stats.sem(mine), stats.sem(right)) + 1e-9


def test_no_problem_of_a_short_length_was_trained_on_by_either(version: Path, tmp_path: Path):
    other_seed = CONFIG.with_overrides({"data.seed": 7})
    other = version_of(other_seed.with_overrides({"student.max_steps": 1}), tmp_path / "other")
    world = entered(CONFIG.contest(), version, other, tmp_path / "contest")
    problems, group = Problems.read(world.inputs[HELD_OUT]), Group(TASK, 2)
    items = held_out_problems(CONFIG.contest(), problems, group, world.inputs)
    assert len(items) > 1
    for config in (CONFIG, other_seed):
        set_aside = chosen_tests(config.data, group, TESTS)
        assert np.isin(fingerprints(items), fingerprints(set_aside)).all(), "no batch holds what is set aside"


def test_problems_of_a_labelled_length_are_new_ones_by_the_contests_seed(version: Path, tmp_path: Path):
    world = entered(CONFIG.contest(), version, version, tmp_path / "contest")
    problems, group = Problems.read(world.inputs[HELD_OUT]), Group(TASK, 3)
    one, again, other = (
        held_out_problems(CONFIG.contest().but(seed=seed), problems, group, world.inputs) for seed in (1, 1, 2)
    )
    assert len(np.unique(fingerprints(one))) == len(one) == 60
    np.testing.assert_array_equal(one, again)
    assert np.isin(fingerprints(one), fingerprints(other)).mean() < 0.5
    assert np.isin(fingerprints(one), fingerprints(problems.tests(group))).mean() < 0.5


def test_a_users_task_competes_where_its_file_was_and_a_rewritten_one_does_not(tmp_path: Path):
    mine = tmp_path / "mine.py"
    mine.write_text(LARGEST.read_text())
    task = {"kind": "user", "source": mine, "class_name": "Largest"}
    config = CONFIG.with_overrides({"data.tasks": [{**SUMS, "task": task}], "student.max_steps": 2})
    version = version_of(config, tmp_path / "user")
    elsewhere = json.loads((version / "config.json").read_text())
    elsewhere["data"]["tasks"][0]["task"]["source"] = "/gone/mine.py"
    (version / "config.json").write_text(json.dumps(elsewhere))
    contest, _ = held(config.contest(), version, version, tmp_path / "contest")
    assert contest.gain.value == 0.0

    mine.write_text(LARGEST.read_text().replace("numbers: int = 20", "numbers: int = 30"))
    with pytest.raises(ConfigError, match="knows 23 tokens, and the tasks have 33"):
        held(config.contest(), version, version, tmp_path / "rewritten")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data.tasks": [{**SUMS, "label_lengths": [4]}]}, "label_lengths"),
        ({"data.tasks": [{**SUMS, "train_lengths": [1]}]}, "train_lengths"),
        ({"data.tasks": [{**SUMS, "task": {"kind": "arithmetic", "modulus": 7, "operators": ["+"]}}]}, "the tasks"),
    ],
)
def test_versions_of_other_problems_are_refused(change: dict, told: str):
    champion = CONFIG.with_overrides(change).model_dump(mode="json")
    with pytest.raises(ConfigError, match=rf"the candidate has {told} .* no items to score both on"):
        CONFIG.contest().check_versions(CONFIG.model_dump(mode="json"), champion)
