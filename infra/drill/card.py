"""The fault card: what was done, what is promised, what was seen."""

from dataclasses import asdict, dataclass
from typing import Any


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


HEADINGS = ("fault", "promise", "s to notice", "s to resume", "steps lost", "verdict")


def as_markdown(rows: list[Row], about: str) -> str:
    """The card as a table, with what it was measured on."""
    table = [list(HEADINGS), ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    kept = sum(row.kept for row in rows)
    return f"# Fault card\n\n{about}\n\n" + "\n".join(lines) + f"\n\n{kept} of {len(rows)} promises kept.\n"
