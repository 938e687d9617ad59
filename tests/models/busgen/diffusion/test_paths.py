"""Paths against the numbers of BUSGen's release, an integral, and each other."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from models.busgen.diffusion.paths import (
    FlowMatching,
    NoisePath,
    VarianceExploding,
    VariancePreserving,
    VariancePreservingChain,
    alpha_at,
    level,
)
from models.busgen.diffusion_config import PathName, VpLevels

TIMES = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)


def test_the_chain_is_the_one_of_the_release() -> None:
    levels = VpLevels()
    chain = VariancePreservingChain(levels.steps, levels.beta_first, levels.beta_last)
    assert float(chain.levels_T[0]) == pytest.approx(0.010, abs=1e-5)
    assert float(chain.levels_T[-1]) == pytest.approx(34.65, abs=0.01)
    assert float(chain.alphas_T[-1] ** 2) == pytest.approx(8.3e-4, rel=5e-3)
    assert float(chain.alphas_T[-1] ** 2) == pytest.approx(np.prod(1.0 - np.linspace(1e-4, 0.028, 500)), rel=1e-9)
    steps_T = torch.arange(1, 501)
    assert torch.equal(chain.time(chain.levels_T.float()), steps_T)
    torch.testing.assert_close(level(chain, steps_T), chain.levels_T)


def test_the_continuous_path_integrates_its_beta() -> None:
    path = VariancePreserving(0.05, 14.0)
    for t in (0.1, 0.5, 1.0):
        integral = quad(lambda time: 0.05 + time * (14.0 - 0.05), 0.0, t)[0]
        assert float(path.alpha(torch.tensor(t, dtype=torch.float64))) == pytest.approx(np.exp(-integral / 2))
    torch.testing.assert_close(path.alpha(TIMES).square() + path.sigma(TIMES).square(), torch.ones_like(TIMES))


@pytest.mark.parametrize("path", [VariancePreserving(), VarianceExploding(), FlowMatching()])
def test_a_level_names_one_time_of_a_path(path: NoisePath) -> None:
    torch.testing.assert_close(path.time(level(path, TIMES)), TIMES)
    assert (level(path, TIMES).diff() > 0).all()


@pytest.mark.parametrize(
    ("name", "path"), [("vp", VariancePreserving()), ("ve", VarianceExploding()), ("flow", FlowMatching())]
)
def test_alpha_at_a_level_is_that_of_the_path(name: PathName, path: NoisePath) -> None:
    torch.testing.assert_close(alpha_at(name, level(path, TIMES)), path.alpha(TIMES))
