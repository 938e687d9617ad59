from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.busgen.network_config import UNetConfig, official_unet
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.embedding import OFFICIAL_LEVELS, LevelTable, level_features, official_levels
from models.busgen.networks.network import make_network, parameter_count
from models.common.errors import ConfigError
from tests.models.busgen.networks.made_up import OFFICIAL, conditions

RELEASED = ConditionsConfig(
    classes=("benign", "malignant"), devices=tuple(f"device {number}" for number in range(19)), descriptors=()
)


def test_the_official_layout_has_the_releases_number_of_parameters():
    """47,768,835: the released code's own count with 20 rows of devices, 3 noisy channels and a box."""
    assert parameter_count(official_unet(), RELEASED, 160, channels=3) == 47_768_835


def test_the_official_layout_takes_a_mask_and_nothing_that_says_whether_there_is_one():
    with torch.device("meta"):
        network = make_network(official_unet(), RELEASED, 160, channels=3)
    assert network.get_submodule("stem").weight.shape == (128, 4, 3, 3)


def test_descriptors_are_refused_by_the_official_layout():
    with pytest.raises(ConfigError, match=r"knows no descriptors, and is given shape"):
        make_network(OFFICIAL, ConditionsConfig(), 16)


def test_the_official_levels_are_those_of_its_betas():
    """alpha-bar 8.3e-4 at the end: sigma / alpha runs from 0.010 to 34.65."""
    s_T = np.exp(4 * official_levels(torch.device("cpu")).double().numpy())
    assert s_T[0] == pytest.approx(0.010, rel=1e-3)
    assert s_T[-1] == pytest.approx(34.65, rel=1e-3)
    kept = np.prod(1 - np.linspace(1e-4, 0.028, 500)[:100])
    assert s_T[99] == pytest.approx(math.sqrt((1 - kept) / kept), rel=1e-5)


def test_the_official_table_is_read_at_its_rows_and_between_them():
    table = LevelTable(8)
    levels = official_levels(torch.device("cpu"))
    torch.testing.assert_close(table(levels), table.rows)
    between = levels[10] + 0.25 * (levels[11] - levels[10])
    expected = 0.75 * table.rows[10] + 0.25 * table.rows[11]
    torch.testing.assert_close(table(between[None])[0], expected, rtol=1e-3, atol=1e-3)
    outside = torch.tensor([levels[0] - 1, levels[-1] + 1])
    torch.testing.assert_close(table(outside), table.rows[[0, OFFICIAL_LEVELS - 1]])


def test_levels_have_features_of_unit_mean_square_that_tell_near_ones_apart():
    levels = torch.tensor([-1.5, 0.0, 0.01, 1.0])
    features = level_features(levels, 64)
    torch.testing.assert_close(features.square().mean(dim=1), torch.ones(4))
    assert (features[2] - features[1]).norm() > 0.05 * features[1].norm()


def test_levels_are_told_apart_in_bfloat16_too():
    """As DeepSpeed's bf16 does: weights of the network are bfloat16, the levels that it is given are not."""
    network = make_network(UNetConfig(width=8, multipliers=(1,), blocks=(1,)), RELEASED, 8).to(torch.bfloat16)
    features = []
    network.get_submodule("told.embedding.level").register_forward_pre_hook(lambda _, given: features.append(given[0]))
    said = conditions(2, RELEASED)
    network(torch.zeros(2, 1, 16, 16), torch.tensor([1.0, 1.002]), said)
    assert features[0].dtype == torch.bfloat16
    assert not torch.equal(features[0][0], features[0][1])
