"""The figures of the report: which there are, and that they show the numbers and the pixels that were found."""

import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import ecdf, mannwhitneyu

from infra.report_page import write_page
from models.busgen import figures, grids, samples, tables
from models.busgen.findings import Found
from models.common.image_grid import ImageGrid
from models.common.report import Figure, Report
from tests.models.busgen.found import POSITIVE, SHOTS, made_up_found

usual = cache(made_up_found)


def _figure(found: Found, title: str) -> Figure:
    return next(one for one in figures.all_figures(found) if isinstance(one, Figure) and one.title == title)


def _grid(found: Found, title: str) -> ImageGrid:
    return next(one for one in figures.all_figures(found) if isinstance(one, ImageGrid) and one.title == title)


def _shown(grid: ImageGrid, row: int, column: int) -> np.ndarray:
    pixels = grid.pixels(row, column)
    assert pixels is not None
    return np.frombuffer(pixels, np.uint8).reshape(grid.height, grid.width)


def _place(pixels_HW: np.ndarray, among_NHW: np.ndarray) -> int:
    """The row of the only image that has these pixels."""
    (rows,) = np.nonzero((among_NHW == pixels_HW).all(axis=(1, 2)))
    assert len(rows) == 1
    return int(rows[0])


def test_real_and_generated_images_of_both_labels_come_first() -> None:
    first = figures.all_figures(usual())[0]
    assert isinstance(first, ImageGrid)
    assert first.row_labels == ("real dcis", "generated dcis", "real benign", "generated benign")


def test_images_stand_in_the_row_of_their_class() -> None:
    found = usual()
    grid = grids.by_class(found)
    for row, label in enumerate(grid.row_labels):
        kind, name = label.split()
        images = found.images if kind == "real" else found.generated
        for column in range(grid.shape[1]):
            case = images.cases[_place(_shown(grid, row, column), images.pixels_NHW)]
            assert (case.subtype or case.pathology) == name
            assert case.split == ("test" if kind == "real" else "")


def test_images_of_a_row_are_of_different_patients() -> None:
    found = made_up_found()
    cases = [replace(case, patient=case.patient[:-1] + "0") for case in found.images.cases]
    found = replace(found, images=replace(found.images, cases=tuple(cases)))
    grid = grids.by_class(found)
    shown = [
        found.images.cases[_place(_shown(grid, 0, column), found.images.pixels_NHW)].patient
        for column in range(grid.shape[1])
        if grid.images[0][column]
    ]
    assert len(shown) == len(set(shown)) < grid.shape[1]  # ten names a decade, so that places stay empty


def test_each_device_has_a_row_of_its_images() -> None:
    found = usual()
    grid = grids.by_device(found)
    for row, device in enumerate(grid.row_labels):
        for column, kind in enumerate(grid.column_labels):
            if kind:
                images = found.images if kind == "real" else found.generated
                assert images.cases[_place(_shown(grid, row, column), images.pixels_NHW)].device == device


def test_one_device_or_none_is_no_grid_of_devices() -> None:
    for devices in ((), ("one",)):
        titles = [drawn.title for drawn in figures.all_figures(made_up_found(devices=devices))]
        assert "By device" not in titles


@pytest.mark.parametrize(("side", "edge"), [(16, 96), (32, 96), (64, 128), (256, 256)])
def test_small_images_are_enlarged_and_rows_fit_the_page(side: int, edge: int) -> None:
    grid = ImageGrid.of("one", np.zeros((1, 1, side, side), np.uint8), **grids._look(side))  # pyright: ignore[reportPrivateUsage]
    assert grid.scale * side == edge
    assert grids.columns_of(side) * edge < 800


def test_the_loss_figure_has_the_losses_as_they_were_found() -> None:
    losses = usual().losses
    curves = _figure(usual(), "Loss of the pretrained generator").curves
    for curve, values in zip(
        curves, (losses.train_S, losses.held_out_S, losses.optimal_S, losses.untrained_S), strict=True
    ):
        np.testing.assert_allclose(curve.y, values)
        np.testing.assert_allclose(curve.x, losses.levels_S)


def test_an_optimal_loss_of_zero_is_left_out_of_a_logarithmic_axis() -> None:
    losses = usual().losses
    zeros = replace(losses, optimal_S=np.where(losses.levels_S < 0.1, 0.0, losses.optimal_S))
    optimal = figures.loss_figure(zeros).curves[2]
    assert len(optimal.x) == (losses.levels_S >= 0.1).sum() < len(losses.levels_S)


