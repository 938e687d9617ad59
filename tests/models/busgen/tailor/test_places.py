"""The lesion prior against scipy's kernel density, and outlines against their areas."""

import math

import numpy as np
import pytest
from scipy import stats

from models.busgen.images.cases import Box
from models.busgen.tailor.outlines import ellipse_mask, make_mask, moved_mask, outlines_of
from models.busgen.tailor.places import edges_of, fit_prior, points_of
from models.common.errors import DataError
from tests.models.busgen.tailor.made_up import SIDE, images

BOXES = [box for case in images(90).cases for box in case.boxes]


def test_a_box_is_its_point_and_back() -> None:
    points = points_of(BOXES)
    assert edges_of(points) == pytest.approx(np.array([[b.left, b.top, b.right, b.bottom] for b in BOXES]))
    assert points[3, 3] == pytest.approx(math.log((BOXES[3].right - BOXES[3].left) / (BOXES[3].bottom - BOXES[3].top)))


@pytest.mark.parametrize("bandwidth", [1.0, 0.5])
def test_the_density_is_scipys_with_scotts_bandwidth(bandwidth: float) -> None:
    prior = fit_prior(BOXES, bandwidth)
    points = points_of(BOXES)
    scott = len(BOXES) ** (-1 / 8)
    peer = stats.gaussian_kde(points.T, bw_method=bandwidth * scott)
    if bandwidth == 1.0:
        assert peer.factor == pytest.approx(stats.gaussian_kde(points.T).factor)
    tried = points[:20] + np.random.default_rng(0).normal(0, 0.1, (20, 4))
    assert prior.log_density(tried) == pytest.approx(peer.logpdf(tried.T), rel=1e-4, abs=1e-3)


def test_drawn_points_have_the_moments_of_scipys() -> None:
    points = points_of(BOXES)
    drawn = fit_prior(BOXES, 1.0).draw_points(60_000, np.random.default_rng(1))
    peer = stats.gaussian_kde(points.T)
    spread = np.cov(points.T, bias=True) + peer.covariance  # of a mixture of equal kernels
    assert drawn.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.01)
    assert np.cov(drawn.T) == pytest.approx(spread, rel=0.03, abs=4e-4)


def test_boxes_lie_in_the_image_keep_what_belongs_together_and_copy_none() -> None:
    drawn = fit_prior(BOXES, 1.0).draw(2000, np.random.default_rng(2))
    points = points_of(drawn)
    assert len(drawn) == 2000
    assert np.corrcoef(points[:, 1], points[:, 2])[0, 1] > 0.6  # large lesions lie low
    apart = np.abs(points[:, None] - points_of(BOXES)).max(axis=2).min(axis=1)
    assert (apart > 1e-3).all()


def test_cutting_off_is_drawing_from_the_density_within_the_image() -> None:
    near_edge = [Box(0.0 + 0.01 * n, 0.3, 0.2 + 0.01 * n, 0.5 + 0.01 * n) for n in range(6)]
    prior = fit_prior(near_edge, 2.0)
    many = prior.draw_points(40_000, np.random.default_rng(3))
    inside = many[((edges_of(many) >= 0) & (edges_of(many) <= 1)).all(axis=1)]
    drawn = points_of(prior.draw(20_000, np.random.default_rng(4)))
    apart = stats.ks_2samp(drawn[:, 0], inside[:, 0])
    assert float(np.asarray(apart)[1]) > 0.01
    assert len(inside) < 0.9 * len(many)


def test_boxes_that_are_all_alike_still_give_a_density() -> None:
    one = Box(0.2, 0.3, 0.5, 0.6)
    assert edges_of(fit_prior([one] * 5, 1.0).draw_points(3, np.random.default_rng(0))) == pytest.approx(
        np.array([[0.2, 0.3, 0.5, 0.6]] * 3), abs=1e-2
    )
    with pytest.raises(DataError, match="2 or more"):
        fit_prior([one], 1.0)


def test_an_ellipse_has_its_area_and_lies_in_its_box() -> None:
    box = Box(0.21, 0.33, 0.73, 0.58)
    mask = ellipse_mask(box, 64) / 255.0
    assert mask.sum() == pytest.approx(math.pi / 4 * 0.52 * 0.25 * 64**2, rel=0.01)
    rows, columns = np.nonzero(mask)
    assert int(0.33 * 64) <= rows.min() < rows.max() <= int(0.58 * 64)
    assert int(0.21 * 64) <= columns.min() < columns.max() <= int(0.73 * 64)


def test_a_moved_outline_is_the_lenders_in_the_new_box() -> None:
    lenders = outlines_of(images(30, side=96))
    box = Box(0.1, 0.15, 0.8, 0.75)
    found = moved_mask(box, 48, lenders, 3, np.random.default_rng(0))
    assert found.shape == (48, 48)
    ellipse = ellipse_mask(box, 48)  # what all lenders have
    assert np.abs(found.astype(float) - ellipse).mean() < 5
    assert found[:, : int(0.1 * 48)].max() == 0


def test_a_lender_whose_mask_is_a_box_gives_a_box() -> None:
    lenders = outlines_of(images(30, ellipses=False, side=96))
    mask = moved_mask(Box(0.25, 0.25, 0.75, 0.75), SIDE, lenders, 1, np.random.default_rng(0))
    assert (mask[7:17, 7:17] == 255).all()
    assert mask.sum() / 255 == pytest.approx(12 * 12, rel=0.05)


def test_of_several_lesions_the_mask_is_the_union() -> None:
    boxes = [Box(0.1, 0.1, 0.4, 0.4), Box(0.5, 0.5, 0.9, 0.9)]
    union = make_mask(boxes, SIDE, None, 5, np.random.default_rng(0))
    assert np.array_equal(union, np.maximum(*(ellipse_mask(box, SIDE) for box in boxes)))
    assert make_mask([], SIDE, None, 5, np.random.default_rng(0)).max() == 0
