"""The classifier's network: convolutions that halve the side, features of the whole image, and a head for each task."""

# B images   C channels   H height   W width   F features   V values of a head

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.busgen.diagnosis_config import ClassifierConfig, DiagnosisNetworkConfig
from models.busgen.images.cases import PATHOLOGIES
from models.busgen.images.descriptors import DESCRIPTORS

LABEL, PATHOLOGY = "label", "pathology"
_GROUP = 8  # channels that are normalised together, so that no image depends on its batch


class Classifier(nn.Module):
    """Logits of each head, from grey images -1 to 1 of any side.

    values: of each head by its name, how many it tells apart; 1 is a single logit.
    """

    def __init__(self, config: DiagnosisNetworkConfig, values: Mapping[str, int]) -> None:
        super().__init__()
        widths = [min(config.most_width, config.width * 2**stage) for stage in range(config.stages)]
        before = [1, *widths[:-1]]
        grouped = config.normalise == "group"
        self.stages = nn.ModuleList(_Stage(a, b, grouped=grouped) for a, b in zip(before, widths, strict=True))
        self.summary = nn.Linear(2 * widths[-1], config.features)
        self.heads = nn.ModuleDict({name: nn.Linear(config.features, count) for name, count in values.items()})

    def forward(self, image_B1HW: Tensor) -> dict[str, Tensor]:
        features_BF = self.features(image_B1HW)
        return {name: head(features_BF) for name, head in self.heads.items()}

    def features(self, image_B1HW: Tensor) -> Tensor:
        """What all heads read, [B, F]. The mean over the image tells texture, the maximum small bright things."""
        map_BCHW = image_B1HW
        for stage in self.stages:
            map_BCHW = stage(map_BCHW)
        pooled = torch.cat([map_BCHW.mean(dim=(2, 3)), map_BCHW.amax(dim=(2, 3))], dim=1)
        return functional.silu(self.summary(pooled))


class _Stage(nn.Module):
    """Half the side, more channels, and a second look that is added."""

    def __init__(self, before: int, width: int, *, grouped: bool) -> None:
        super().__init__()
        self.halve = nn.Conv2d(before, width, kernel_size=3, stride=2, padding=1)
        self.norm = nn.GroupNorm(_groups(width), width) if grouped else nn.Identity()
        self.look = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        map_BCHW = functional.silu(self.norm(self.halve(map_BCHW)))
        return map_BCHW + functional.silu(self.look(map_BCHW))


def _groups(width: int) -> int:
    """The most groups of at least `_GROUP` channels that divide the width."""
    return next(groups for groups in range(max(1, width // _GROUP), 0, -1) if width % groups == 0)


def make_classifier(config: ClassifierConfig) -> Classifier:
    """The network with the heads that the config gives a weight."""
    values = {LABEL: 1} if config.label_weight else {}
    if config.pathology_weight:
        values[PATHOLOGY] = len(PATHOLOGIES)
    if config.descriptor_weight:
        values |= {name: len(DESCRIPTORS[name]) for name in config.descriptors}
    return Classifier(config.network, values)