def test_the_gap_in_units_of_the_untrained_loss_is_j_less_j_star() -> None:
    losses = usual().losses
    train, held_out = figures.gap_figure(losses).curves
    np.testing.assert_allclose(np.array(train.y) * losses.untrained_S, losses.train_S - losses.optimal_S)
    np.testing.assert_allclose(np.array(held_out.y) * losses.untrained_S, losses.held_out_S - losses.optimal_S)
    np.testing.assert_allclose((np.array(train.high) - train.y) * losses.untrained_S, losses.errors_S)
    untrained = (losses.untrained_S - losses.optimal_S) / losses.untrained_S
    assert f"gate's {sum(train.y) / untrained.sum():.1%}:" in figures.gap_figure(losses).caption


def test_levels_without_room_are_left_out_of_the_memorisation() -> None:
    losses = usual().losses
    figure = figures.memorisation_figure(losses)
    told_S = np.isfinite(losses.memorisation.share_S)
    assert 0 < told_S.sum() < len(told_S)
    assert figure.curves[0].x == tuple(losses.levels_S[told_S])


def test_memorisation_that_cannot_be_told_is_not_drawn() -> None:
    found = made_up_found(optimal_share=1.0)
    meter = replace(
        found.losses.memorisation,
        share_S=np.full(9, np.nan),
        error_S=np.full(9, np.nan),
        overall=float("nan"),
        overall_error=float("nan"),
    )
    found = replace(found, losses=replace(found.losses, memorisation=meter))
    assert "Memorisation" not in [drawn.title for drawn in figures.all_figures(found)]
    assert {row[0]: row[1] for row in tables.memory_table(found).rows}["memorised share"].startswith("cannot be told")


def test_the_area_under_each_roc_curve_is_the_auc_beside_it() -> None:
    curves = _figure(usual(), "ROC curves").curves
    assert [curve.label.split(", AUC")[0] for curve in curves] == [
        "few real",
        "generated",
        "few real + generated",
        "published classifier",
        "by descriptors",
        "chance",
    ]
    for curve in curves[:-1]:
        assert float(curve.label[-5:]) == pytest.approx(np.trapezoid(curve.y, curve.x), abs=5.1e-4)


def test_the_auc_beside_a_curve_is_mann_whitneys() -> None:
    found = usual()
    scores = expit(np.array(found.draws[0].logits["both"]))  # one image a patient
    statistic = mannwhitneyu(scores[found.positive_N], scores[~found.positive_N]).statistic
    expected = statistic / (found.positive_N.sum() * (~found.positive_N).sum())
    both = _figure(found, "ROC curves").curves[2]
    assert both.label == f"few real + generated, AUC {expected:.3f}"


def test_a_long_roc_curve_is_thinned_to_its_corners_and_keeps_its_area() -> None:
    random = np.random.default_rng(0)
    x, y = (np.append(0.0, np.sort(random.random(5000))) for _ in range(2))
    few = np.array([0.0, 0.0, 0.0, 0.2, 0.5, 1.0]), np.array([0.0, 0.3, 0.6, 0.6, 0.6, 1.0])
    assert figures.corners(*few).tolist() == [0, 2, 4, 5]
    kept = figures.corners(x, y)
    assert len(kept) <= 100
    assert kept[0] == 0
    assert kept[-1] == 5000
    assert np.trapezoid(y[kept], x[kept]) == pytest.approx(np.trapezoid(y, x), abs=1e-3)


def test_points_of_a_draw_stand_above_its_few_real_ones() -> None:
    found = usual()
    line, generated, both = _figure(found, "AUC by draw of the few lesions").curves
    assert line.x == line.y
    for curve, arm in ((generated, "generated"), (both, "both")):
        assert list(curve.x) == found.aucs["real"]
        assert list(curve.y) == found.aucs[arm]
    gains = np.array(both.y) - both.x
    assert gains.mean() == pytest.approx(found.gain("both", "real").value)


def test_the_scaling_curve_begins_with_few_real_ones_alone() -> None:
    found = made_up_found(arms=("real", "generated", "both", "many_real"))
    figure = _figure(found, "AUC by number of generated images")
    curve = figure.curves[0]
    assert curve.x == (0.0, 12.0, 24.0)
    assert curve.y[0] == pytest.approx(np.mean(found.aucs["real"]))
    assert curve.y[2] == pytest.approx(np.mean(found.aucs["both"]))
    assert figure.levels[0].value == pytest.approx(np.mean(found.aucs["many_real"]))
    assert not _figure(usual(), figure.title).levels


def test_few_draws_have_no_band() -> None:
    title = "AUC by number of generated images"
    assert _figure(usual(), title).curves[0].low
    assert not _figure(made_up_found(draws=2), title).curves[0].low


def test_the_reliability_diagram_counts_the_patients_of_each_bin() -> None:
    found = usual()
    bins = _figure(found, "Reliability of the published classifier").curves[0]
    probability = expit(found.classifier_N)
    first = probability < 0.2
    assert bins.x[0] == pytest.approx(probability[first].mean())
    assert bins.y[0] == pytest.approx(found.positive_N[first].mean())


