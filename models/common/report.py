"""A report as data: numbers with error bars, curves, tables, samples. `infra/` draws it; workloads fill it."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from models.common.config import Config
from models.common.errors import GateFailed


class Curve(Config):
    """One line of a figure; `low` and `high` are its interval, point by point, where there is one."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Figure(Config):
    """Curves over one pair of axes; `shaded` marks the range of x that was trained on."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    y_range: tuple[float, float] | None = None
    log_y: bool = False
    shaded: tuple[float, float] | None = None
    caption: str = ""


class Table(Config):
    """Rows of cells, shown as they are."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


class SampleLine(Config):
    """One line of a sample: who wrote it, what it says, and whether it is right."""

    label: str
    text: str
    mark: Literal["none", "right", "wrong"] = "none"
    note: str = ""  # such as what would have been right


class Sample(Config):
    """A worked example, line by line."""

    title: str
    lines: tuple[SampleLine, ...]


class Gate(Config):
    """A number that has to be reached before a version is published."""

    name: str
    value: float
    at_least: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        return self.value >= self.at_least


class Report(Config):
    """What an evaluation found. `metrics` is what `--json` prints; the rest is for people."""

    workload: str
    title: str
    summary: str  # one or two sentences: what was found, in numbers
    metrics: dict[str, Any]
    gates: tuple[Gate, ...] = ()
    headline: Table | None = None  # the table that the terminal and the run page show
    figures: tuple[Figure, ...] = ()  # the first one is the picture on the run page
    tables: tuple[Table, ...] = ()
    samples: tuple[Sample, ...] = ()

    def write(self, folder: Path) -> None:
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True)
        (folder / "report.json").write_text(text + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls.model_validate_json((folder / "report.json").read_text())

    def require_gates(self) -> None:
        """Raises GateFailed, by how much, unless every gate passed."""
        missed = [gate for gate in self.gates if not gate.passed]
        if missed:
            lines = [
                f"{gate.name}: {gate.value:.4g}{gate.unit}, {gate.at_least - gate.value:.4g} short of {gate.at_least:g}"
                for gate in missed
            ]
            raise GateFailed(f"{len(missed)} of {len(self.gates)} gates failed\n" + "\n".join(lines))
