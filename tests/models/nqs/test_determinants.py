"""log|sum of determinants| against numpy's determinants and closed forms, also where psi is exactly 0."""

# W walkers   K determinants   E electrons

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from models.nqs.determinants import log_sum_of_determinants


def random_orbitals(walkers: int, determinants: int, electrons: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(walkers + 10 * determinants + 100 * electrons)
    return torch.randn(walkers, determinants, electrons, electrons, generator=generator, dtype=dtype)


def log_abs(orbitals_KEE: Tensor) -> Tensor:
    return log_sum_of_determinants(orbitals_KEE[None])[0][0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("determinants", "electrons"), [(1, 1), (1, 8), (3, 5), (6, 2)])
def test_amplitude_is_the_sum_of_numpys_determinants(determinants, electrons, dtype):
    orbitals = random_orbitals(50, determinants, electrons, dtype)
    log_W, sign_W = log_sum_of_determinants(orbitals)
    expected = np.linalg.det(orbitals.numpy()).sum(axis=1)
    np.testing.assert_allclose((log_W.exp() * sign_W).numpy(), expected, rtol=1e-11)
    np.testing.assert_allclose(sign_W.abs().numpy(), 1.0, rtol=1e-14)


def test_amplitudes_beyond_the_range_of_floats_have_a_logarithm():
    huge, tiny = 1e30 * torch.eye(20, dtype=torch.float64), 1e-30 * torch.eye(20, dtype=torch.float64)
    log_W, sign_W = log_sum_of_determinants(torch.stack([torch.stack([huge, 2 * huge]), torch.stack([tiny, -tiny])]))
    assert log_W[0].item() == pytest.approx(600 * np.log(10) + np.log1p(2.0**20))
    assert log_W[1].item() == pytest.approx(-600 * np.log(10) + np.log(2))
    assert sign_W.tolist() == [1.0, 1.0]


def test_float32_orbitals_have_float64_determinants():
    orbitals = random_orbitals(3, 2, 4).float()
    log_W, sign_W = log_sum_of_determinants(orbitals)
    assert log_W.dtype == sign_W.dtype == torch.float64
    torch.testing.assert_close(log_W, log_sum_of_determinants(orbitals.double())[0], rtol=0, atol=0)


def test_gradient_is_the_inverse_transposed_weighted_by_the_share_of_each_determinant():
    orbitals = random_orbitals(4, 3, 5).requires_grad_()
    log_sum_of_determinants(orbitals)[0].sum().backward()
    values = orbitals.detach().numpy()
    share_WK = np.linalg.det(values) / np.linalg.det(values).sum(axis=1, keepdims=True)
    expected = share_WK[..., None, None] * np.linalg.inv(values).swapaxes(-1, -2)
    assert orbitals.grad is not None
    np.testing.assert_allclose(orbitals.grad, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("determinants", [1, 3])
def test_derivative_of_the_phase_agrees_with_finite_differences(determinants):
    orbitals = random_orbitals(2, determinants, 3, torch.complex128).requires_grad_()

    def both(orbitals: Tensor) -> Tensor:
        log_W, phase_W = log_sum_of_determinants(orbitals)
        return torch.stack([log_W, phase_W.angle()])

    assert torch.autograd.gradcheck(both, orbitals, atol=1e-7)


@pytest.mark.parametrize("determinants", [1, 2])
def test_a_singular_walker_has_gradient_zero_and_leaves_the_others_alone(determinants):
    orbitals = random_orbitals(3, determinants, 4)
    orbitals[1, :, 2] = 0.0  # an empty row in every determinant: psi is 0
    orbitals.requires_grad_()
    log_W, sign_W = log_sum_of_determinants(orbitals)
    assert log_W[1] == -torch.inf
    assert sign_W[1] == 1.0
    log_W[[0, 2]].sum().backward()
    alone = orbitals.detach()[[0, 2]].requires_grad_()
    log_sum_of_determinants(alone)[0].sum().backward()
    assert orbitals.grad is not None
    torch.testing.assert_close(orbitals.grad[[0, 2]], alone.grad, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(log_sum_of_determinants(orbitals)[0].sum(), orbitals)
    assert torch.count_nonzero(gradient[1]) == 0
    torch.testing.assert_close(gradient[[0, 2]], alone.grad, rtol=0, atol=0)


def test_one_singular_determinant_adds_nothing_to_a_sum():
    orbitals = random_orbitals(2, 2, 3)
    orbitals[:, 1, 0] = 0.0
    log_W, sign_W = log_sum_of_determinants(orbitals.requires_grad_())
    expected = np.linalg.slogdet(orbitals.detach()[:, 0].numpy())
    np.testing.assert_allclose(log_W.detach(), expected.logabsdet, rtol=1e-12)
    np.testing.assert_array_equal(sign_W.detach(), expected.sign)
    log_W.sum().backward()
    assert orbitals.grad is not None
    assert torch.count_nonzero(orbitals.grad[:, 1]) == 0
    assert torch.isfinite(orbitals.grad).all()


def test_determinants_that_cancel_exactly_have_amplitude_and_gradient_zero():
    first = random_orbitals(1, 1, 4)
    orbitals = first.repeat(1, 2, 1, 1)
    orbitals[:, 1, 0] *= -1.0
    orbitals.requires_grad_()
    log_W, _ = log_sum_of_determinants(orbitals)
    assert log_W.tolist() == [-torch.inf]
    log_W.sum().backward()
    assert orbitals.grad is not None
    assert torch.count_nonzero(orbitals.grad) == 0


@pytest.mark.parametrize("determinants", [1, 3])
def test_gradients_per_sample_are_those_taken_one_by_one(determinants):
    orbitals = random_orbitals(6, determinants, 4)
    orbitals[2, :, :, 1] = 0.0
    together = vmap(grad(log_abs))(orbitals)
    for walker, gradient in zip(orbitals, together, strict=True):
        one = walker.clone().requires_grad_()
        log_abs(one).backward()
        torch.testing.assert_close(gradient, one.grad, rtol=1e-12, atol=1e-12)
    assert torch.isfinite(together).all()
