"""Orbitals corrected by convolutions: ACE and SCALE (arXiv 2604.25775)."""

# W walkers   N sites   E electrons   D channels   P places of the kernel, row by row

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.nqs.ansatz import Ansatz, Head, at_sites, linear, site_states
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.system import SystemConfig

_STATES = 4  # of a site: empty, up, down, both
_EPSILON = 1e-4  # of LayerNorm, as in the authors' code


def neighbourhood(system: SystemConfig, kernel: int) -> NDArray[np.int64]:
    """neighbour_NP: the site under each of the kernel * kernel places of a square centred on each site.

    Periodic and antiperiodic directions wrap, as often as it takes on lattices narrower than the kernel. Places beyond
    an open boundary have index N.
    """
    (length_x, length_y), reach = system.shape, np.arange(kernel) - kernel // 2
    x, y = np.divmod(np.arange(system.sites), length_y)
    x, y = np.broadcast_arrays(x[:, None, None] + reach[:, None], y[:, None, None] + reach)
    outside = np.zeros(x.shape, bool)
    for place, length, boundary in zip((x, y), system.shape, system.boundaries, strict=True):
        if boundary == "open":
            outside |= (place < 0) | (place >= length)
    return np.where(outside, system.sites, x % length_x * length_y + y % length_y).reshape(system.sites, -1)


class Convolution(nn.Module):
    """A square kernel at every site, as one matrix product with the gathered neighbours; beyond the lattice is 0."""

    def __init__(self, config: AnsatzConfig, system: SystemConfig, dtype: torch.dtype) -> None:
        super().__init__()
        neighbour_NP = torch.from_numpy(neighbourhood(system, config.kernel))
        self.has_edge = bool((neighbour_NP == system.sites).any())
        self.neighbour: Tensor
        self.register_buffer("neighbour", neighbour_NP.flatten(), persistent=False)
        self.mix = linear(config.kernel**2 * config.width, config.width, dtype, bias=config.bias)

    def forward(self, x_WND: Tensor) -> Tensor:
        sites = x_WND.shape[-2]
        if self.has_edge:
            x_WND = F.pad(x_WND, (0, 0, 0, 1))
        around = x_WND.index_select(-2, self.neighbour)
        return self.mix(around.unflatten(-2, (sites, -1)).flatten(-2))


class _Convolutional(Ansatz):
    """What ACE and SCALE share: X0[i] = E_i[state of i], convolutions, then layers and a head site by site."""

    def __init__(self, config: AnsatzConfig, system: SystemConfig, convolutions: int) -> None:
        super().__init__(config, system)
        self.width, self.places = config.width, config.kernel**2
        self.embedding = nn.Parameter(torch.randn(self.sites * _STATES, config.width, dtype=self.dtype))
        self.convolutions = nn.ModuleList(Convolution(config, system, self.dtype) for _ in range(convolutions))
        widths = [config.width] + [config.mlp_width] * config.mlp_layers
        self.mlp = nn.ModuleList(
            linear(inputs, outputs, self.dtype, bias=config.bias) for inputs, outputs in pairwise(widths)
        )
        self.orbital_heads = nn.ModuleList(Head(config.mlp_width, self, config.head_scale) for _ in self.tables)

    def corrections(self, occupied_WM: Tensor, rows_WE: Tensor) -> list[Tensor]:
        x_WED = at_sites(self.convolve(self.embed(occupied_WM)), rows_WE % self.sites)
        for layer in self.mlp:
            x_WED = F.silu(layer(x_WED))
        return [head(x_WED) for head in self.orbital_heads]

    def embed(self, occupied_WM: Tensor) -> Tensor:
        """X0[i] = E_i[state of i]: a table with an entry for every site and state."""
        first_N = _STATES * torch.arange(self.sites, device=occupied_WM.device)
        return F.embedding(first_N + site_states(occupied_WM), self.embedding)

    def convolve(self, x_WND: Tensor) -> Tensor:
        """Features [W, N, D] of the sites, each from its surroundings."""
        raise NotImplementedError

    def largest_per_walker(self) -> int:
        return self.sites * self.places * self.width


class Scale(_Convolutional):
    """One residual convolution: X1 = X0 + SiLU(conv(X0)), so that a hop changes only rows of sites close to it."""

    def __init__(self, config: AnsatzConfig, system: SystemConfig) -> None:
        super().__init__(config, system, convolutions=1)

    def convolve(self, x_WND: Tensor) -> Tensor:
        return x_WND + F.silu(self.convolutions[0](x_WND))


class Ace(_Convolutional):
    """Residual convolutions with a LayerNorm after each: X_{l+1} = LN_l(X_l + SiLU(conv_l(X_l)))."""

    def __init__(self, config: AnsatzConfig, system: SystemConfig) -> None:
        super().__init__(config, system, convolutions=config.layers)
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.width, eps=_EPSILON, dtype=self.dtype) for _ in range(config.layers)
        )

    def convolve(self, x_WND: Tensor) -> Tensor:
        *before, last = zip(self.convolutions, self.norms, strict=True)
        for convolution, norm in before:
            x_WND = norm(x_WND + F.silu(convolution(x_WND)))
        convolution, norm = last
        x_WND = x_WND + F.silu(convolution(x_WND))
        assert isinstance(norm, nn.LayerNorm)
        # The last norm in float64, as in the authors' code: what follows goes into determinants.
        weight, bias = norm.weight.double(), norm.bias.double()
        return F.layer_norm(x_WND.double(), list(weight.shape), weight, bias, norm.eps).to(self.dtype)
