"""Noise level and conditions as vectors, and what each block of a network is told of them."""

# B images   E numbers of an embedding   F features   A descriptors   C channels   T levels

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.layers import zeroed
from models.common.errors import ConfigError

LONGEST_PERIOD, SHORTEST_PERIOD = 16.0, 1 / 16  # of c_noise = log(s) / 4, which spans about 4 in all
TABLE_SCALE = 0.1  # of a table's first values
OFFICIAL_LEVELS, OFFICIAL_BETAS = 500, (1e-4, 0.028)  # the release's steps, and its first and last beta

Modulation = tuple[Tensor | None, Tensor]  # scale_BC and shift_BC; no scale is a block that is only shifted


def level_features(level_B: Tensor, width: int) -> Tensor:
    """Cosines and sines of the level at periods from 16 down to 1/16, of unit variance, in float32: [B, width]."""
    octave = torch.linspace(0.0, 1.0, width // 2, device=level_B.device)
    angular_F = 2 * math.pi / LONGEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** octave
    angle_BF = level_B.float()[:, None] * angular_F
    return math.sqrt(2.0) * torch.cat([angle_BF.cos(), angle_BF.sin()], dim=-1)


class ConditionTables(nn.Module):
    """The sum of a row for the label, one for the device and one for each descriptor; row 0 is "left open"."""

    descriptor_starts_A: Tensor

    def __init__(self, config: ConditionsConfig, width: int) -> None:
        super().__init__()
        self.labels = nn.Embedding(len(config.classes) + 1, width)
        self.devices = nn.Embedding(len(config.devices) + 1, width)
        rows = [len(DESCRIPTORS[name]) + 1 for name in config.descriptors]
        self.descriptors = nn.Embedding(max(1, sum(rows)), width)  # all in one; a lookup for all
        starts = torch.tensor([sum(rows[:number]) for number in range(len(rows))], dtype=torch.int64)
        self.register_buffer("descriptor_starts_A", starts, persistent=False)
        for table in (self.labels, self.devices, self.descriptors):
            nn.init.normal_(table.weight, std=TABLE_SCALE)

    def forward(self, conditions: Conditions) -> Tensor:
        sum_BE = self.labels(conditions.labels_B) + self.devices(conditions.devices_B)
        if len(self.descriptor_starts_A):
            sum_BE = sum_BE + self.descriptors(conditions.descriptors_BA + self.descriptor_starts_A).sum(dim=1)
        return sum_BE


class Embedding(nn.Module):
    """One vector for noise level and conditions, between -0.28 and infinity as SiLU leaves it: [B, width]."""

    def __init__(self, config: ConditionsConfig, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.tables = ConditionTables(config, features)
        self.level = nn.Linear(features, width)
        self.condition = nn.Linear(features, width, bias=False)
        self.joined = nn.Linear(width, width)

    def forward(self, level_B: Tensor, conditions: Conditions) -> Tensor:
        features_BF = level_features(level_B, self.features).to(self.level.weight.dtype)
        said_BE = self.condition(self.tables(conditions))
        return F.silu(self.joined(F.silu(self.level(features_BF) + said_BE)))


class Told(nn.Module):
    """Scale and shift of every block out of one embedding, by one matrix product for all of them."""

    def __init__(self, config: ConditionsConfig, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = [2 * count for count in channels]
        self.embedding = Embedding(config, width, 4 * width)
        self.modulation = zeroed(nn.Linear(4 * width, sum(self.channels)))

    def forward(self, level_B: Tensor, conditions: Conditions) -> list[Modulation]:
        told_BC = self.modulation(self.embedding(level_B, conditions))
        halves = [part.chunk(2, dim=1) for part in told_BC.split(self.channels, dim=1)]
        return [(scale_BC, shift_BC) for scale_BC, shift_BC in halves]


class OfficialTold(nn.Module):
    """What the release tells a block: a shift out of the noise level, and one out of label and device."""

    def __init__(self, config: ConditionsConfig, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        if config.descriptors:
            raise ConfigError(
                f"the official layout knows no descriptors, and is given {', '.join(config.descriptors)}\n"
                "fits: descriptors=(), or layout='efficient'"
            )
        inner = 4 * width
        self.levels = LevelTable(width)
        self.level = nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, inner), nn.SiLU())
        self.labels = nn.Embedding(len(config.classes) + 1, width)
        self.devices = nn.Embedding(len(config.devices) + 1, width)
        self.condition = nn.Sequential(nn.Linear(2 * width, inner), nn.SiLU(), nn.Linear(inner, inner), nn.SiLU())
        self.level_shifts = nn.ModuleList(nn.Linear(inner, count) for count in channels)
        self.condition_shifts = nn.ModuleList(nn.Linear(inner, count) for count in channels)

    def forward(self, level_B: Tensor, conditions: Conditions) -> list[Modulation]:
        level_BE = self.level(self.levels(level_B))
        said = [self.labels(conditions.labels_B), self.devices(conditions.devices_B)]
        said_BE = self.condition(torch.cat(said, dim=1))
        both = zip(self.level_shifts, self.condition_shifts, strict=True)
        return [(None, of_level(level_BE) + of_condition(said_BE)) for of_level, of_condition in both]


class LevelTable(nn.Module):
    """The release's table of time steps, read between its rows: a level is c_noise = log(s) / 4, and a step has one.

    Row t starts with the cosines and sines of t (Vaswani et al. 2017, section 3.5) and is learnt.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        angle_TF = torch.arange(OFFICIAL_LEVELS)[:, None] * 10_000.0 ** -(torch.arange(0, width, 2) / width)
        self.rows = nn.Parameter(torch.cat([angle_TF.sin(), angle_TF.cos()], dim=1))

    def forward(self, level_B: Tensor) -> Tensor:
        levels_T = official_levels(level_B.device)
        after_B = torch.searchsorted(levels_T, level_B.float()).clamp(1, OFFICIAL_LEVELS - 1)
        before, after = levels_T[after_B - 1], levels_T[after_B]
        share_B = ((level_B.float() - before) / (after - before)).clamp(0.0, 1.0).to(self.rows.dtype)
        return torch.lerp(self.rows[after_B - 1], self.rows[after_B], share_B[:, None])


def official_levels(device: torch.device) -> Tensor:
    """log(s) / 4 at the release's steps: beta from 1e-4 to 0.028 linearly, s = sqrt((1 - abar) / abar), [T].

    abar_t = prod_(u <= t) (1 - beta_u)    (Ho et al. 2020, section 2)
    """
    betas_T = torch.linspace(*OFFICIAL_BETAS, OFFICIAL_LEVELS, dtype=torch.float64, device=device)
    kept_T = (1 - betas_T).cumprod(dim=0)
    return (((1 - kept_T) / kept_T).log() / 8).float()
