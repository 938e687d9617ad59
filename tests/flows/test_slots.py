"""Stages that are submitted at once take turns."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.slots import Slots, slots_of


def test_no_more_are_taken_than_there_are() -> None:
    slots, lock = Slots(3), threading.Lock()
    running, most, done = 0, 0, 0

    def stage(count: int) -> None:
        nonlocal running, most, done
        with slots.taken(count):
            with lock:
                running += count
                most = max(most, running)
            threading.Event().wait(0.002)
            with lock:
                running -= count
                done += 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(stage, [1, 2, 3] * 20))
    assert done == 60
    assert most == 3
    assert slots.free == 3


def test_one_who_asks_for_many_is_not_passed_by_those_who_ask_for_few() -> None:
    slots, order = Slots(2), []
    asked: list[threading.Thread] = []

    def stage(name: str, count: int) -> None:
        with slots.taken(count):
            order.append(name)

    with slots.taken(1):
        for place, (name, count) in enumerate([("both", 2), ("one", 1), ("other", 1)]):
            asked.append(threading.Thread(target=stage, args=(name, count)))
            asked[-1].start()
            while len(slots._waiting) < place + 1:
                threading.Event().wait(0.001)
        assert order == [], "a free slot is kept for the first in line"
    for thread in asked:
        thread.join()
    assert order[0] == "both"
    assert sorted(order[1:]) == ["one", "other"]


def test_a_stage_that_fails_gives_its_slots_back() -> None:
    slots = slots_of("a-run", 2)

    def fails() -> None:
        with slots_of("a-run", 2).taken(5):
            assert slots.free == 0, "more than all is all"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert slots.free == 2
    assert slots_of("another-run", 1) is not slots
