"""Prefect's server with our order of events: what its own class does, on both sides of the first quarter of an hour."""

import asyncio
import time
import uuid
from datetime import UTC, datetime

import pytest
from prefect.server.events.ordering import EventArrivedEarly, get_triggers_causal_ordering
from prefect.server.events.ordering.memory import CausalOrdering as InMemory
from prefect.server.events.schemas.events import ReceivedEvent, Resource
from prefect.settings import PREFECT_SERVER_EVENTS_CAUSAL_ORDERING, temporary_settings

from flows import event_order
from infra.settings import server_environment


def an_end(of: uuid.UUID) -> ReceivedEvent:
    """A run has completed, after it began with another event."""
    resource = Resource({"prefect.resource.id": f"prefect.flow-run.{uuid.uuid4()}"})
    return ReceivedEvent(
        occurred=datetime.now(UTC), event="prefect.flow-run.Completed", resource=resource, id=uuid.uuid4(), follows=of
    )


@pytest.fixture(autouse=True)
def scopes():
    yield
    InMemory.clear_all_scopes()


def waits(event: ReceivedEvent) -> bool:
    try:
        asyncio.run(event_order.CausalOrdering(scope="tests").wait_for_leader(event))
    except EventArrivedEarly:
        return True
    return False


def test_what_the_server_before_this_one_saw_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(EventArrivedEarly):
        asyncio.run(InMemory(scope="prefect's own").wait_for_leader(an_end(of=uuid.uuid4())))
    monkeypatch.setattr(event_order, "_BEGAN", time.monotonic() - 60)
    assert not waits(an_end(of=uuid.uuid4()))


def test_what_this_server_can_have_seen_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event_order, "_BEGAN", time.monotonic() - 3600)
    assert waits(an_end(of=uuid.uuid4()))


def test_the_server_takes_it_for_its_automations():
    named = server_environment(1, "", 1.0)["PREFECT_SERVER_EVENTS_CAUSAL_ORDERING"]
    with temporary_settings({PREFECT_SERVER_EVENTS_CAUSAL_ORDERING: named}):
        assert type(get_triggers_causal_ordering()) is event_order.CausalOrdering
