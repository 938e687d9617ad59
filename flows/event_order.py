"""In which order Prefect's server lets automations see events: its own, but for what a server before this one saw.

A run's state events each follow another, and wait up to a quarter of an hour for one that has not been seen. What has
been seen is kept in memory. After a restart, the end of a run would wait for its beginning, and the automation that
looks after hearts would call the run crashed that has just completed.
"""

import time

from prefect.server.events.ordering import PRECEDING_EVENT_LOOKBACK
from prefect.server.events.ordering.memory import CausalOrdering as InMemory
from prefect.server.events.schemas.events import ReceivedEvent

_BEGAN = time.monotonic()


class CausalOrdering(InMemory):
    """The order of who follows whom, as far back as this process has been there to see it."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Raises EventArrivedEarly for an event that is to wait."""
        if time.monotonic() - _BEGAN > PRECEDING_EVENT_LOOKBACK.total_seconds():
            await super().wait_for_leader(event)
