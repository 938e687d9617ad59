"""A run that crashed: it is started again, or what it left in Ray is stopped, and one event says why it ended."""

from typing import Annotated
from uuid import UUID

from prefect import flow
from pydantic import Field

from tasks.tidying import Tidied, goes_on, stop_what_is_left, tell_crash


@flow(name="tidy", flow_run_name="tidy-{run_key}")
def tidy(
    run_key: Annotated[str, Field(min_length=1, json_schema_extra={"title": "Run name"})],
    flow_run: Annotated[UUID | None, Field(json_schema_extra={"title": "Flow run"})] = None,
    state: Annotated[str, Field(json_schema_extra={"title": "State"})] = "",
    reason: Annotated[str, Field(json_schema_extra={"title": "Reason"})] = "",
) -> Tidied:
    """A run that crashed -> it goes on, or: what it left is stopped -> one event with the reason.

    Args:
        run_key: The run that crashed.
        flow_run: Its id on the server; empty: whatever has this name.
        state: In which state it ended.
        reason: Why, in a few words.
    """
    if goes_on(run_key, flow_run, reason):
        return Tidied(run_key=run_key, goes_on=True, stopped={})
    tidied = stop_what_is_left(run_key, flow_run)
    tell_crash(run_key, flow_run, state, reason)
    return tidied
