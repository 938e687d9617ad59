"""What a process that stands still leaves, by the interpreter's own watchdog."""

import time
from pathlib import Path

from infra.stacks import Watch, left


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


def test_the_stack_of_who_stands_still_names_where_and_is_told_once(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "stacks" / "rank-1.txt", seconds=0.2)
    watch.beat()
    stand_still(0.6)
    watch.end()
    [(who, stack)] = left(tmp_path / "stacks").items()
    assert who == "rank-1"
    assert "in stand_still" in stack
    assert left(tmp_path / "stacks") == {}
    assert list((tmp_path / "stacks").iterdir()) == []


def test_who_goes_on_leaves_nothing(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "rank-0.txt", seconds=1.5)
    for _ in range(4):
        watch.beat()
        time.sleep(0.6)
    watch.end()
    assert left(tmp_path) == {}


def test_a_step_that_took_long_and_ended_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "rank-0.txt"
    watch = Watch(file, seconds=0.2)
    watch.beat()
    stand_still(1.1)
    assert file.read_text()
    watch.beat()
    assert file.read_text() == ""
    watch.end()


def test_where_nobody_was_there_is_nothing(tmp_path: Path) -> None:
    assert left(tmp_path / "none") == {}
