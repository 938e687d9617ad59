"""Pulling a published version onto the worker's machine."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from models.common.handles import Artifact
from tasks.versions import pull_version

Spec = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][\w-]*([@#][\w.-]+)?$",
        json_schema_extra={"title": "Version"},
    ),
]


@flow(name="pull", flow_run_name="pull-{spec}")
def pull(spec: Spec, out: Annotated[str, Field(json_schema_extra={"title": "Folder"})] = "") -> Artifact:
    """A version -> its bytes on the worker's machine, each verified.

    Args:
        spec: NAME (the latest), NAME@VERSION or NAME#STAGE, as in relay#champion.
        out: Where to write it, on the worker's machine; empty: in its state folder.
    """
    return pull_version(spec, Path(out) if out else None)
