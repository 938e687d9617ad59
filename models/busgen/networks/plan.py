"""What a U-Net is made of, step by step. No torch: memory is worked out from it before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.busgen.network_config import UNetConfig


@dataclass(frozen=True)
class Step:
    """One module of a U-Net. `outward` is the width that it hands on, and `side` that of the images it hands on."""

    kind: Literal["block", "down", "up"]
    inward: int  # channels that come in, those of a joined skip among them
    outward: int
    side: int
    attention: bool = False
    keeps: bool = False  # its output is kept for the decoder
    joins: bool = False  # takes in what was kept last


@dataclass(frozen=True)
class Plan:
    stem: int  # channels that the stem hands on
    stem_keeps: bool
    steps: tuple[Step, ...]

    @property
    def blocks(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.kind == "block")


def plan_of(config: UNetConfig, side: int) -> Plan:
    """The steps from the stem's output to the head's input, for images of this side."""
    config.check_side(side)
    return _official(config, side) if config.layout == "official" else _efficient(config, side)


def _efficient(config: UNetConfig, side: int) -> Plan:
    """As Imagen's Efficient U-Net (Saharia et al. 2022, appendix B): convolutions change the width at the lower side.

    One skip a level, and as many blocks up as down; the released layout has a skip a block, and one block more going
    up. Convolutions at full resolution are the dear ones, and each skip there widens one.
    """
    widths, sides = _widths(config), config.sides(side)
    attends = [at <= config.most_attention_side for at in sides]
    steps: list[Step] = []
    for level, width in enumerate(widths):
        if level:
            steps.append(Step("down", widths[level - 1], width, sides[level]))
        for number in range(config.blocks[level]):
            last = number == config.blocks[level] - 1
            steps.append(Step("block", width, width, sides[level], attends[level], keeps=last))
    for attention in (attends[-1], False):
        steps.append(Step("block", widths[-1], widths[-1], sides[-1], attention))
    for level in reversed(range(len(widths))):
        width = widths[level]
        for number in range(config.blocks[level]):
            joins = number == 0
            steps.append(Step("block", width * (1 + joins), width, sides[level], attends[level], joins=joins))
        if level:
            steps.append(Step("up", width, widths[level - 1], sides[level - 1]))
    return Plan(widths[0], stem_keeps=False, steps=tuple(steps))


def _official(config: UNetConfig, side: int) -> Plan:
    """BUSGen's release: attention after every block of the encoder and once in the middle, a skip for every step."""
    widths, sides = _widths(config), config.sides(side)
    attends = [at <= config.most_attention_side for at in sides]
    steps: list[Step] = []
    kept, now = [config.width], config.width
    for level, width in enumerate(widths):
        for _ in range(config.blocks[level]):
            steps.append(Step("block", now, width, sides[level], attends[level], keeps=True))
            kept.append(width)
            now = width
        if level < len(widths) - 1:
            steps.append(Step("down", width, width, sides[level + 1], keeps=True))
            kept.append(width)
    for attention in (attends[-1], False):
        steps.append(Step("block", now, now, sides[-1], attention))
    for level in reversed(range(len(widths))):
        for _ in range(config.blocks[level] + 1):
            steps.append(Step("block", now + kept.pop(), widths[level], sides[level], joins=True))
            now = widths[level]
        if level:
            steps.append(Step("up", now, now, sides[level - 1]))
    assert not kept, "every step that keeps has one that joins"
    return Plan(config.width, stem_keeps=True, steps=tuple(steps))


def _widths(config: UNetConfig) -> tuple[int, ...]:
    return tuple(config.width * multiplier for multiplier in config.multipliers)
