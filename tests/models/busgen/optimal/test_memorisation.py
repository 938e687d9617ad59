"""The meter of memorisation: 0 for a denoiser that knows no image, 1 for one that knows all of the training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.busgen.optimal.losses import level_losses
from models.busgen.optimal.memorisation import Memorisation, memorisation
from models.busgen.optimal.posterior import posterior_mean
from models.common.errors import DataError
from tests.models.busgen.optimal.made_up import curve_of, gaussian

LEVELS = np.geomspace(0.2, 3.0, 6)
DEVIATIONS = [1.0, 0.8, 0.6, 0.5] * 4
TRAINING = gaussian(160, DEVIATIONS, seed=1)
HELD_OUT = gaussian(160, DEVIATIONS, seed=2)
CURVE = curve_of(TRAINING, LEVELS, draws=1600)


def as_images(rows_ND: torch.Tensor) -> torch.Tensor:
    return rows_ND.reshape(-1, 1, 4, 4)


def linear(x, s_B, conditions):
    """The best denoiser of the population; it has seen no image."""
    variance = torch.tensor(DEVIATIONS).square().reshape(1, 1, 4, 4)
    return x * variance / (variance + s_B.square()[:, None, None, None])


def measured(denoise, seed: int = 3) -> Memorisation:
    train, held_out = (
        level_losses(denoise, as_images(rows), None, list(LEVELS), seed) for rows in (TRAINING, HELD_OUT)
    )
    return memorisation(train, held_out, LEVELS, CURVE)


def test_losses_are_what_a_loop_over_images_and_levels_gives():
    images = as_images(gaussian(5, DEVIATIONS, seed=7))
    levels = [0.3, 2.0]
    found = level_losses(linear, images, None, levels, 11, at_once=2)
    noise = np.random.default_rng([11]).standard_normal((5, 1, 4, 4), dtype=np.float32)
    for number in range(5):
        for place, s in enumerate(levels):
            noisy = images[number].numpy() + s * noise[number]
            variance = np.square(np.reshape(DEVIATIONS, (4, 4)))
            lost = np.square(noisy[0] * variance / (variance + s * s) - images[number, 0].numpy()).sum()
            assert found[number, place] == pytest.approx(lost, rel=1e-4)


def test_losses_do_not_depend_on_how_many_images_go_at_once():
    images = as_images(gaussian(7, DEVIATIONS, seed=7))
    one, all_ = (level_losses(linear, images, None, [0.5], 1, at_once=count) for count in (1, 7))
    assert one == pytest.approx(all_, rel=1e-6)


def test_a_denoiser_that_has_seen_no_image_remembers_nothing():
    found = measured(linear)
    assert abs(found.overall) < 3 * found.overall_error
    assert (np.abs(found.share_S) < 4 * found.error_S)[np.isfinite(found.share_S)].all()


def test_the_posterior_mean_of_the_training_images_remembers_all():
    found = measured(posterior_mean(as_images(TRAINING)))
    assert found.overall == pytest.approx(1.0, abs=max(3 * found.overall_error, 0.02))
    assert np.nanmin(found.share_S) > 0.9


def test_the_posterior_mean_loses_the_optimal_loss():
    remembering, images = posterior_mean(as_images(TRAINING)), as_images(TRAINING)
    lost = np.concatenate([level_losses(remembering, images, None, list(LEVELS), number) for number in range(20)])
    error = np.hypot(lost.std(0) / math.sqrt(len(lost)), CURVE.error_S)
    assert (np.abs(lost.mean(0) - CURVE.j_star_S) < 4 * error).all()
    assert lost.mean(0)[-1] == pytest.approx(CURVE.j_star_S[-1], rel=0.03)


def test_a_denoiser_half_way_between_stands_between():
    remembering = posterior_mean(as_images(TRAINING))

    def half(x, s_B, conditions):
        return (linear(x, s_B, conditions) + remembering(x, s_B, conditions)) / 2

    found = measured(half)
    assert measured(linear).overall + 3 * found.overall_error < found.overall < 1 - 3 * found.overall_error


def test_levels_without_room_tell_nothing():
    losses = np.ones((10, 6))
    no_room = replace(CURVE, j_star_S=np.full(6, 0.9))
    found = memorisation(losses, losses, LEVELS, no_room)
    assert np.isnan(found.share_S).all()
    assert math.isnan(found.overall)
    assert not found.tells


def test_errors_cover_the_true_share():
    random = np.random.default_rng(0)
    curve = replace(CURVE, j_star_S=np.full(6, 1.0), error_S=np.zeros(6), pixels=100)
    scores, overall = [], []
    for _ in range(300):
        common = random.standard_normal((60, 1))
        train = 4.0 + 0.7 * common + random.standard_normal((60, 6))
        held_out = 5.0 + 0.7 * common + random.standard_normal((60, 6))
        found = memorisation(train, held_out, LEVELS, curve)
        scores.append((found.share_S - 0.25) / found.error_S)
        overall.append((found.overall - 0.25) / found.overall_error)
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=0.2)
    assert np.mean(np.square(overall)) == pytest.approx(1.0, abs=0.3)


def test_the_error_of_the_curve_counts():
    train, held_out = np.full((10, 6), 4.0), np.full((10, 6), 5.0)
    curve = replace(CURVE, j_star_S=np.full(6, 1.0), error_S=np.full(6, 0.2), pixels=100, total_variance=40.0)
    found = memorisation(train, held_out, LEVELS, curve)
    moved = memorisation(train, held_out, LEVELS, replace(curve, j_star_S=np.full(6, 1.001)))
    assert found.share_S == pytest.approx(np.full(6, 0.25))
    assert found.error_S == pytest.approx((moved.share_S - found.share_S) / 0.001 * 0.2, rel=1e-2)
    assert found.overall_error == pytest.approx((moved.overall - found.overall) / 0.001 * 0.2, rel=1e-2)


def test_sets_of_different_size_make_no_pairs():
    with pytest.raises(DataError, match="losses of 10 training and 9 held-out images"):
        memorisation(np.ones((10, 6)), np.ones((9, 6)), LEVELS, CURVE)
