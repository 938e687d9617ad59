"""Fields of a preset that the command line changes."""

import json
from typing import Any

from models.common.errors import ConfigError


def parse_changes(changes: list[str] | None) -> dict[str, Any]:
    """`["teacher.max_steps=50"]` as `{"teacher.max_steps": 50}`; values are JSON, or else text."""
    parsed: dict[str, Any] = {}
    for change in changes or []:
        path, found, value = change.partition("=")
        if not found or not path:
            raise ConfigError(f"--set {change} has no value\nfits: STAGE.FIELD=VALUE, as in teacher.max_steps=50")
        try:
            parsed[path] = json.loads(value)
        except ValueError:
            parsed[path] = value
    return parsed
