"""Layers of the decoder that torch would put together from many passes over memory, each with its own gradient."""

# M tokens   D width   F inner width   C pairs of a head

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


class RmsNorm(nn.Module):
    """x over its root mean square, times a weight (Zhang and Sennrich 2019, eq. 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_MD: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return _RmsNorm.apply(x_MD, self.weight)
        return _normalise(x_MD, self.weight)[0]  # a third quicker on the few rows of a decoding step


def _normalise(x_MD: Tensor, weight_D: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's output, and the scale of each row."""
    exact_MD = x_MD.to(torch.promote_types(x_MD.dtype, torch.float32))
    norm_M1 = torch.linalg.vector_norm(exact_MD, dim=-1, keepdim=True)
    epsilon = norm_M1.new_full((), EPSILON)
    scale_M1 = torch.addcmul(epsilon, norm_M1, norm_M1, value=1.0 / x_MD.shape[-1]).rsqrt_()
    return (exact_MD * scale_M1).mul_(weight_D).to(x_MD.dtype), scale_M1


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weight_D: Tensor) -> Tensor:
        result_MD, scale_M1 = _normalise(x_MD, weight_D)
        ctx.save_for_backward(x_MD, weight_D, scale_M1)
        return result_MD

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x_MD, weight_D, scale_M1 = ctx.saved_tensors
        exact = scale_M1.dtype
        grad_MD, exact_D = grad_MD.to(exact), weight_D.to(exact)
        normed_MD = x_MD.to(exact) * scale_M1
        product_MD = grad_MD * normed_MD
        along_M1 = (product_MD @ exact_D)[:, None] / -x_MD.shape[-1]
        grad_x_MD = (grad_MD * exact_D).addcmul_(normed_MD, along_M1).mul_(scale_M1)
        return grad_x_MD.to(x_MD.dtype), product_MD.sum(dim=0).to(weight_D.dtype)


def gated(gate_up_MF: Tensor) -> Tensor:
    """silu(gate) * up (Shazeer 2020, eq. 5), of the two halves, [M, F]."""
    if torch.is_grad_enabled():
        return _Gated.apply(gate_up_MF)
    gate_MF, up_MF = gate_up_MF.chunk(2, dim=-1)
    return F.silu(gate_MF).mul_(up_MF)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up_MF: Tensor) -> Tensor:
        gate_MF, up_MF = gate_up_MF.chunk(2, dim=-1)
        silu_MF = F.silu(gate_MF)
        ctx.save_for_backward(gate_up_MF, silu_MF)
        return silu_MF * up_MF

    @staticmethod
    def backward(ctx: Any, grad_MF: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gate_up_MF, silu_MF = ctx.saved_tensors
        gate_MF, up_MF = gate_up_MF.chunk(2, dim=-1)
        result_MF = torch.empty_like(gate_up_MF)
        gate_grad_MF, up_grad_MF = result_MF.chunk(2, dim=-1)
        torch.mul(grad_MF, silu_MF, out=up_grad_MF)
        torch.mul(grad_MF, up_MF, out=gate_grad_MF)
        torch.ops.aten.silu_backward.grad_input(gate_grad_MF, gate_MF, grad_input=gate_grad_MF)
        return result_MF
