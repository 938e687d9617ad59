"""Frozen, typed configs: unknown fields are errors, and a change is validated like a new value."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from models.common.errors import ConfigError


class Config(BaseModel):
    """Base of all configs: immutable, no unknown fields, no infinities, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def but(self, **changes: Any) -> Self:
        """This config with some fields changed; raises ConfigError where a value does not fit."""
        return self.with_overrides(changes)

    def with_overrides(self, overrides: Mapping[str, Any]) -> Self:
        """This config with dotted fields changed, as in `{"teacher.max_steps": 50}`.

        Raises ConfigError for a field that does not exist (naming the nearest) or a value that does not fit.
        """
        values = self.model_dump()
        for path, value in overrides.items():
            _set_dotted(values, path, value)
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain_validation(error, type(self).__name__)) from None

    def fingerprint(self) -> str:
        """SHA-256 of the config's canonical JSON: equal configs, equal fingerprints."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _set_dotted(values: dict[str, Any], path: str, value: Any) -> None:
    """Sets `values["a"]["b"]` for path "a.b"; the path has to exist."""
    *parents, last = path.split(".")
    place: Any = values
    for depth, name in enumerate([*parents, last]):
        if not isinstance(place, dict) or name not in place:
            where = ".".join([*parents, last][:depth]) or "the config"
            fields = sorted(place) if isinstance(place, dict) else []
            found = ".".join([*parents, last][: depth + 1])
            raise ConfigError(unknown("field", found, [".".join([*parents[:depth], f]) for f in fields], where=where))
        if depth < len(parents):
            place = place[name]
    place[last] = value


def unknown(kind: str, found: str, fits: list[str], *, where: str = "") -> str:
    """The text for a name that does not exist: what was found, the nearest that does, and all that do."""
    nearest = difflib.get_close_matches(found, fits, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    place = f" in {where}" if where else ""
    return f"there is no {kind} '{found}'{place}{hint}\nfits: {', '.join(fits) or 'nothing'}"


def explain_validation(error: ValidationError, what: str) -> str:
    """One line a fault: the field, what was found, and what fits. What fields do to each other tells itself.

    A list of which an item is at fault counts as too short as well; that is left out.
    """
    lines, faults = [], error.errors(include_url=False)
    around = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    for fault in faults:
        if fault["type"] == "too_short" and fault["loc"] in around:
            continue
        where = ".".join(str(part) for part in fault["loc"]) or what
        of_fields = fault["type"] == "value_error" and isinstance(fault["input"], (Mapping, BaseModel))
        found = "" if of_fields else f"found {fault['input']!r}; "
        lines.append(f"{where}: {found}{fault['msg']}")
    return f"{what} does not validate\n" + "\n".join(lines)
