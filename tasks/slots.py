"""The slots of a run: stages that are submitted at once take turns where the cluster has room for a few only."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """So many slots, taken in the order of asking; one who asks for many is not passed by those who ask for few.

    Without it, each stage's Ray job would start up at once and hold memory and processor time while it waits.
    """

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Waits for `count` slots and holds them, all of them at most."""
        count = min(count, self.total)
        place = object()
        with self._changed:
            self._waiting.append(place)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is place and self.free >= count)
                self.free -= count
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.free += count
                self._changed.notify_all()


_of_runs: dict[str, Slots] = {}
_lock = threading.Lock()


def slots_of(run_key: str, total: int) -> Slots:
    """The slots of this run in this process."""
    with _lock:
        return _of_runs.setdefault(run_key, Slots(total))
