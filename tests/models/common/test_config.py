"""Configs: frozen, validated at every change, and refused with the field, what was found and what fits."""

from typing import Annotated

import pytest
from pydantic import Field, PositiveInt, ValidationError

from models.common.config import Config, unknown
from models.common.errors import ConfigError


class Inner(Config):
    steps: int = Field(default=5, ge=1)
    rate: float = 0.1


class Outer(Config):
    inner: Inner = Inner()
    name: str = "a"


def test_a_change_is_a_new_config() -> None:
    config = Outer()
    changed = config.with_overrides({"inner.steps": 7, "name": "b"})
    assert (changed.inner.steps, changed.name, changed.inner.rate) == (7, "b", 0.1)
    assert config == Outer()
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "c"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("innr.steps", 1, r"no field 'innr' in the config; did you mean 'inner'\?"),
        (
            "inner.stps",
            1,
            r"no field 'inner.stps' in inner; did you mean 'inner.steps'\?\nfits: inner.rate, inner.steps",
        ),
        ("name.x", 1, "no field 'name.x' in name"),
        ("inner.steps", 0, "inner.steps: found 0; .* greater than or equal to 1"),
        ("inner.steps", "many", "inner.steps: found 'many'"),
        ("inner.rate", float("nan"), "inner.rate: found nan"),
        ("inner", {"speed": 3}, "inner.speed: found 3; Extra inputs are not permitted"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(path: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Outer().with_overrides({path: value})


def test_a_list_with_a_wrong_item_is_not_called_too_short() -> None:
    class Lengths(Config):
        lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1,)

    def told(lengths: list[int]) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            Lengths().but(lengths=lengths)
        return str(refused.value).splitlines()[1:]

    assert len(told([0])) == 1
    assert told([0])[0].startswith("lengths.0: found 0; ")
    assert told([])[0].startswith("lengths: found []; ")


def test_equal_configs_have_equal_fingerprints() -> None:
    assert Outer().fingerprint() == Outer(inner=Inner(steps=5), name="a").fingerprint()
    assert Outer().fingerprint() != Outer(name="b").fingerprint()
    assert len(Outer().fingerprint()) == 64


def test_an_unknown_name_comes_with_all_that_fit() -> None:
    assert (
        unknown("fruit", "aple", ["apple", "pear"])
        == "there is no fruit 'aple'; did you mean 'apple'?\nfits: apple, pear"
    )
    assert unknown("fruit", "x", []) == "there is no fruit 'x'\nfits: nothing"
