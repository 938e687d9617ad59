"""The published schemas, and what of a document does not fit them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import validators

HERE = Path(__file__).resolve().parent


def misfits(thing: dict[str, Any]) -> Iterator[str]:
    """What the schema of its kind has against an object of Kubernetes."""
    kind = f"{thing.get('apiVersion')}/{thing.get('kind')}"
    schemas = [_read("kubernetes.json"), _read("kuberay.json")]
    found = [schema["kinds"][kind] for schema in schemas if kind in schema["kinds"]]
    if not found:
        yield f"{kind} is no kind that is used here"
        return
    definitions = schemas[0]["$defs"] | schemas[1]["$defs"]
    yield from _errors({"$ref": f"#/$defs/{found[0]}", "$defs": definitions}, thing)


def compose_misfits(document: dict[str, Any]) -> Iterator[str]:
    """What the Compose Specification has against it."""
    yield from _errors(_read("compose.json"), document)


def _errors(schema: dict[str, Any], thing: Any) -> Iterator[str]:
    for error in validators.validator_for(schema, default=validators.validator_for({}))(schema).iter_errors(thing):
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


def _read(file: str) -> dict[str, Any]:
    return json.loads((HERE / file).read_text())
