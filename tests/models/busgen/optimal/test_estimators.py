"""The optimal loss against an integral, sums written out, and the bounds that hold for any data."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from models.busgen.optimal.bounds import spread_of, upper_bound, violations, wiener_loss
from models.busgen.optimal.calibration import calibrate_c
from models.busgen.optimal.estimators import Sampling, cdol, estimate, exact, snis
from models.busgen.optimal.posterior import draw_losses
from models.common.errors import ConfigError
from tests.models.busgen.optimal.made_up import LEVELS, clustered, gaussian, sampling


def two_points_loss(radius: float, s: float) -> float:
    """J* of the points +-a with |a| = radius: the mean is a tanh(a.x / s^2), and a.x = radius^2 + s radius g."""
    shift, width = (radius / s) ** 2, radius / s
    inside, _ = quad(lambda g: norm.pdf(g) * math.tanh(shift + width * g) ** 2, -12, 12, limit=400)
    return radius**2 * (1.0 - inside)


def test_two_points_lose_what_the_integral_says():
    direction = torch.tensor([0.3, -0.5, 0.8, 0.1, 0.6])
    points = torch.stack([direction, -direction]) + 2.0
    levels = [0.5, 0.8, 1.5, 4.0]
    found = exact(points, levels, sampling(200_000))
    for s, value in zip(levels, found.j_star_S, strict=True):
        assert value == pytest.approx(two_points_loss(float(direction.norm()), s), rel=0.01)


def draws_by_hand(own, noise, images, s, own_weight=None, skip=None):
    """Paired, residual and spread of one draw, in plain Python. own_weight: of its own image beside the others."""
    x = [a + s * e for a, e in zip(own, noise, strict=True)]
    kernels, points = [], []
    for number, image in enumerate(images):
        if number != skip:
            kernels.append(math.exp(-sum((a - b) ** 2 for a, b in zip(x, image, strict=True)) / (2 * s * s)))
            points.append(image)
    if own_weight is not None:
        kernels.append(own_weight * math.exp(-sum((a - b) ** 2 for a, b in zip(x, own, strict=True)) / (2 * s * s)))
        points.append(own)
    total = sum(kernels)
    mean = [sum(k * p[d] for k, p in zip(kernels, points, strict=True)) / total for d in range(len(own))]
    second = sum(k * sum(v * v for v in p) for k, p in zip(kernels, points, strict=True)) / total
    squared = sum(m * m for m in mean)
    paired = sum(a * a for a in own) - squared
    return paired, sum((a - m) ** 2 for a, m in zip(own, mean, strict=True)), second - squared


@pytest.mark.parametrize("own_weight", [None, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("images_at_once", [2, 100])
def test_a_draw_is_what_sums_written_out_give(own_weight, images_at_once):
    images = gaussian(7, [1.0, 0.5, 2.0], seed=1)
    rows = torch.tensor([0, 3, 3, 6])
    noise = gaussian(4, [1.0, 1.0, 1.0], seed=2)
    log_weight = None if own_weight is None else (-math.inf if own_weight == 0 else math.log(own_weight))
    itself = None if own_weight is None else rows[:, None] == torch.arange(7)
    found = draw_losses(
        images[rows],
        noise,
        images,
        [0.4, 1.3],
        own_log_weight=log_weight,
        itself_MN=itself,
        images_at_once=images_at_once,
    )
    for place, s in enumerate([0.4, 1.3]):
        for draw, row in enumerate(rows.tolist()):
            by_hand = draws_by_hand(
                images[row].tolist(),
                noise[draw].tolist(),
                images.tolist(),
                s,
                own_weight,
                None if own_weight is None else row,
            )
            forms = (found.paired_SM, found.residual_SM, found.spread_SM)
            assert [form[place, draw] for form in forms] == pytest.approx(by_hand, rel=1e-4, abs=1e-5)


def test_the_exact_loss_is_that_of_a_sum_over_all_images_and_an_integral_over_noise():
    images = gaussian(5, [1.0, 0.7], seed=3)
    found = exact(images, [0.5, 1.0], sampling(100_000))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    points = images.double().numpy()
    for s, value in zip([0.5, 1.0], found.j_star_S, strict=True):
        loss = 0.0
        for own in points:
            for first, weight in zip(nodes, weights, strict=True):
                for second, other in zip(nodes, weights, strict=True):
                    kernel = np.exp(-np.square(own + s * np.array([first, second]) - points).sum(1) / (2 * s * s))
                    lost = np.square(own - kernel @ points / kernel.sum()).sum()
                    loss += weight * other / (2 * math.pi) * lost / len(points)
        assert value == pytest.approx(loss, rel=0.01)


def test_the_three_forms_agree_and_errors_cover():
    images = clustered(150, 8)
    s = [0.3, 0.6, 1.0, 3.0]
    many = exact(images, s, sampling(60_000))
    scores = []
    for seed in range(1, 41):
        found = exact(images, s, sampling(300, seed))
        scores.append((found.j_star_S - many.j_star_S) / found.error_S)
        assert (np.abs(found.paired_S - many.j_star_S) < 5 * found.paired_error_S).all()
        assert found.residual_S is not None
        assert found.residual_error_S is not None
        assert (np.abs(found.residual_S - many.j_star_S) < 5 * found.residual_error_S).all()
    # Images come equally often, so errors are at most what is told.
    assert np.square(scores).mean(0).max() < 1.5
    assert np.square(scores).mean(0)[0] > 0.2


def test_exact_stays_within_the_bounds_and_rises_with_the_level():
    images = clustered(300, 16) + 3.0
    found = exact(images, list(LEVELS), sampling(900))
    spread = spread_of(images, at_once=70, most_axes=100)
    assert (found.j_star_S >= 0.0).all()
    assert (np.diff(found.j_star_S) >= -1e-4 * spread.total_variance).all()
    assert (found.j_star_S <= upper_bound(spread, LEVELS) * (1 + 1e-6) + 3 * found.error_S).all()
    assert max(violations(LEVELS, found.j_star_S, found.error_S, spread).values()) < 3.0
    assert found.residual_S is not None
    assert (found.residual_S >= 0.0).all()


def test_violations_are_told_in_errors():
    spread = spread_of(clustered(300, 16), at_once=300, most_axes=100)
    found = exact(clustered(300, 16), list(LEVELS), sampling(300)).j_star_S.copy()
    error = np.full(len(LEVELS), 0.01)
    found[0], found[6] = -0.05, 2 * spread.total_variance
    told = violations(LEVELS, found, error, spread)
    assert told["negative"] == pytest.approx(5.0)
    assert told["above_bound"] == pytest.approx((found[6] - upper_bound(spread, LEVELS)[6]) / 0.01)
    assert told["falling"] == pytest.approx((found[6] - found[7:].min()) / 0.01)


def test_nothing_is_lost_without_noise_and_everything_in_it():
    images = clustered(200, 12)
    limits = [1e-3, 1e4]
    variance = float(images.double().var(0, correction=0).sum())
    assert exact(images, limits, sampling(400)).j_star_S == pytest.approx([0.0, variance], abs=1e-5 * variance)


def test_images_far_from_zero_lose_the_same():
    images = clustered(200, 12)
    near, far = (exact(images + shift, [0.4, 0.8], sampling(400)).j_star_S for shift in (0.0, 50.0))
    assert far == pytest.approx(near, rel=1e-3)


def test_many_gaussian_images_lose_what_the_wiener_filter_does():
    images = gaussian(4000, [1.0, 0.5], seed=4)
    levels = np.array([0.5, 1.0, 2.0])
    found = exact(images, list(levels), sampling(2000))
    own = spread_of(images, at_once=999, most_axes=10)
    assert own.variances_I is not None
    assert own.variances_I == pytest.approx(np.linalg.eigvalsh(np.cov(images.numpy().T, bias=True))[::-1], rel=1e-4)
    assert found.j_star_S == pytest.approx(wiener_loss(own.variances_I, levels), rel=0.02)
    assert wiener_loss(np.array([1.0, 0.25]), levels)[1] == pytest.approx(0.5 + 0.2)


def test_the_principal_variances_are_the_same_from_either_side():
    images = gaussian(12, [1.0] * 30, seed=4)
    few = spread_of(images, at_once=5, most_axes=12)
    assert few.variances_I is not None
    assert few.variances_I == pytest.approx(
        np.linalg.eigvalsh(np.cov(images.numpy().T, bias=True))[::-1][:12], abs=1e-5
    )
    assert few.total_variance == pytest.approx(float(images.var(0, correction=0).sum()), rel=1e-5)
    assert spread_of(images, at_once=5, most_axes=11).variances_I is None


@pytest.mark.parametrize("s", [0.5, 0.7])
def test_dol_is_low_snis_high_and_cdol_between_where_images_are_far_apart(s):
    images = clustered(2000, 64, clusters=50)
    truth = exact(images, [s], sampling(600)).j_star_S[0]
    parts = {"subset": 200, "subset_count": 8}
    dol, paper, wide = (cdol(images, [s], sampling(800), c=c, **parts).j_star_S[0] for c in (1.0, 40.0, 640.0))
    without = snis(images, [s], sampling(800), **parts).j_star_S[0]
    assert dol < paper < wide
    assert paper < truth < without
    assert dol < 0.7 * truth
    assert without > 1.1 * truth


def test_cdol_with_c_of_1_is_dol_and_without_end_snis_of_the_others():
    images = clustered(400, 6)
    own, others = images[:40], images[100:160]
    noise = gaussian(40, [1.0] * 6, seed=8)
    unhelped = draw_losses(own, noise, others, [0.5, 1.0])
    endless = draw_losses(own, noise, others, [0.5, 1.0], own_log_weight=-math.log(math.inf))
    assert np.array_equal(endless.paired_SM, unhelped.paired_SM)
    for row in range(40):
        alone = draw_losses(own[row : row + 1], noise[row : row + 1], torch.cat([others, own[row : row + 1]]), [0.5])
        told = draw_losses(own[row : row + 1], noise[row : row + 1], others, [0.5], own_log_weight=-math.log(1.0))
        assert told.paired_SM[0, 0] == pytest.approx(alone.paired_SM[0, 0], rel=1e-4, abs=1e-5)


def test_the_dol_by_name_is_cdol_with_c_of_1():
    images, parts = clustered(300, 6), {"subset": 30, "subset_count": 4}
    by_name = estimate(images, [0.5], sampling(200), estimator="dol", multiple=4.0, **parts)
    assert by_name.j_star_S == cdol(images, [0.5], sampling(200), c=1.0, **parts).j_star_S
    four = estimate(images, [0.5], sampling(200), estimator="cdol", multiple=4.0, **parts)
    assert four.j_star_S == cdol(images, [0.5], sampling(200), c=40.0, **parts).j_star_S


@pytest.mark.parametrize("estimator", ["snis", "dol", "cdol"])
def test_every_estimator_is_right_in_the_limits(estimator):
    images = clustered(400, 8)
    variance = float(images.double().var(0, correction=0).sum())
    low, high = 1e-3, 1e3
    found = estimate(images, [low, high], sampling(800), estimator=estimator, subset=100, subset_count=8, multiple=4.0)
    if estimator != "snis":
        assert found.j_star_S[0] == pytest.approx(0.0, abs=1e-6)
    assert found.j_star_S[1] == pytest.approx(variance, abs=5 * found.error_S[1] + 0.02 * variance)


def test_a_subset_of_everything_is_exact():
    images = clustered(100, 6)
    whole = estimate(images, [0.4], sampling(300), estimator="snis", subset=100, subset_count=4, multiple=4.0)
    assert whole.j_star_S == exact(images, [0.4], sampling(300)).j_star_S
    every = snis(images, [0.4], sampling(300), subset=100, subset_count=4)
    assert every.paired_S == pytest.approx(whole.paired_S, rel=1e-3)


def test_snis_is_an_upper_bound_by_its_residual():
    images = clustered(400, 8)
    truth = exact(images, list(LEVELS), sampling(2000))
    found = snis(images, list(LEVELS), sampling(800), subset=60, subset_count=8)
    assert found.residual_S is not None
    assert found.residual_error_S is not None
    assert (found.residual_S > truth.j_star_S - 3 * (truth.error_S + found.residual_error_S)).all()


def test_errors_between_subsets_cover_what_another_seed_gives():
    images = clustered(600, 8)
    found = [cdol(images, [0.6], Sampling(320, seed, 0.5), subset=60, subset_count=16, c=40.0) for seed in range(30)]
    spread = np.std([one.j_star_S[0] for one in found], ddof=1)
    assert np.mean([one.error_S[0] for one in found]) == pytest.approx(spread, rel=0.4)


def test_memory_changes_nothing_but_the_pieces():
    images = clustered(300, 20)
    roomy, tight = (exact(images, list(LEVELS), sampling(400, memory_gib=gib)) for gib in (1.0, 1e-4))
    assert tight.j_star_S == pytest.approx(roomy.j_star_S, rel=1e-5, abs=1e-6)
    parts = {"subset": 50, "subset_count": 4, "c": 20.0}
    one, other = (cdol(images, list(LEVELS), sampling(400, memory_gib=gib), **parts) for gib in (1.0, 3e-5))
    assert other.j_star_S == pytest.approx(one.j_star_S, rel=1e-5, abs=1e-5)


def test_too_little_memory_is_told_before_anything_is_computed():
    with pytest.raises(ConfigError, match=r"300 images of 20 numbers (.|\n)* take estimator='cdol'"):
        exact(clustered(300, 20), [1.0], sampling(400, memory_gib=1e-5))


def test_duplicated_images_lose_what_one_of_each_does():
    images = clustered(100, 6)
    once = exact(images, [0.3, 0.6], sampling(30_000))
    twice = exact(torch.cat([images, images]), [0.3, 0.6], sampling(30_000))
    assert (np.abs(twice.j_star_S - once.j_star_S) < 4 * np.hypot(once.error_S, twice.error_S)).all()


def test_the_calibration_finds_the_c_that_comes_nearest_to_exact():
    images = clustered(1500, 32, clusters=30)
    levels = list(np.geomspace(0.3, 2.0, 5))
    found = calibrate_c(images, levels, sampling(600), subset=150, subset_count=4, images=500)
    assert (found.images, found.subset) == (500, 50)
    errors = dict(zip(found.multiples, found.relative_error, strict=True))
    assert errors[found.best] == min(value for value in errors.values() if value is not None)
    assert found.dol_error is not None
    assert min(value for value in errors.values() if value is not None) < found.dol_error


def test_a_calibration_that_can_tell_nothing_keeps_the_papers_c():
    found = calibrate_c(clustered(60, 4), [1e3, 2e3], sampling(60), subset=20, subset_count=2, images=60)
    assert found.relative_error == (None,) * 5
    assert found.best == 4.0
