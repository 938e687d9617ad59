"""What a network keeps for its backward pass, worked out from its config. No torch: asked before anything is loaded."""

from __future__ import annotations

from typing import Literal

from models.busgen.network_config import DiTConfig, NetworkConfig, UNetConfig
from models.busgen.networks.plan import Plan, Step, plan_of

BYTES = {"fp32": 4.0, "bf16": 2.6}  # of a number; sums, and casts of weights, keep autocast from halving all of them


def activation_bytes(
    config: NetworkConfig, side: int, batch: int, channels: int = 1, precision: Literal["fp32", "bf16"] = "fp32"
) -> int:
    """Bytes of activations that a step on this many images at once holds at its highest; weights are not in it."""
    of_image = _unet(config, side, channels) if isinstance(config, UNetConfig) else _dit(config, side, channels)
    return round(of_image * batch * BYTES[precision])


def _unet(config: UNetConfig, side: int, channels: int) -> float:
    """Numbers kept for an image."""
    plan = plan_of(config, side)
    ends = ((channels + 2) + 3 * plan.steps[-1].outward) * side**2  # the stem's input, norm and head
    between = sum(_change(step, config) for step in plan.steps if step.kind != "block")
    blocks = [_block(step, config.dropout) for step in plan.blocks]
    return ends + between + _blocks(blocks, _inputs(plan), recompute=config.recompute)


def _blocks(blocks: list[float], inputs: list[float], *, recompute: bool) -> float:
    """All of them; or, where they are computed anew, the inputs of all and the inside of the largest."""
    return sum(inputs) + max(blocks) if recompute else sum(blocks)


def _inputs(plan: Plan) -> list[float]:
    return [step.inward * step.side**2 for step in plan.blocks]


def _block(step: Step, dropout: float) -> float:
    """Input, norm and SiLU around each convolution; dropout's output and its mask of bytes; attention's seven."""
    dropped = 1.25 * step.outward if dropout else 0.0
    attention = 7 * step.outward if step.attention else 0
    return (3 * step.inward + 3 * step.outward + dropped + attention) * step.side**2


def _change(step: Step, config: UNetConfig) -> float:
    """The inputs of the convolutions that change the side."""
    if step.kind == "down":
        return step.inward * (2 * step.side) ** 2
    low = step.inward * (step.side // 2) ** 2
    return low + step.outward * step.side**2 if config.layout == "official" else low


def _dit(config: DiTConfig, side: int, channels: int) -> float:
    """Numbers kept for an image; a layer keeps 12 widths and twice the MLP's inner width for a token."""
    tokens = (side // config.patch) ** 2
    dropped = 2.5 if config.dropout else 0.0
    layer = (12 + dropped + 2 * config.feed_forward) * config.width * tokens
    ends = (channels + 2) * side**2 + 3 * config.width * tokens
    inputs = [float(config.width * tokens)] * config.layers
    return ends + _blocks([layer] * config.layers, inputs, recompute=config.recompute)
