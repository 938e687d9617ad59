"""The fault card: what was done, what is promised, what was seen."""

import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar


@dataclass(frozen=True)
class Row:
    """One fault, once. Seconds are from the fault on; None where the promise knows no such time."""

    fault: str
    promise: str
    notice_seconds: float | None = None
    resume_seconds: float | None = None
    steps_lost: int | None = None
    verdict: str = "kept"  # or "broken: ..."

    @property
    def kept(self) -> bool:
        return self.verdict == "kept"

    def told(self) -> dict[str, Any]:
        return asdict(self)

    def cells(self) -> list[str]:
        numbers = (self.notice_seconds, self.resume_seconds)
        return [
            self.fault,
            self.promise,
            *("" if number is None else f"{number:.1f}" for number in numbers),
            "" if self.steps_lost is None else str(self.steps_lost),
            self.verdict,
        ]


class Ground(Protocol):
    """What a fault is played on."""

    @property
    def folder(self) -> Path: ...


G = TypeVar("G", bound=Ground, contravariant=True)


@dataclass(frozen=True)
class Drill(Generic[G]):
    """A fault that can be had: its row's words, and what does it."""

    title: str
    promise: str
    play: Callable[[G], Row]
    core: bool  # of those that fit into a quarter of an hour together

    def row(self, ground: G) -> Row:
        """What was seen; a promise that was broken is said so, whatever it was broken by."""
        try:
            return self.play(ground)
        except Exception as error:  # noqa: BLE001 it belongs on the card
            with (ground.folder / "broken.log").open("a") as log:
                log.write(f"{self.title}\n{''.join(traceback.format_exception(error))}\n")
            return self.seen(
                verdict=f"broken: {type(error).__name__}: {next(iter(str(error).splitlines()), 'no reason given')}"
            )

    def seen(self, **found: Any) -> Row:
        """Its row, with these numbers."""
        return Row(self.title, self.promise, **found)


HEADINGS = ("fault", "promise", "s to notice", "s to resume", "steps lost", "verdict")


def as_markdown(rows: list[Row], about: str) -> str:
    """The card as a table, with what it was measured on."""
    table = [list(HEADINGS), ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    kept = sum(row.kept for row in rows)
    return f"# Fault card\n\n{about}\n\n" + "\n".join(lines) + f"\n\n{kept} of {len(rows)} promises kept.\n"
