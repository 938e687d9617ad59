from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from models.busgen.network_config import DiTConfig, LoraConfig, NetworkConfig, UNetConfig
from models.busgen.networks.plan import plan_of
from models.common.errors import ConfigError


def test_the_kind_tells_which_network_a_config_is_of():
    read = TypeAdapter(NetworkConfig).validate_python
    assert read({"kind": "dit", "width": 32, "heads": 4}) == DiTConfig(width=32, heads=4)
    assert isinstance(read({"kind": "unet"}), UNetConfig)
    with pytest.raises(ValidationError, match="kind"):
        read({"kind": "vit"})


def test_each_level_says_how_many_blocks_it_has():
    with pytest.raises(ValidationError, match="2 blocks for 3 multipliers"):
        UNetConfig(multipliers=(1, 2, 2), blocks=(1, 1))


@pytest.mark.parametrize("side", [0, 4, 100, 2048])
def test_a_side_that_does_not_halve_at_each_level_is_refused_and_a_near_one_named(side: int):
    config = UNetConfig(multipliers=(1, 2, 2, 2), blocks=(1, 1, 1, 1))
    with pytest.raises(ConfigError, match=f"cannot take images of side {side}") as caught:
        config.check_side(side)
    config.check_side(int(str(caught.value).rsplit("side=", 1)[1]))


def test_a_dit_takes_no_broken_patches_and_not_too_many():
    DiTConfig(patch=8).check_side(64)
    with pytest.raises(ConfigError, match=r"try side=36"):
        DiTConfig(patch=4).check_side(37)
    with pytest.raises(ConfigError, match=r"65536 patches of 4\nfits: at most 4096"):
        DiTConfig(patch=4).check_side(1024)


@pytest.mark.parametrize(("width", "heads"), [(96, 5), (90, 3)])
def test_a_dits_width_divides_into_heads_and_positions(width: int, heads: int):
    with pytest.raises(ValidationError, match="is no multiple of 4 and of"):
        DiTConfig(width=width, heads=heads)


def test_lora_needs_a_target():
    with pytest.raises(ValidationError, match="targets"):
        LoraConfig(targets=())


@pytest.mark.parametrize("layout", ["efficient", "official"])
@pytest.mark.parametrize(
    ("multipliers", "blocks"), [((1,), (1,)), ((1, 2, 4), (2, 1, 3)), ((2, 1, 3, 1), (1, 2, 1, 1))]
)
def test_a_plan_hands_on_what_its_steps_expect(layout: str, multipliers: tuple[int, ...], blocks: tuple[int, ...]):
    config = UNetConfig.model_validate({"width": 8, "layout": layout, "multipliers": multipliers, "blocks": blocks})
    plan = plan_of(config, 64)
    kept = [plan.stem] if plan.stem_keeps else []
    width, side = plan.stem, 64
    for step in plan.steps:
        joined = kept.pop() if step.joins else 0
        assert step.inward == width + joined
        width, side = step.outward, {"down": side // 2, "up": side * 2, "block": side}[step.kind]
        assert step.side == side
        if step.keeps:
            kept.append(width)
    assert (width, side, kept) == (8 * multipliers[0], 64, [])
