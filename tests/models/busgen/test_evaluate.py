"""The evaluation: its parts, its report, and gates that pass and fail as numbers and bounds say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.busgen.evaluate import make_report
from models.busgen.findings import Found
from models.busgen.study import Draw
from models.common.errors import GateFailed
from models.common.report import Gate, Report
from tests.models.busgen.found import made_up_found
from tests.models.busgen.pipeline import Run, spread

STRICT = {
    "least_gain": 0.0, "most_gap": 1.0, "most_distance": 1.0, "most_copies": 0.05, "least_distance": 1.0,
    "least_planted_found": 1.0,
}  # fmt: skip


def gate(found: Found, word: str) -> Gate:
    [one] = [gate for gate in make_report(found).gates if word in gate.name]
    return one


def bounded(found: Found, **bounds: float) -> Found:
    return replace(found, config=found.config.but(**bounds))


def with_aucs(found: Found, better: str, worse: str) -> Found:
    """Draws in which one arm knows the answer, and the other says the contrary."""
    right = np.where(found.positive_N, 1.0, -1.0)
    draws = []
    for draw in found.draws:
        logits = {**draw.logits, better: right.tolist(), worse: (-right).tolist()}
        sizes = {**draw.sizes, draw.generated: logits["both"]}
        draws.append(Draw(draw.draw, logits, sizes, draw.generated, draw.dropped))
    return replace(found, draws=draws)


@pytest.fixture(scope="module")
def report(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("evaluation") / "report"
    return Report.read(spread(tiny_run.config.evaluation_stage, tiny_run.world, folder))


@pytest.fixture(scope="module")
def found() -> Found:
    return bounded(made_up_found(), **STRICT)


def test_a_run_ends_in_a_report(tiny_run: Run, report: Report) -> None:
    assert report.workload == "busgen"
    assert "dcis against benign" in report.title
    assert report.figures
    assert report.tables
    assert report.samples
    told = json.loads(json.dumps(report.metrics, allow_nan=False))
    assert {"classifier", "fd", "optimal_loss", "privacy", "scaling"} <= told.keys()
    assert told["classifier"].keys() == set(tiny_run.config.study.arms)
    for arm in told["classifier"].values():
        assert len(arm["draws"]) == tiny_run.config.study.draws
        assert 0.0 <= arm["auc"] <= 1.0
    assert len(told["optimal_loss"]["sigma"]) == tiny_run.config.gates.levels
    assert told["privacy"]["planted"] == 4
    assert told["privacy"]["generated"] == len(tiny_run.generated)


def test_the_parts_can_be_measured_in_any_order(tiny_run: Run, report: Report, tmp_path: Path) -> None:
    stage, world = tiny_run.config.evaluation_stage, tiny_run.world
    shards = stage.shards(world.inputs)
    backwards = [stage.process(shard, world) for shard in reversed(shards)]
    stage.collect(backwards[::-1], world.inputs, tmp_path)
    assert Report.read(tmp_path) == report


def test_the_published_area_is_that_of_the_runs_own_draw(report: Report) -> None:
    published, own = report.metrics["published"]["auc"], report.metrics["classifier"]["both"]["draws"][0]
    assert published == pytest.approx(own), "one image a patient: the order of logits is that of probabilities"


def test_phantoms_are_called_no_clinical_result(report: Report) -> None:
    assert report.summary.startswith("Phantom results are not clinical. ")


def test_real_images_are_not_called_clinical_either(found: Found) -> None:
    assert make_report(found).summary.startswith("These results are not clinical. ")


def test_phantoms_beside_real_images_are_told(found: Found) -> None:
    cases = (replace(found.images.cases[0], source="phantom"), *found.images.cases[1:])
    mixed = replace(found, images=replace(found.images, cases=cases))
    assert make_report(mixed).summary.startswith("Phantom results are not clinical. ")


def test_the_summary_tells_what_was_found(found: Found) -> None:
    sure = with_aucs(found, "both", "real")
    summary = make_report(sure).summary
    assert "from 0.000 to 1.000: +1.000 [+1.000, +1.000]" in summary
    assert f"Over {len(found.draws)} draws" in summary
    assert "the detector finds 5 of 5 planted ones" in summary


@pytest.mark.parametrize(("better", "passes"), [("both", True), ("real", False)])
def test_generated_images_have_to_help(found: Found, better: str, passes: bool) -> None:
    other = {"both": "real", "real": "both"}[better]
    one = gate(with_aucs(found, better, other), "mean AUC")
    assert one.passed == passes
    assert one.value == (1.0 if passes else -1.0)


def test_the_gain_asked_for_decides(found: Found) -> None:
    gain = found.gain("both", "real").value
    assert gate(bounded(found, least_gain=gain - 0.01), "mean AUC").passed
    assert not gate(bounded(found, least_gain=gain + 0.01), "mean AUC").passed


@pytest.mark.parametrize(
    ("word", "bound", "value"),
    [
        ("gap to the optimal loss", "most_gap", lambda found: found.losses.gap),
        ("to held-out images", "most_distance", lambda found: found.distance_share),
    ],
)
def test_a_bound_above_passes_and_one_below_fails(found: Found, word: str, bound: str, value: Any) -> None:
    reached = value(found)
    assert 0.0 < reached < 1.0
    assert gate(bounded(found, **{bound: reached * 1.01}), word).passed
    assert not gate(bounded(found, **{bound: reached * 0.99}), word).passed


def test_generated_images_that_are_nearer_than_held_out_ones_at_their_nearest_fail(found: Found) -> None:
    pixels = found.privacy.by_pixels

    def at(scale: float) -> Gate:
        held_out_N = pixels.generated.distance_N / scale
        near = replace(pixels, held_out=replace(pixels.held_out, distance_N=held_out_N, second_N=held_out_N))
        return gate(bounded(replace(found, privacy=replace(found.privacy, by_pixels=near)), **STRICT), "of the nearest")

    assert at(1.0).passed
    assert at(1.1).value == pytest.approx(1.1)
    assert not at(0.99).passed


def test_an_adaptation_that_leads_away_from_real_images_fails(found: Found) -> None:
    swapped = replace(found.distances, adapted=found.distances.unadapted, unadapted=found.distances.adapted)
    assert gate(found, "to held-out images").passed
    assert not gate(replace(found, distances=swapped), "to held-out images").passed


def test_a_generator_that_copies_fails() -> None:
    clean, copying = (bounded(made_up_found(copied=copied), **STRICT) for copied in (0, 12))
    assert gate(clean, "that are copies").passed
    one = gate(copying, "that are copies")
    assert one.value == pytest.approx(12 / len(copying.generated))
    assert not one.passed


@pytest.mark.parametrize(("share", "error", "passes"), [(0.2, 0.06, True), (0.2, 0.04, False), (0.05, 0.001, True)])
def test_only_what_is_surely_remembered_fails(found: Found, share: float, error: float, passes: bool) -> None:
    meter = replace(found.losses.memorisation, overall=share, overall_error=error)
    read = replace(found, losses=replace(found.losses, memorisation=meter))
    assert gate(read, "is remembered").value == pytest.approx(share - 2 * error)
    assert gate(read, "is remembered").passed == passes


def test_a_meter_that_cannot_tell_gates_nothing(found: Found) -> None:
    meter = replace(found.losses.memorisation, overall=float("nan"), overall_error=float("nan"))
    blind = make_report(replace(found, losses=replace(found.losses, memorisation=meter)))
    assert not [one for one in blind.gates if "is remembered" in one.name]


@pytest.mark.parametrize(("planted", "planted_found"), [(5, 4), (0, 0)])
def test_a_detector_that_misses_or_is_not_tried_fails(found: Found, planted: int, planted_found: int) -> None:
    assert gate(found, "planted copies").passed
    blind = replace(found.privacy.by_pixels, planted=planted, planted_found=planted_found)
    assert not gate(replace(found, privacy=replace(found.privacy, by_pixels=blind)), "planted copies").passed


def test_an_open_gate_lets_the_tiny_run_through(report: Report) -> None:
    assert all(one.passed for one in report.gates)
    report.require_gates()


def test_a_closed_gate_stops_the_run(found: Found) -> None:
    with pytest.raises(GateFailed, match="mean AUC"):
        make_report(bounded(with_aucs(found, "real", "both"))).require_gates()
