"""What differs between what we want of a Prefect server and what it has, and what makes it so."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from models.common.config import Config

_MOST_SHOWN = 60  # characters of a value


class Step(Config):
    """One thing in which the server differs from the file."""

    action: Literal["add", "change", "remove"]
    kind: Literal["work pool", "work queue", "deployment", "automation"]
    name: str
    differences: tuple[str, ...] = ()


class Plan(Config):
    """All that differs, in the order in which it is made so; no steps where the server is as the file says."""

    steps: tuple[Step, ...]


Difference: TypeAlias = tuple[Step, Callable[[], object]]  # and what makes it so


def unlike(found: Any, wanted: Any, path: str = "") -> tuple[str, ...]:
    """One line for each place in which what the server has and what is wanted differ."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        names = [*wanted, *(found.keys() - wanted.keys())]
        pairs = [(f"{path}.{name}".strip("."), found.get(name), wanted.get(name)) for name in names]
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = [(f"{path}[{place}]", *each) for place, each in enumerate(zip(found, wanted, strict=True))]
    else:
        return () if found == wanted else (f"{path}: {_short(found)} -> {_short(wanted)}",)
    return tuple(line for place, before, after in pairs for line in unlike(before, after, place))


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} ..."
