"""A form asks what the config takes: its bounds are the config's, and where Prefect's form looks for them."""

import importlib
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.schema_tools import validate

from models.common import workloads
from models.common.errors import ConfigError
from tasks.forms import changes, config_fields, form

FIRST = ["preset", "cluster", "seed", "run_key"]
# What Prefect 3.8's form passes on of a field to the server when it checks what was filled in (seen in Chromium).
SHOWN = {
    "type",
    "enum",
    "title",
    "description",
    "default",
    "position",
    "format",
    "items",
    "anyOf",
    "allOf",
    "properties",
}


def flow_of(workload: str) -> Flow[..., Any]:
    return getattr(importlib.import_module(f"flows.{workload}"), workload)


FIELDS = [(workload, name) for workload in workloads.names() for name in config_fields(flow_of(workload))]


@pytest.mark.parametrize("workload", workloads.names())
def test_a_form_is_flat_and_short_and_explains_itself(workload: str) -> None:
    fields = form(flow_of(workload))["properties"]
    in_order = sorted(fields, key=lambda name: fields[name]["position"])
    assert in_order[:4] == FIRST
    assert in_order[-1] == "overrides"
    assert len(fields) <= 10
    assert [name for name, shown in fields.items() if not shown.get("description") or not shown["title"]] == []
    assert [name for name, shown in fields.items() if "anyOf" in shown or "$ref" in shown] == [], "no tabs, no models"
    assert fields["preset"]["enum"] == workloads.preset_names(workload)


@pytest.mark.parametrize(("workload", "name"), FIELDS)
def test_a_field_has_the_bounds_of_its_config(workload: str, name: str) -> None:
    flow, config = flow_of(workload), workloads.preset(workload, "tiny")
    field, schema = config_fields(flow)[name], form(flow)
    (bounds,) = schema["properties"][name]["allOf"]
    for bound, outside in (("minimum", -1), ("maximum", 1)):
        if bound not in bounds:
            continue
        assert validate({name: bounds[bound]}, schema) == []
        assert validate({name: bounds[bound] + outside}, schema)
        if not field.limits:
            with pytest.raises(ConfigError):
                config.with_overrides(dict.fromkeys((field.path, *field.also), bounds[bound] + outside))


@pytest.mark.parametrize(("workload", "name"), FIELDS)
def test_what_a_field_is_filled_with_is_in_the_config(workload: str, name: str) -> None:
    flow, config = flow_of(workload), workloads.preset(workload, "tiny")
    field = config_fields(flow)[name]
    value = _value(config, field.path)
    filled = changes(flow, {}, **{name: value})
    assert filled == dict.fromkeys((field.path, *field.also), value)
    assert config.with_overrides(filled) == config or field.also


@pytest.mark.parametrize("workload", workloads.names())
def test_prefects_form_itself_refuses_what_is_out_of_bounds(workload: str) -> None:
    schema = form(flow_of(workload))
    shown = {name: {k: v for k, v in field.items() if k in SHOWN} for name, field in schema["properties"].items()}
    faults = validate(
        {"seed": -1, "run_key": "Not A Name", "overrides": {"no field": 1}}, {**schema, "properties": shown}
    )
    assert sorted(str(fault.path[0]) for fault in faults) == ["overrides", "run_key", "seed"]


def test_an_empty_field_changes_nothing_and_one_asked_twice_is_refused() -> None:
    relay = flow_of("relay")
    assert changes(relay, None, teacher_steps=None, student_steps=None) == {}
    assert changes(relay, {"teacher.round_weight": 2}, teacher_steps=50) == {
        "teacher.round_weight": 2, "teacher.max_steps": 50,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"teacher.max_steps stands in the form and"):
        changes(relay, {"teacher.max_steps": 60}, teacher_steps=50)


def _value(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config
