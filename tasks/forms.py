"""What a flow's form asks, with the bounds that the form itself and the API hold a person to.

A form is flat: preset, cluster, seed, run name, the few fields of the config that a person changes, and JSON for the
rest. A field of the config takes type, bounds and help from the config: they stand there and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

from prefect import Flow
from pydantic import BaseModel, Field, TypeAdapter
from pydantic.fields import FieldInfo

from infra import clusters
from models.common import workloads
from models.common.errors import ConfigError

ClusterName: TypeAlias = Annotated[str, Field(json_schema_extra={"title": "Cluster", "enum": list(clusters.names())})]
Seed: TypeAlias = Annotated[int, Field(ge=0, le=2**31 - 1, json_schema_extra={"title": "Seed"})]
RunKey: TypeAlias = Annotated[
    str, Field(pattern=r"^([a-z0-9][a-z0-9._-]{0,62})?$", json_schema_extra={"title": "Run name"})
]
Overrides: TypeAlias = Annotated[dict[str, Any] | None, Field(json_schema_extra={"title": "Other fields (JSON)"})]

# A dotted field, as in "teacher.max_steps". Whether there is one of that name is found in the first second of the run.
_OVERRIDES_SCHEMA = {"type": "object", "propertyNames": {"pattern": r"^[A-Za-z_]\w*(\.\w+)*$"}}

_LEAST = {"minimum": "", "exclusiveMinimum": "above "}
_MOST = {"maximum": "", "exclusiveMaximum": "below "}
_BOUNDS = (*_LEAST, *_MOST, "pattern", "propertyNames")


def preset_field(workload: str) -> Any:
    """The form's field for one of the workload's presets, with what each is for."""
    names = workloads.preset_names(workload)
    told = "\n\n".join(f"- `{name}`: {workloads.preset_text(workload, name)}" for name in names)
    shown: dict[str, Any] = {"title": "Preset", "enum": names, "description": f"What is run, and how large.\n\n{told}"}
    return Field(json_schema_extra=shown)


@dataclass(frozen=True)
class ConfigField:
    """A field of the workload's config in its form; left empty, it stays as the preset has it."""

    workload: str
    path: str  # dotted, as in "teacher.max_steps"
    title: str  # with the unit
    help: str = ""  # the config's own description, where none is given
    also: tuple[str, ...] = ()  # further fields that have to be given the same value
    limits: dict[str, Any] = field(default_factory=dict)  # of the form, as in {"minimum": 0}; where it is narrower

    def schema(self) -> dict[str, Any]:
        """What the form shows and refuses: flat, since a form has no place for one type or another."""
        info = _field(type(workloads.preset(self.workload, workloads.preset_names(self.workload)[0])), self.path)
        field_type: Any = Annotated[info.annotation, info]  # pyright: ignore[reportInvalidTypeForm] known at run time only
        schema = TypeAdapter(field_type).json_schema()
        schema = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), schema)
        kept = {name: value for name, value in schema.items() if name not in ("default", "title", "description")}
        kept |= self.limits
        told = f"{_sentence(self.help or info.description or '')}{_range(kept)}Empty: as the preset has it."
        return kept | {"title": self.title, "description": told}


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """The JSON schema of the flow's parameters, as the form shows it and the API enforces it."""
    schema = flow.parameters.model_dump_for_openapi()
    for name, asked in config_fields(flow).items():
        schema["properties"][name] = {"position": schema["properties"][name]["position"]} | asked.schema()
    for name, shown in schema["properties"].items():
        if shown["title"] == name:
            shown["title"] = name.replace("_", " ").capitalize()
    if "overrides" in schema["properties"]:
        found = schema["properties"]["overrides"]
        shown = {key: found[key] for key in ("title", "description", "position")}
        schema["properties"]["overrides"] = shown | _OVERRIDES_SCHEMA
    schema["properties"] = {name: _with_bounds_apart(shown) for name, shown in schema["properties"].items()}
    return schema | {"additionalProperties": False}


def changes(flow: Flow[..., Any], overrides: Mapping[str, Any] | None, **fields: Any) -> dict[str, Any]:
    """The fields of the preset to change: those of the form that were filled in, and the overrides.

    Raises ConfigError where both name the same field.
    """
    asked = config_fields(flow)
    filled = {
        path: value
        for name, value in fields.items()
        if value is not None
        for path in (asked[name].path, *asked[name].also)
    }
    overrides = overrides or {}
    if twice := sorted(filled.keys() & overrides.keys()):
        raise ConfigError(
            f"{', '.join(twice)} stands in the form and in its other fields (JSON)\nfits: one of the two; take one out"
        )
    return {**overrides, **filled}


def config_fields(flow: Flow[..., Any]) -> dict[str, ConfigField]:
    """The flow's parameters that are fields of its workload's config."""
    hints = get_type_hints(flow.fn, include_extras=True)
    return {
        name: found for name, hint in hints.items() for found in get_args(hint)[1:] if isinstance(found, ConfigField)
    }


def _field(config: type[BaseModel], path: str) -> FieldInfo:
    first, _, rest = path.partition(".")
    info = config.model_fields[first]
    if not rest:
        return info
    inner = (part for part in (info.annotation, *get_args(info.annotation)) if isinstance(part, type))
    return _field(next(part for part in inner if issubclass(part, BaseModel)), rest)


def _with_bounds_apart(shown: dict[str, Any]) -> dict[str, Any]:
    """The same field with its bounds in `allOf`.

    Prefect 3.8's form leaves bounds that stand beside the type out of what it checks, and passes `allOf` on: a value
    out of range is then refused at the field, and not by a message without a place when the run is created.
    """
    bounds = {name: value for name, value in shown.items() if name in _BOUNDS}
    rest = {name: value for name, value in shown.items() if name not in _BOUNDS}
    return rest | {"allOf": [bounds]} if bounds else rest


def _range(schema: dict[str, Any]) -> str:
    """ "1 to 100. " for a number that has both bounds."""
    least = [f"{word}{_number(schema[name])}" for name, word in _LEAST.items() if name in schema]
    most = [f"{word}{_number(schema[name])}" for name, word in _MOST.items() if name in schema]
    return f"{least[0]} to {most[0]}. ".capitalize() if least and most else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}. " if text else ""
