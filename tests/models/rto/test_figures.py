"""The figures of the report: which there are, what they show, and that nothing in them breaks the page."""

from pathlib import Path

import pytest

from infra.report_page import write_page
from models.common.report import Figure, Report
from models.rto import evaluate, figures
from models.rto.comparison import Seed
from models.rto.config import EvaluationStage
from models.rto.findings import Found
from models.rto.study import Study
from tests.models.rto.made_up import PAIRS, learner_curves, means, measured, seed_of, small_config, training

POLICIES: tuple[str, ...] = ("start", "dpo", "rto", "ppo", "ddpo")


def _found(config: EvaluationStage, study: Study) -> Found:
    values = dict.fromkeys(POLICIES, 1.0)
    curves = {
        name: learner_curves([0.0, 0.5], [0.0, 0.5], stage.rollouts, stage.updates)
        for name, stage in config.arms.items()
    }
    return evaluate.combine(
        config, measured(config, values, values), curves, pairs=PAIRS, truth="a sum of hidden scores", study=study
    )


def _figures(study: Study) -> dict[str, Figure]:
    config = small_config().evaluation
    drawn = figures.all_figures(config, _found(config, study))
    return {figure.title: figure for figure in drawn if isinstance(figure, Figure)}


def test_reward_and_divergence_come_first_and_the_trap_only_where_there_was_one() -> None:
    alone, trapped = _figures(Study([], [])), _figures(Study([], [seed_of(0)]))
    assert list(alone)[:3] == ["True reward against rollouts", "KL from the start", "True reward against KL"]
    assert set(trapped) - set(alone) == {"Length trap: length of responses", "Length trap: true reward"}


def test_two_seeds_have_no_band_and_three_have_one() -> None:
    (two, *_), (three, *_) = (
        _figures(study)["True reward against rollouts"].curves
        for study in (Study([seed_of(1)], []), Study([seed_of(1), seed_of(2)], []))
    )
    assert not two.low
    assert three.low


def test_start_and_dpo_are_levels_of_the_reward() -> None:
    levels = _figures(Study([], []))["True reward against rollouts"].levels
    assert [level.label for level in levels] == ["start", "DPO"]


def test_lengths_are_drawn_only_where_they_vary() -> None:
    assert "Length of responses" not in _figures(Study([], []))
    arm = training([0.0, 1.0], [0.0, 1.0])
    longer = Seed(1, means(0, 0), means(1, 1), PAIRS, {**seed_of(1).arms, "rto": arm})
    longer.arms["rto"].curves["length"] = [12.0, 20.0]
    assert "Length of responses" in _figures(Study([longer], []))


def test_clipping_is_shown_for_arms_that_clip() -> None:
    clipped = _figures(Study([seed_of(1)], []))["Clipped DPO log-ratios"]
    assert [curve.label for curve in clipped.curves] == ["RTO", "DDPO"]


def test_the_line_of_reward_against_kl_runs_through_the_iterations() -> None:
    found = _found(small_config().evaluation, Study([], []))
    rto = next(curve for curve in figures.reward_against_kl(found).curves if curve.label == "RTO")
    assert list(zip(rto.x, rto.y, strict=True)) == [(0.0, 0.0), (0.5, 0.5), (pytest.approx(1.0), pytest.approx(1.0))]


@pytest.mark.parametrize("study", [Study([], []), Study([seed_of(1), seed_of(2)], [seed_of(0)])])
def test_the_page_is_drawn(study: Study, tmp_path: Path) -> None:
    config = small_config().evaluation
    report: Report = evaluate.make_report(config, _found(config, study))
    write_page(report, {}, tmp_path / "report.html")
    assert "nan" not in (tmp_path / "report.html").read_text().lower().replace("finan", "")