def test_distances_are_drawn_as_their_distribution_functions() -> None:
    search = usual().privacy.by_pixels
    generated, held_out, threshold = figures.distance_figure(search).curves
    for curve, distances in ((generated, search.generated.distance_N), (held_out, search.held_out.distance_N)):
        np.testing.assert_allclose(curve.y[1::2], ecdf(distances).cdf.evaluate(np.array(curve.x[1::2])))
        assert curve.y[0] == 0.0
    assert set(threshold.x) == {search.threshold}


def test_many_distances_are_thinned_to_what_the_page_draws_as_it_is() -> None:
    search = usual().privacy.by_pixels
    distances = np.random.default_rng(0).random(3000)
    many = replace(search, generated=replace(search.generated, distance_N=distances))
    curve = figures.distance_figure(many).curves[0]
    assert len(curve.x) <= 100
    np.testing.assert_allclose(curve.y[1::2], ecdf(distances).cdf.evaluate(np.array(curve.x[1::2])))


@pytest.mark.parametrize("measure", ["pixels", "features"])
def test_nearest_pairs_are_shown_one_above_the_other_to_the_pixel(measure: str) -> None:
    found = usual()
    search = found.privacy.by_pixels if measure == "pixels" else found.privacy.by_features
    assert search
    grid = _grid(found, f"Nearest pairs by {measure}")
    columns = grid.shape[1]
    train_RHW = found.images.pixels_NHW[found.training_rows_R]
    for place, pair in enumerate(search.pairs):
        row, column = 2 * (place // columns), place % columns
        np.testing.assert_array_equal(_shown(grid, row, column), found.generated.pixels_NHW[pair.generated])
        np.testing.assert_array_equal(_shown(grid, row + 1, column), train_RHW[pair.train])
        assert grid.notes[row + 1][column].startswith(f"{pair.distance:.3f}")


def test_a_copy_is_shown_beside_the_mirrored_image_that_it_was_made_of() -> None:
    found = made_up_found(copied=2)
    grid = _grid(found, "Nearest pairs by pixels")
    for column in (0, 1):
        np.testing.assert_array_equal(_shown(grid, 0, column)[:, ::-1], _shown(grid, 1, column))
        distance, called = grid.notes[1][column].split(", ")
        assert float(distance) < 0.01
        assert called == "copy"


def test_the_real_images_of_pairs_are_those_that_were_learnt_from() -> None:
    found = usual()
    cases = [found.images.cases[row] for row in found.training_rows_R]
    assert [case.split for case in cases[-2 * SHOTS :]] == ["few_shot"] * 2 * SHOTS
    assert {case.split for case in cases[: -2 * SHOTS]} == {"pretrain"}
    assert [case.subtype for case in cases[-2 * SHOTS :]] == [POSITIVE] * SHOTS + [""] * SHOTS


def test_planted_copies_look_like_what_they_were_made_of() -> None:
    grid = _grid(usual(), "Planted copies")
    for column in range(grid.shape[1]):
        planted, source = (_shown(grid, row, column).astype(float) for row in (0, 1))
        shifts = product((source, source[:, ::-1]), range(-2, 3), range(-2, 3))
        moved = [np.roll(view, (down, along), (0, 1)) for view, down, along in shifts]
        assert max(np.corrcoef(planted.ravel(), view.ravel())[0, 1] for view in moved) > 0.7


ODD: list[dict[str, Any]] = [
    {"draws": 1, "sizes": (), "devices": ()},
    {"descriptors": False, "features": False, "quarantined": ()},
    {"optimal_share": 0.0, "arms": ("real", "generated", "both", "transfer", "transfer_both", "many_real")},
    {"side": 64, "draws": 2, "negative_shots": None},
]


@pytest.mark.parametrize("odd", [{}, *ODD])
def test_the_page_is_drawn_and_read_again(odd: dict[str, Any], tmp_path: Path) -> None:
    found = made_up_found(**odd)
    report = Report(
        workload="busgen",
        title="BUSGen",
        summary="",
        metrics={},
        headline=tables.headline(found),
        figures=tuple(figures.all_figures(found)),
        tables=tuple(tables.all_tables(found)),
        samples=tuple(samples.make_samples(found)),
    )
    report.write(tmp_path)
    assert Report.read(tmp_path) == report
    write_page(report, {}, tmp_path / "report.html")
    shown = "".join(part.split(">")[1] for part in (tmp_path / "report.html").read_text().split("<")[1:] if ">" in part)
    assert not re.search(r"\bnan\b", shown.lower())
    assert "FID" not in shown
