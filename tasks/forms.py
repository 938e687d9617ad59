"""The fields of a flow's form, with what the form itself can refuse. Prefect takes help from the flow's docstring."""

from typing import Annotated, Any, TypeAlias

from pydantic import Field

from infra import clusters
from models.common import workloads

ClusterName: TypeAlias = Annotated[str, Field(json_schema_extra={"enum": list(clusters.names())})]
Seed: TypeAlias = Annotated[int, Field(ge=0, le=2**31 - 1)]
RunKey: TypeAlias = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]{0,62})?$")]
Overrides: TypeAlias = dict[str, Any] | None


def preset_field(workload: str) -> Any:
    """The form's field for one of the workload's presets."""
    return Field(json_schema_extra={"enum": list(workloads.preset_names(workload))})
