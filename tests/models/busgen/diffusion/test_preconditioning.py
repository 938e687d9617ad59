"""What each target makes of an estimate, by its definition and not by our coefficients."""

# B images   D numbers of an image

from collections.abc import Callable
from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from models.busgen.diffusion.losses import denoising_loss, image_loss, loss_weight
from models.busgen.diffusion.paths import FlowMatching, NoisePath, VariancePreserving, level
from models.busgen.diffusion.preconditioning import Preconditioning, loss_factor, velocity_factor
from models.busgen.diffusion_config import PathName, TargetName

DATA_STD = 0.7
VP, FLOW = VariancePreserving(), FlowMatching()


def eps_of(x_BD: Tensor, x0_BD: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return (x_BD - alpha * x0_BD) / sigma


Compared = Literal["x0", "eps", "score", "v", "flow"]
TARGETS: dict[Compared, tuple[NoisePath, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "x0": (VP, lambda x, x0, alpha, sigma: x0),
    "eps": (VP, eps_of),
    "score": (VP, lambda x, x0, alpha, sigma: -(x - alpha * x0) / sigma**2),
    "v": (VP, lambda x, x0, alpha, sigma: alpha * eps_of(x, x0, alpha, sigma) - sigma * x0),
    "flow": (FLOW, lambda x, x0, alpha, sigma: eps_of(x, x0, alpha, sigma) - x0),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_a_targets_squared_error_is_its_factor_times_the_images(target: Compared, t: float) -> None:
    path, predict = TARGETS[target]
    time = torch.tensor([t], dtype=torch.float64)
    alpha, sigma = path.alpha(time), path.sigma(time)
    x0_BD, noise_BD, estimate_BD = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x_BD = alpha * x0_BD + sigma * noise_BD
    error_B = (predict(x_BD, estimate_BD, alpha, sigma) - predict(x_BD, x0_BD, alpha, sigma)).square().sum(dim=1)
    factor = loss_factor(target, alpha, sigma, DATA_STD)
    torch.testing.assert_close(error_B, factor * (estimate_BD - x0_BD).square().sum(dim=1))


@pytest.mark.parametrize("path", [VP, FLOW])
def test_the_factor_of_a_paths_velocity_is_that_of_its_derivative(path: NoisePath) -> None:
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    alpha, sigma = path.alpha(t), path.sigma(t)
    alpha_dot, sigma_dot = (torch.autograd.grad(each, t, retain_graph=True)[0] for each in (alpha, sigma))
    x0_D, noise_D, estimate_D = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x_D = alpha * x0_D + sigma * noise_D
    velocity_of = [alpha_dot * x0 + sigma_dot * (x_D - alpha * x0) / sigma for x0 in (x0_D, estimate_D)]
    error = (velocity_of[1] - velocity_of[0]).square().sum()
    factor = velocity_factor(alpha, alpha_dot, sigma, sigma_dot)
    torch.testing.assert_close(error, factor * (estimate_D - x0_D).square().sum())
    if path is FLOW:
        torch.testing.assert_close(factor, loss_factor("flow", alpha, sigma, DATA_STD))


@pytest.mark.parametrize("target", get_args(TargetName))
def test_the_factor_is_one_over_the_output_scale_squared(target: TargetName) -> None:
    s_B = torch.logspace(-3, 3, 20, dtype=torch.float64)
    of = Preconditioning(target, "ve", DATA_STD)
    torch.testing.assert_close(loss_factor(target, torch.ones_like(s_B), s_B, DATA_STD), 1.0 / of.c_out(s_B).square())


@pytest.mark.parametrize("target", ["x0", "eps", "v", "flow"])
def test_a_network_that_predicts_its_target_exactly_gives_the_image(target: Literal["x0", "eps", "v", "flow"]) -> None:
    path, predict = TARGETS[target]
    t_B1 = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[:, None]
    alpha, sigma = path.alpha(t_B1), path.sigma(t_B1)
    x0_BD, noise_BD = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x_BD = alpha * x0_BD + sigma * noise_BD
    s_B1, of = level(path, t_B1), Preconditioning(target, "ve", DATA_STD)
    found_BD = of.c_skip(s_B1) * x_BD / alpha + of.c_out(s_B1) * predict(x_BD, x0_BD, alpha, sigma)
    torch.testing.assert_close(found_BD, x0_BD)


@pytest.mark.parametrize("name", ["vp", "flow"])
def test_a_network_sees_the_image_in_its_paths_scale(name: PathName) -> None:
    path = {"vp": VP, "flow": FLOW}[name]
    t_B = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    torch.testing.assert_close(Preconditioning("eps", name, DATA_STD).c_in(level(path, t_B)), path.alpha(t_B))


def test_edm_keeps_inputs_and_targets_at_unit_variance_and_amplifies_errors_least() -> None:
    """Karras et al. 2022, appendix B.6: var(c_in x) = 1, var((x0 - c_skip x) / c_out) = 1, c_skip least |c_out|."""
    s_B = torch.logspace(-3, 3, 20, dtype=torch.float64)
    of = Preconditioning("edm", "ve", DATA_STD)
    torch.testing.assert_close(of.c_in(s_B).square() * (DATA_STD**2 + s_B.square()), torch.ones_like(s_B))

    def needed(c_skip_B: Tensor) -> Tensor:
        return (1.0 - c_skip_B).square() * DATA_STD**2 + c_skip_B.square() * s_B.square()

    torch.testing.assert_close(of.c_out(s_B).square(), needed(of.c_skip(s_B)))
    for shift in (-0.01, 0.01):
        assert (needed(of.c_skip(s_B) + shift) > needed(of.c_skip(s_B))).all()


@pytest.mark.parametrize("target", get_args(TargetName))
def test_every_coefficient_is_finite_at_any_level(target: TargetName) -> None:
    s_B = torch.logspace(-4, 4, 50)
    for path in get_args(PathName):
        of = Preconditioning(target, path, DATA_STD)
        for coefficient in (of.c_in, of.c_skip, of.c_out, of.c_noise):
            assert coefficient(s_B).isfinite().all()


def test_a_loss_is_told_for_each_sample() -> None:
    image, estimate = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    s_B = torch.tensor([0.1, 1.0, 10.0])
    by_hand = torch.stack([((estimate[b] - image[b]) ** 2).sum() / 16 for b in range(3)])
    torch.testing.assert_close(image_loss(estimate, image), by_hand)
    edm_B = (s_B**2 + DATA_STD**2) / (s_B * DATA_STD) ** 2
    torch.testing.assert_close(denoising_loss(estimate, image, loss_weight("edm", s_B, DATA_STD)), edm_B * by_hand)
    torch.testing.assert_close(loss_weight("eps", s_B, DATA_STD), s_B**-2)
