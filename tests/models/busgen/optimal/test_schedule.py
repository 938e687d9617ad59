"""Weights and levels of the training against the paper's formulas, integrated numerically."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from models.busgen.optimal.curve import OptimalCurve
from models.busgen.optimal.schedule import AdaptiveSchedule, bin_edges, level_density, level_weight, untrained_loss
from models.busgen.optimal_config import ScheduleConfig
from models.common.errors import DataError
from tests.models.busgen.optimal.made_up import clustered, curve_of

CONFIG = ScheduleConfig(scale=0.7, most_weight=30.0, bump_mean=-0.5, bump_width=0.8, floor=0.1, bins=12)


@pytest.fixture(scope="module")
def curve() -> OptimalCurve:
    return curve_of(clustered(200, 16))


def weight_by_hand(s: float, curve: OptimalCurve, config: ScheduleConfig):
    j_star = float(curve.at(s)) / curve.total_variance
    bump = norm.pdf(math.log(s), config.bump_mean, config.bump_width) if s < curve.critical else 0.0
    return config.scale * min(1 / j_star, config.most_weight) + bump


def test_the_weight_is_the_papers(curve):
    assert 0.05 < curve.critical < 1.0
    levels = np.geomspace(0.03, 60, 41)
    by_hand = [weight_by_hand(s, curve, CONFIG) for s in levels]
    assert level_weight(levels, curve, CONFIG) == pytest.approx(by_hand)


def test_the_density_is_the_papers_integrated_over_each_bin(curve):
    config = CONFIG.but(bins=300)
    edges = bin_edges(curve, config)

    def running_loss(log_s: float) -> float:
        return float(curve.at(math.exp(log_s))) + 0.3 / (1 + log_s**2)

    def wanted(log_s: float) -> float:
        gap = running_loss(log_s) - float(curve.at(math.exp(log_s)))
        return float(weight_by_hand(math.exp(log_s), curve, config) * gap)

    middles = (edges[1:] + edges[:-1]) / 2
    found = level_density(curve, [running_loss(middle) for middle in middles], config)
    assert found.sum() == pytest.approx(1.0)
    breaks = [math.log(curve.critical), *np.log(curve.levels_S[1:-1])]
    whole = quad(wanted, edges[0], edges[-1], points=sorted(breaks), limit=500)[0]
    for low, high in [(0, 60), (60, 130), (130, 200), (200, 300)]:
        inside = [point for point in breaks if edges[low] < point < edges[high]]
        part = quad(wanted, edges[low], edges[high], points=sorted(inside), limit=500)[0] / whole
        even = (high - low) / 300
        assert found[low:high].sum() == pytest.approx(0.9 * part + 0.1 * even, rel=0.02)


def test_no_bin_falls_below_the_floor(curve):
    loss = np.zeros(12)
    loss[5] = 1e9
    found = level_density(curve, loss, CONFIG)
    assert found.min() == pytest.approx(0.1 / 12)
    assert found[5] == pytest.approx(0.9 + 0.1 / 12)


def test_levels_are_drawn_evenly_where_no_gap_is_left(curve):
    assert level_density(curve, np.zeros(12), CONFIG) == pytest.approx(np.full(12, 1 / 12))


def test_an_untrained_network_loses_what_the_best_multiple_of_the_noisy_image_does(curve):
    images = clustered(200, 16)
    images = (images - images.mean(0)).double().numpy()
    random = np.random.default_rng(1)
    for s in (2.0, 6.0):
        noisy = images + s * random.standard_normal((400, *images.shape))
        best = (noisy * images).sum() / np.square(noisy).sum()
        lost = np.square(best * noisy - images).sum(-1).mean()
        assert untrained_loss(s, curve) == pytest.approx(lost, rel=0.02)
    assert (untrained_loss(curve.levels_S, curve) >= curve.j_star_S).all()


def test_levels_drawn_have_the_density(curve):
    schedule = AdaptiveSchedule(curve, CONFIG)
    drawn = schedule.levels_at((torch.arange(120_000) + 0.5) / 120_000)
    shares, _ = np.histogram(np.log(drawn.numpy()), bins=schedule.edges_K1.numpy())
    assert shares / 120_000 == pytest.approx(schedule.density_K.numpy(), abs=2e-4)
    ends = schedule.levels_at(torch.tensor([0.0, 1.0]))
    assert ends.numpy() == pytest.approx([curve.levels_S[0], curve.levels_S[-1]], rel=1e-5)


def test_the_running_loss_is_a_mean_that_forgets_one_loss_after_the_other(curve):
    config = CONFIG.but(memory=5.0)
    schedule = AdaptiveSchedule(curve, config)
    before = schedule.loss_K.clone()
    middle = float(torch.exp((schedule.edges_K1[3] + schedule.edges_K1[4]) / 2))
    schedule.update(schedule.tally(torch.full((3,), middle), torch.full((3,), 7.0)))
    by_hand = float(before[3])
    for _ in range(3):
        by_hand += (7.0 - by_hand) / 5.0
    assert float(schedule.loss_K[3]) == pytest.approx(by_hand)
    others = [number for number in range(12) if number != 3]
    assert torch.equal(schedule.loss_K[others], before[others])


def test_levels_beyond_the_ends_count_to_the_first_and_the_last_bin(curve):
    schedule = AdaptiveSchedule(curve, CONFIG)
    tally = schedule.tally(torch.tensor([1e-5, 1e5, 1e5]), torch.tensor([1.0, 2.0, 4.0]))
    assert tally[:, 0].tolist() == [1.0, 1.0]
    assert tally[:, -1].tolist() == [6.0, 2.0]
    assert tally.sum() == 10.0


def test_a_bin_whose_gap_grows_is_drawn_more_often(curve):
    schedule = AdaptiveSchedule(curve, CONFIG)
    before = schedule.density_K.clone()
    middle = float(torch.exp((schedule.edges_K1[6] + schedule.edges_K1[7]) / 2))
    schedule.update(schedule.tally(torch.full((50,), middle), torch.full((50,), 1e4)))
    assert schedule.density_K[6] > before[6]


def test_a_schedule_loaded_goes_on_as_the_one_saved(curve):
    saved, loaded = AdaptiveSchedule(curve, CONFIG), AdaptiveSchedule(curve, CONFIG)
    levels = torch.tensor([0.1, 0.5, 2.0])
    saved.update(saved.tally(levels, torch.tensor([1.0, 5.0, 9.0])))
    loaded.load_state_dict(saved.state_dict())
    saved.update(saved.tally(levels, torch.tensor([2.0, 2.0, 2.0])))
    loaded.update(loaded.tally(levels, torch.tensor([2.0, 2.0, 2.0])))
    assert torch.equal(saved.density_K, loaded.density_K)


def test_weights_of_a_batch_are_those_of_its_levels(curve):
    schedule = AdaptiveSchedule(curve, CONFIG)
    levels = torch.tensor([0.1, 1.0, 10.0])
    assert schedule.weight_of(levels).tolist() == pytest.approx(level_weight(levels.numpy(), curve, CONFIG), rel=1e-5)
    assert schedule.per_pixel * curve.total_variance == pytest.approx(16)


def test_images_that_do_not_differ_have_no_schedule(curve):
    flat = OptimalCurve(curve.levels_S, np.zeros(len(curve.levels_S)), curve.error_S, 0.0, 16, 1.0)
    with pytest.raises(DataError, match="do not differ"):
        AdaptiveSchedule(flat, CONFIG)
