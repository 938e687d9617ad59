"""How a network of RELAY knows positions: rotary, linear biases, both, neither, or learnt biases of the distance."""

# H heads   S positions that ask   K positions that are looked at

import torch
from torch import Tensor, nn

from models.common.transformer import Positions, positions
from models.relay.network_config import NetworkConfig


class PositionEncoding(nn.Module):
    """What the config's positions mean for some tokens; the same for all blocks."""

    def __init__(self, config: NetworkConfig, *, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        self.fire = Fire(config.heads) if config.positions == "fire" else None

    def forward(self, first: int, count: int, device: torch.device) -> Positions:
        """Positions `first` to `first + count`, looking at all up to there."""
        return positions(
            first,
            count,
            self.config.head_width,
            rope_base=self.config.rope_base if "rope" in self.config.positions else None,
            causal=self.causal,
            alibi_slopes=self.config.slopes,
            bias_HSK=None if self.fire is None else self.fire(first, count, device, causal=self.causal),
            device=device,
        )


class Fire(nn.Module):
    """A learnt bias of the distance relative to how far one can look (Li et al. 2024, arXiv 2310.04418, eq. 16).

        bias[i, j] = f( psi(i - j) / psi(max(L, i)) ),    psi(x) = log(c x + 1)

    f is a small MLP with a number out for each head; c and L are learnt. Unlike the paper's, which only looks back,
    distances where attention looks both ways are taken without their sign, and i is there the last position.
    """

    HIDDEN = 32
    FIRST_SCALE, FIRST_LENGTH = 0.1, 16.0

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, self.HIDDEN), nn.ReLU(), nn.Linear(self.HIDDEN, heads))
        self.scale = nn.Parameter(torch.tensor(self.FIRST_SCALE))
        self.length = nn.Parameter(torch.tensor(self.FIRST_LENGTH))

    def forward(self, first: int, count: int, device: torch.device, *, causal: bool) -> Tensor:
        """The bias (H, S, K) of positions `first` to `first + count` looking at all up to there."""
        keys_K = torch.arange(first + count, device=device, dtype=torch.float32)
        queries_S = keys_K[first:]
        distance_SK = (queries_S[:, None] - keys_K[None, :]).abs()
        reach_S1 = queries_S[:, None] if causal else queries_S[-1:, None]
        share_SK = self._psi(distance_SK) / self._psi(torch.maximum(self.length.abs(), reach_S1))
        return self.mlp(share_SK[..., None]).permute(2, 0, 1)

    def _psi(self, x: Tensor) -> Tensor:
        return torch.log1p(self.scale.abs() * x)
