"""Prompts with their responses as one batch."""

# B prompts   G responses of each   P tokens of a prompt   R tokens of a response   N real response tokens

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """B prompts, padded on the left, each with G responses, padded on the right.

    What stands at a place that is not real is never read. A prompt has at least one real token, and what is real is
    unbroken: prompts end at P, responses begin at 0. A response may be empty.
    """

    prompts_BP: Tensor  # long
    prompt_real_BP: Tensor  # bool
    responses_BGR: Tensor  # long
    response_real_BGR: Tensor  # bool

    @property
    def lengths_BG(self) -> Tensor:
        """Real tokens of each response."""
        return self.response_real_BGR.sum(dim=-1)

    def targets_N(self) -> Tensor:
        """The real response tokens, row after row."""
        return self.responses_BGR[self.response_real_BGR]

    def spread(self, values_N: Tensor) -> Tensor:
        """Values of the real response tokens at their places [B, G, R]; zero elsewhere. Differentiable."""
        spread_BGR = values_N.new_zeros(self.response_real_BGR.shape)
        return spread_BGR.masked_scatter(self.response_real_BGR, values_N)

    def of(self, prompts: slice | Tensor) -> Sequences:
        """Some of the prompts, with all their responses, cut to the longest of these."""
        chosen = Sequences(*(getattr(self, field.name)[prompts] for field in fields(self)))
        return chosen.trimmed()

    def trimmed(self) -> Sequences:
        """Without columns in which nothing is real; at least one column of each remains."""
        prompt = max(1, int(self.prompt_real_BP.sum(dim=-1).max()))
        response = max(1, int(self.lengths_BG.max()))
        return Sequences(
            self.prompts_BP[:, -prompt:],
            self.prompt_real_BP[:, -prompt:],
            self.responses_BGR[..., :response],
            self.response_real_BGR[..., :response],
        )

    def to(self, device: torch.device) -> Sequences:
        return Sequences(*(getattr(self, field.name).to(device) for field in fields(self)))
