"""What all contests share: paired means and their errors, and what may be compared at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.common import workloads
from models.common.contest import Contest, Estimate, mean_of, paired, part_of
from models.common.contract import WorkloadConfig
from models.common.errors import ConfigError

CONTESTS = [
    (workload, preset)
    for workload in workloads.names()
    if type(workloads.preset(workload, "tiny")).contest is not WorkloadConfig.contest
    for preset in workloads.preset_names(workload)
]


def test_gain_over_error_is_students_t_of_the_paired_test():
    random = np.random.default_rng(0)
    shared = random.normal(size=200)
    candidate, champion = shared + 0.1 + 0.2 * random.normal(size=200), shared + 0.2 * random.normal(size=200)
    scores = paired(candidate.tolist(), champion.tolist())
    expected = stats.ttest_rel(candidate, champion)
    assert scores.gain.value / scores.gain.error == pytest.approx(expected.statistic, rel=1e-12)
    assert scores.candidate.error == pytest.approx(stats.sem(candidate), rel=1e-12)
    assert scores.champion.value == pytest.approx(champion.mean(), rel=1e-12)
    assert scores.gain.error < 0.5 * np.hypot(scores.candidate.error, scores.champion.error), "what pairing is for"


def test_the_errors_are_as_large_as_the_scatter_of_contests():
    random = np.random.default_rng(1)
    found = [paired(*random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 50).T.tolist()) for _ in range(400)]
    scatter = np.std([scores.gain.value for scores in found], ddof=1)
    assert np.mean([scores.gain.error for scores in found]) == pytest.approx(scatter, rel=0.12)


def test_equal_scores_gain_exactly_nothing():
    values = np.random.default_rng(2).random(37).tolist()
    assert paired(values, values).gain == Estimate(value=0.0, error=0.0)
    assert mean_of([0.1] * 7).error < 1e-16


def test_a_contest_survives_its_file(tmp_path: Path):
    told = Contest(metric="m", items=3, margin=0.1, **paired([1.0, 0.0, 1.0], [0.0, 0.0, 1.0])._asdict())
    told.write(tmp_path)
    assert Contest.read(tmp_path) == told


@pytest.mark.parametrize(("workload", "preset"), CONTESTS)
def test_every_preset_has_a_contest_that_survives_json_and_takes_two_of_its_kind(workload: str, preset: str):
    config = workloads.preset(workload, preset)
    stage = config.contest()
    assert type(stage).model_validate_json(stage.model_dump_json()) == stage
    assert stage.margin > 0
    version = config.model_dump(mode="json")
    stage.check_versions(version, version)


@pytest.mark.parametrize("workload", sorted({workload for workload, _ in CONTESTS}))
def test_a_person_sets_margin_and_seed_and_versions_of_others_are_refused(workload: str):
    config = workloads.preset(workload, "tiny").with_overrides({"promotion.margin": 0.25})
    stage = config.contest().but(seed=2**32 - 1)
    assert stage.margin == 0.25
    with pytest.raises(ConfigError, match="less than 4294967296"):
        stage.but(seed=2**32)
    mine = config.model_dump(mode="json")
    for other in {name for name, _ in CONTESTS} - {workload}:
        with pytest.raises(ConfigError, match=r"cannot be compared|no items to score both on"):
            stage.check_versions(mine, workloads.preset(other, "tiny").model_dump(mode="json"))


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ({"name": "nqs"}, "a version of nqs has no system.sites"),
        ({"system": {"sites": "many"}}, r"system.sites of a version(.|\n)*it was published by other code"),
        ({"system": 3}, "a version of an unknown workload has no system.sites"),
    ],
)
def test_what_a_version_lacks_is_said(version: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        part_of(version, "system.sites", int)
