"""The transformer that moves the orbitals of all electrons with each of them, and its two baselines.

Gu et al. 2025 (arXiv 2507.02644), Supp. 1.1. The convolutional ansatz stand in `convolutional.py`.
"""

# W walkers   N sites   M = 2N spin-orbitals   E electrons   D width   H heads   C width of a head   I asks, J answers

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nqs.ansatz import Ansatz, Head, at_sites, linear, site_states
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.convolutional import Ace, Scale
from models.nqs.hamiltonian import LogPsi
from models.nqs.system import SystemConfig

_STATES = 4  # of a site: empty, up, down, both
_LOOP_BELOW = 400  # multiplications of a matrix product below which torch's bmm leaves BLAS for a slow loop


class TransformerBackflow(Ansatz):
    """Orbitals corrected by a transformer with one token per site (Gu et al. 2025, Supp. 1.1).

    Unlike the paper's, the head only corrects a learnt table (`Ansatz`), so that training can start at a mean field.
    """

    def __init__(self, config: AnsatzConfig, system: SystemConfig) -> None:
        super().__init__(config, system)
        self.heads, self.width = config.heads, config.width
        self.state_embedding = nn.Parameter(torch.randn(_STATES, config.width, dtype=self.dtype))
        self.position_embedding = nn.Parameter(torch.randn(self.sites, config.width, dtype=self.dtype))
        self.layers = nn.ModuleList(Layer(config, self.dtype) for _ in range(config.layers))
        self.orbital_heads = nn.ModuleList(Head(config.width, self, config.head_scale) for _ in self.tables)

    def corrections(self, occupied_WM: Tensor, rows_WE: Tensor) -> list[Tensor]:
        features_WED = at_sites(self.features(occupied_WM), rows_WE % self.sites)
        return [head(features_WED) for head in self.orbital_heads]

    def features(self, occupied_WM: Tensor) -> Tensor:
        """features_WND of every site after the last layer."""
        x_WND = self.embed(occupied_WM)
        for layer in self.layers:
            x_WND = layer(x_WND)
        return x_WND

    def embed(self, occupied_WM: Tensor) -> Tensor:
        """X0[i] = E[state of i] + P[i]."""
        return F.embedding(site_states(occupied_WM), self.state_embedding) + self.position_embedding

    @torch.no_grad()
    def attention_maps(self, occupied_WM: Tensor) -> Tensor:
        """[layer, head, N, N]: how much each site (first) looks at each other (second), mean over the walkers."""
        maps = []
        x_WND = self.embed(occupied_WM)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            maps.append(layer.attention.weights(x_WND).mT.mean(0))
            x_WND = layer(x_WND)
        return torch.stack(maps)

    def largest_per_walker(self) -> int:
        return max(3 * self.sites * self.width, self.heads * self.sites**2)


