"""The timed calls of any image network, ours or a peer's; needs torch, and nothing of this project."""

import os
from collections.abc import Callable
from typing import Any

import busgen_work as work
import torch
from rto_work import timed
from torch import Tensor, nn

DEVICE = torch.device(os.environ.get("BUSGEN_DEVICE", "cpu"))
AT_START = work.resident_bytes()

Call = Callable[[Tensor, Tensor], Tensor]  # network(x_BCHW, level_B), its conditions given already


def answer(network: nn.Module, call: Call, request: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    """What times some calls of a request, the first one behind it; the peak is of those that are timed."""
    side, channels = request["side"], request["channels"]
    x = torch.randn(work.BATCH, channels, side, side, device=DEVICE)
    level = torch.rand(work.BATCH, device=DEVICE)
    once = (training if request["work"] == "training" else sampling)(network, call, x, level)
    precise = request["precision"] == "fp32"

    def run() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=not precise):
            once()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    def measured(repeats: int) -> dict[str, Any]:
        network.train(request["work"] == "training")
        forget_peak()
        lines = timed(run, repeats)
        return {**lines, "peak_mib": peak_mib(), "parameters": sum(at.numel() for at in network.parameters())}

    measured(1)
    return measured


def training(network: nn.Module, call: Call, x: Tensor, level: Tensor) -> Callable[[], None]:
    """A step: forward, mean squared error, backward, AdamW."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=work.LEARNING_RATE, fused=True)
    target = torch.randn_like(x)

    def step() -> None:
        loss = (call(x, level) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def sampling(network: nn.Module, call: Call, x: Tensor, level: Tensor) -> Callable[[], None]:
    """Evaluations one after the other, as a sampler asks for them."""

    @torch.no_grad()
    def evaluate() -> None:
        now = x
        for _ in range(work.EVALUATIONS):
            now = now + 0.1 * call(now, level)

    return evaluate


def forget_peak() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        work.forget_peak()


def peak_mib() -> float:
    """Of the device's memory; on the processor, beyond what the process held with torch alone."""
    found = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else work.peak_bytes() - AT_START
    return round(found / 2**20)
