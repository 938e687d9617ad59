"""prefect.yaml, read and checked whole: each deployment with the flow that it names, before a server is asked."""

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import available_timezones

import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.schema_tools import ValidationError as MisfitError
from prefect.utilities.schema_tools import validate
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from models.common import workloads
from models.common.config import Config, explain_validation, unknown
from models.common.errors import ConfigError
from tasks.forms import form

OURS = "orchard"  # the tag of what we deploy: only what carries it is ours to remove


class Schedule(Config):
    """When a deployment runs by itself, with the deployment's parameters.

    It has none of its own: Prefect 3.8 forgets those when somebody switches the schedule on or off.
    """

    slug: str = Field(min_length=1, description="its name, unique in the deployment")
    cron: str
    timezone: str
    active: bool | None = Field(default=None, description="None: off at first, then as the switch in the UI has it")

    @field_validator("cron")
    @classmethod
    def _is_a_cron_line(cls, cron: str) -> str:
        try:
            return CronSchedule(cron=cron).cron
        except ValidationError:
            raise ValueError(
                "this is no cron line; fits: minute hour day month weekday, as in '0 3 * * 1', Mondays at three"
            ) from None

    @field_validator("timezone")
    @classmethod
    def _is_a_time_zone(cls, timezone: str) -> str:
        zones = available_timezones()
        if timezone not in zones:
            nearest = difflib.get_close_matches(timezone, zones, n=1) or ["Europe/Berlin"]
            raise ValueError(f"there is no such time zone; fits: a name of the IANA list, as in {nearest[0]}")
        return timezone


class Place(Config):
    """Where a deployment's runs wait for a worker."""

    name: str
    work_queue_name: str = "default"


class Entry(Config):
    """A deployment as the file has it."""

    name: str = Field(min_length=1)
    entrypoint: str = Field(pattern=r"^\w+(\.\w+)+$", description="module and flow, as in flows.relay.relay")
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default={})
    work_pool: Place
    schedules: tuple[Schedule, ...] = ()
    concurrency_limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _schedules_are_told_apart(self) -> Self:
        slugs = [schedule.slug for schedule in self.schedules]
        if len(set(slugs)) < len(slugs):
            raise ValueError("two schedules have one slug; give each its own")
        return self


class File(Config):
    """The file. `definitions` is for what its deployments share."""

    name: Literal["orchard"]
    prefect_version: str = Field(default="", alias="prefect-version")
    pull: tuple[dict[str, Any], ...] = ()
    queues: dict[str, PositiveInt]
    definitions: dict[str, Any] = Field(default={})
    deployments: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Deployment:
    """A checked entry with its flow: what the server is to have."""

    entry: Entry
    flow: Flow[..., Any]
    form: dict[str, Any]
    pull: tuple[dict[str, Any], ...]

    @property
    def full_name(self) -> str:
        return f"{self.flow.name}/{self.entry.name}"


@dataclass(frozen=True)
class Wanted:
    """All that the file asks for."""

    pools: tuple[str, ...]
    queues: dict[str, int]  # of each pool: how many runs at once
    deployments: dict[str, Deployment]  # by "FLOW/NAME"


def read_deployments(file: Path) -> Wanted:
    """What the file asks for; raises ConfigError for whatever of it cannot work, naming the deployment."""
    asked = _parsed(file)
    deployments: dict[str, Deployment] = {}
    for values in asked.deployments:
        entry = _entry(values, file)
        found = _deployment(entry, asked, file)
        if found.full_name in deployments:
            raise ConfigError(f"{file.name} has two deployments {found.full_name}\ngive each its own name")
        deployments[found.full_name] = found
    pools = tuple(sorted({each.entry.work_pool.name for each in deployments.values()}))
    return Wanted(pools, asked.queues, deployments)


def _parsed(file: Path) -> File:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}\nfits: the prefect.yaml of this repository, or your copy of it"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML\n{error}") from None
    try:
        return File.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, file.name)) from None


def _entry(values: dict[str, Any], file: Path) -> Entry:
    try:
        return Entry.model_validate(values)
    except ValidationError as error:
        what = f"deployment '{values.get('name', '')}' of {values.get('entrypoint', 'no flow')} in {file.name}"
        raise ConfigError(explain_validation(error, what)) from None


def _deployment(entry: Entry, asked: File, file: Path) -> Deployment:
    flow = _flow(entry, file)
    queue = entry.work_pool.work_queue_name
    if queue not in asked.queues:
        raise ConfigError(f"{flow.name}/{entry.name} in {file.name}: {unknown('queue', queue, list(asked.queues))}")
    found = Deployment(entry, flow, _form_in(form(flow), entry), asked.pull)
    _check_parameters(f"{found.full_name} in {file.name}", entry, found.form)
    return found


def _flow(entry: Entry, file: Path) -> Flow[..., Any]:
    module, _, name = entry.entrypoint.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        found = None
    if not isinstance(found, Flow):
        raise ConfigError(
            f"deployment '{entry.name}' in {file.name}: there is no flow {entry.entrypoint}\n"
            "fits: module and flow, as in flows.relay.relay"
        )
    return found


def _form_in(form: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """The form of this deployment: where it has but one choice, the form has no other.

    Its cluster is that of its queue, which counts its runs; a workload that it names is the one that it is for.
    """
    fields, queue = form["properties"], entry.work_pool.work_queue_name
    if queue in fields.get("cluster", {}).get("enum", []):
        fields["cluster"] |= {"enum": [queue], "default": queue}
    workload = entry.parameters.get("workload")
    if workload in fields.get("workload", {}).get("enum", []):
        fields["workload"] |= {"enum": [workload], "default": workload}
        fields["preset"] |= {"enum": workloads.preset_names(workload)}
    return form


def _check_parameters(where: str, entry: Entry, form: dict[str, Any]) -> None:
    """Raises ConfigError where the form would not take them; those that are missing a person adds, no schedule can."""
    for name in entry.parameters:
        if name not in form["properties"]:
            raise ConfigError(f"{where}: {unknown('parameter', name, list(form['properties']))}")
    try:
        validate(entry.parameters, form, raise_on_error=True, ignore_required=not entry.schedules)
    except MisfitError as error:
        raise ConfigError(f"{where}: {error}") from None