class Attention(nn.Module):
    """Softmax attention of every site to every site, without biases."""

    def __init__(self, width: int, heads: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.query, self.key, self.value, self.out = (linear(width, width, dtype, bias=False) for _ in range(4))

    def forward(self, x_WND: Tensor) -> Tensor:
        query_WHIC, key_WHJC, value_WHJC = self.project(x_WND)
        seen_WHIC = self.compare(query_WHIC, key_WHJC).mT @ value_WHJC
        by_head = self.out.weight.unflatten(1, (self.heads, self.head_width))
        return F.linear(
            seen_WHIC.transpose(-2, -3).flatten(-2),
            F.pad(by_head, (0, seen_WHIC.shape[-1] - self.head_width)).flatten(1),
        )

    def weights(self, x_WND: Tensor) -> Tensor:
        """weights_WHJI: how much site I looks at site J."""
        query_WHIC, key_WHJC, _ = self.project(x_WND)
        return self.compare(query_WHIC, key_WHJC)

    def compare(self, query_WHIC: Tensor, key_WHJC: Tensor) -> Tensor:
        """weights_WHJI = softmax_J(key_J . query_I), where queries hold the factor 1 / sqrt(C).

        The softmax runs over the last but one axis, since torch's is several times as fast there on a processor.
        """
        return (key_WHJC @ query_WHIC.mT).softmax(-2)

    def project(self, x_WND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries / sqrt(C), keys and values, each [W, H, N, C]; with zeros at the end where `_padded` wants them."""
        query = self.query.weight / math.sqrt(self.head_width)
        weight = torch.cat([query, self.key.weight, self.value.weight])  # one product of matrices instead of three
        padded = _padded(self.head_width, x_WND.shape[-2])
        by_head = weight.unflatten(0, (3 * self.heads, self.head_width))
        weight = F.pad(by_head, (0, 0, 0, padded - self.head_width)).flatten(0, 1)
        parts = F.linear(x_WND, weight).unflatten(-1, (3, self.heads, padded)).transpose(-2, -4)
        query_WHIC, key_WHJC, value_WHJC = parts.unbind(-3)
        return query_WHIC, key_WHJC, value_WHJC


def _padded(head_width: int, sites: int) -> int:
    """A head's width, enlarged by up to its double where that spares a small matrix product torch's slow loop."""
    least = -(-_LOOP_BELOW // sites**2)
    return least if head_width < least <= 2 * head_width else head_width


class Layer(nn.Module):
    """Y = X + MHA(X), then Y + SiLU(Y W + b): one square matrix, and no LayerNorm."""

    def __init__(self, config: AnsatzConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, dtype)
        self.feed_forward = linear(config.width, config.width, dtype, bias=config.bias)

    def forward(self, x_WND: Tensor) -> Tensor:
        y_WND = x_WND + self.attention(x_WND)
        return y_WND + F.silu(self.feed_forward(y_WND))


class MeanField(Ansatz):
    """One determinant of learnt orbitals that do not depend on the configuration."""


class SlaterJastrow(Ansatz):
    """One determinant times a factor for pairs of electrons.

        psi(n) = det(orbitals[n]) exp(sum_{i<j} s_ij (n_iu n_ju + n_id n_jd) + sum_{i<=j} o_ij (n_iu n_jd + n_ju n_id))

    with u up and d down, and the second sum counting i = j, double occupancy, once. Both s and o start at 0.
    """

    def __init__(self, config: AnsatzConfig, system: SystemConfig) -> None:
        super().__init__(config, system)
        pairs = self.sites * (self.sites - 1) // 2
        self.same_spin = nn.Parameter(torch.zeros(pairs, dtype=self.dtype))
        self.opposite_spin = nn.Parameter(torch.zeros(pairs + self.sites, dtype=self.dtype))
        self.pair_NN: Tensor
        self.register_buffer("pair_NN", _symmetric_index(self.sites), persistent=False)

    def amplitude(self, occupied_WM: Tensor) -> LogPsi:
        log_abs_W, sign_W = super().amplitude(occupied_WM)
        return log_abs_W + self.log_jastrow(occupied_WM), sign_W

    def log_jastrow(self, occupied_WM: Tensor) -> Tensor:
        """The exponent, in float64."""
        up_WN, dn_WN = occupied_WM.double().chunk(2, dim=-1)
        opposite_NN = self.opposite_spin.double()[self.pair_NN]
        # Pairs come before sites in the index, so that zeros at the end are the diagonal.
        same_NN = F.pad(self.same_spin.double(), (0, self.sites))[self.pair_NN]
        same_W = (up_WN @ same_NN * up_WN + dn_WN @ same_NN * dn_WN).sum(-1) / 2
        return same_W + (up_WN @ opposite_NN * dn_WN).sum(-1)


def _symmetric_index(sites: int) -> Tensor:
    """index_NN of a symmetric matrix's free entries: first the pairs i < j, then the sites i = j."""
    first, second = torch.triu_indices(sites, sites, offset=1)
    index_NN = torch.empty(sites, sites, dtype=torch.int64)
    index_NN[first, second] = index_NN[second, first] = torch.arange(len(first))
    index_NN.diagonal().copy_(len(first) + torch.arange(sites))
    return index_NN


def make_ansatz(config: AnsatzConfig, system: SystemConfig) -> Ansatz:
    """The ansatz that `config.kind` names, started from torch's global generator; ConfigError where they do not fit."""
    kinds: dict[str, type[Ansatz]] = {
        "transformer": TransformerBackflow,
        "ace": Ace,
        "scale": Scale,
        "slater_jastrow": SlaterJastrow,
        "mean_field": MeanField,
    }
    return kinds[config.kind](config, system)
