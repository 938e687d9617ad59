"""A report as data: numbers, curves, maps, images, tables, samples. `infra/` draws it; workloads fill it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from models.common.config import Config
from models.common.errors import GateFailed
from models.common.image_grid import ImageGrid


class Curve(Config):
    """One line of a figure, or points; `low` and `high` are its interval, point by point, where there is one.

    style: "line" joins the points, "points" leaves them apart with error bars, "fit" is a line without markers in the
    colour of the curve before it. Raises ValidationError where the lengths differ or an interval is upside down.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    style: Literal["line", "points", "fit"] = "line"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        points = len(self.x)
        if len(self.y) != points:
            raise ValueError(f"curve '{self.label}' has {points} x and {len(self.y)} y; give each x its y")
        if self.low or self.high:
            if not len(self.low) == len(self.high) == points:
                found = f"{len(self.low)} low and {len(self.high)} high for {points} points"
                raise ValueError(f"curve '{self.label}' has {found}; give both for every point, or neither")
            for x, low, high in zip(self.x, self.low, self.high, strict=True):
                if low > high:
                    raise ValueError(
                        f"curve '{self.label}' has low {low:g} above high {high:g} at x = {x:g}; swap them"
                    )
        return self


class Level(Config):
    """A value to compare with, drawn as a horizontal line; `error` is half the width of its band."""

    label: str
    value: float
    error: NonNegativeFloat = 0.0


class Figure(Config):
    """Curves over one pair of axes; `shaded` marks the range of x that was trained on.

    Raises ValidationError where a range is empty or a logarithmic axis meets a value that is not above zero. The lower
    end of an interval may reach zero: it is drawn down to where the axis ends.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    shaded: tuple[float, float] | None = None
    caption: str = ""

    @model_validator(mode="after")
    def _fits_its_axes(self) -> Self:
        for name in ("x_range", "y_range", "shaded"):
            span = getattr(self, name)
            if span and not span[0] < span[1] and not (name == "shaded" and span[0] == span[1]):
                raise ValueError(f"{name} is {span[0]:g} to {span[1]:g}; the first has to be the smaller")
        for curve in self.curves:
            for name, values in (("x", curve.x if self.log_x else ()), ("y", curve.y if self.log_y else ())):
                _require_positive(f"curve '{curve.label}'", name, values)
        if self.log_y:
            _require_positive("levels", "y", [level.value for level in self.levels])
        if self.log_x:
            _require_positive("x_range", "x", self.x_range or ())
            _require_positive("shaded", "x", self.shaded or ())
        return self


def _require_positive(whose: str, name: str, values: Sequence[float]) -> None:
    for place, value in enumerate(values):
        if value <= 0:
            raise ValueError(
                f"{whose}: {name} = {value:g} at place {place}, and a logarithmic axis begins above 0; "
                f"leave it out, or set log_{name}=False"
            )


Cells = tuple[tuple[float | None, ...], ...]  # row by row from the top; None where there is no value


class Marks(Config):
    """A signed number for each cell of a map, drawn over its colour: an arrow up or down, or a disc or a ring.

    The largest of them fills its cell; the others are smaller in proportion (arrows by length, circles by area).
    """

    label: str  # what they show, such as "spin"
    values: Cells
    shape: Literal["arrows", "circles"] = "arrows"


class Map(Config):
    """Values on a grid as colours; a diverging scale is symmetric about 0, a sequential one spans the values.

    Raises ValidationError where rows, labels or marks do not fit together.
    """

    title: str
    values: Cells
    unit: str = ""  # what the colour says, such as "holes per site"; stands beside the scale
    x_label: str = ""
    y_label: str = ""
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    scale: Literal["sequential", "diverging"] = "sequential"
    value_range: tuple[float, float] | None = None  # values beyond it take the colour of its end
    marks: Marks | None = None
    caption: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.values), len(self.values[0])

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        if not self.values or not self.values[0]:
            raise ValueError(f"map '{self.title}' has no cells; leave the map out, or give it values")
        rows, columns = self.shape
        for name, grid in (("values", self.values), ("marks", self.marks.values if self.marks else self.values)):
            lengths = [len(row) for row in grid]
            if lengths != [columns] * rows:
                found = f"{name} of map '{self.title}' have rows of {_counts(lengths)}"
                raise ValueError(f"{found}; give {rows} rows of {columns}")
        for name, labels, cells in (
            ("row_labels", self.row_labels, rows),
            ("column_labels", self.column_labels, columns),
        ):
            if labels and len(labels) != cells:
                raise ValueError(f"map '{self.title}' has {len(labels)} {name}; give {cells}, or none")
        if self.value_range:
            low, high = self.value_range
            if not low < high or (self.scale == "diverging" and low != -high):
                fits = "-a to a, as the scale is diverging" if self.scale == "diverging" else "a smaller number first"
                raise ValueError(f"value_range of map '{self.title}' is {low:g} to {high:g}; give {fits}")
        return self


def _counts(lengths: Sequence[int]) -> str:
    """Such as "3, 3, 2", cut short where there are many."""
    shown = ", ".join(str(length) for length in lengths[:8])
    return f"{shown}, ..." if len(lengths) > 8 else shown or "nothing"


class MapRow(Config):
    """Maps side by side, in as many rows as the page asks for; with a common scale one colour is one value in all.

    columns: so many stand in a row where there is room, such as a layer's heads. Raises ValidationError where maps that
    share a scale differ in its kind, unit or range.
    """

    title: str
    maps: Annotated[tuple[Map, ...], Field(min_length=1)]
    common_scale: bool = True
    columns: PositiveInt | None = None
    caption: str = ""

    @model_validator(mode="after")
    def _shares_a_scale(self) -> Self:
        first = self.maps[0]
        for other in self.maps[1:] if self.common_scale else ():
            for name in ("scale", "unit", "value_range"):
                if getattr(other, name) != getattr(first, name):
                    found = f"maps '{first.title}' and '{other.title}' differ in {name}"
                    raise ValueError(f"{found}; make it the same, or set common_scale=False")
        return self


_KINDS = (("maps", "maps"), ("values", "map"), ("images", "images"))  # a field that only it has, and the kind


def _kind(drawing: Any) -> str:
    """Which of the drawings this is, by the field that only it has; JSON needs no name for it."""
    has = drawing.__contains__ if isinstance(drawing, dict) else lambda field: hasattr(drawing, field)
    return next((kind for field, kind in _KINDS if has(field)), "figure")


Drawing = Annotated[
    Annotated[Figure, Tag("figure")]
    | Annotated[Map, Tag("map")]
    | Annotated[MapRow, Tag("maps")]
    | Annotated[ImageGrid, Tag("images")],
    Discriminator(_kind),
]


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


class TokenLine(Config):
    """One line of a sample, token by token; the colour behind a token says its value.

    Tokens bring the blanks between them. Raises ValidationError unless each token has one finite value.
    """

    label: str
    tokens: tuple[str, ...]
    values: tuple[FiniteFloat, ...]
    note: str = ""

    @model_validator(mode="after")
    def _has_a_value_each(self) -> Self:
        if len(self.tokens) != len(self.values):
            found = f"{len(self.tokens)} tokens and {len(self.values)} values"
            raise ValueError(f"line '{self.label}' has {found}; give each token its value")
        return self


class Sample(Config):
    """A worked example, line by line.

    token_values: what the colours of its tokens say, on one scale for all its lines, symmetric about 0.
    most: values beyond this take the colour of the scale's end; None: the scale spans the values.
    """

    title: str
    lines: tuple[SampleLine | TokenLine, ...]
    token_values: str = ""
    most: PositiveFloat | None = None


class SampleOfKind(Config):
    """A sample, and of which kind it is: a value for each facet of the browser that it stands in."""

    values: tuple[str, ...]
    sample: Sample


class SampleBrowser(Config):
    """Samples of which a reader chooses some by facets, such as who wrote it and whether it is right.

    The page offers the values of a facet in the order in which the samples bring them, and begins with the first
    sample's. Raises ValidationError unless each sample has one value for each facet.
    """

    title: str
    facets: Annotated[tuple[str, ...], Field(min_length=1)]
    samples: Annotated[tuple[SampleOfKind, ...], Field(min_length=1)]
    caption: str = ""

    @model_validator(mode="after")
    def _has_values_for_the_facets(self) -> Self:
        for each in self.samples:
            if len(each.values) != len(self.facets):
                found = f"sample '{each.sample.title}' has {len(each.values)} values for {len(self.facets)} facets"
                raise ValueError(f"{found}; give one for each of {', '.join(self.facets)}")
        return self


class Gate(Config):
    """A bound that a number has to keep before a version is published: a lowest or a highest value."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"gate '{self.name}' has to have one bound; give at_least or at_most")
        return self

    @property
    def margin(self) -> float:
        """How far the value lies on the right side of its bound; negative where it does not."""
        if self.at_least is not None:
            return self.value - self.at_least
        assert self.at_most is not None
        return self.at_most - self.value

    @property
    def passed(self) -> bool:
        return self.margin >= 0

    @property
    def bound(self) -> str:
        """Such as "at least 30 points"."""
        word, value = ("at least", self.at_least) if self.at_least is not None else ("at most", self.at_most)
        return f"{word} {value:.4g}{self.unit}"


class Report(Config):
    """What an evaluation found. `metrics` is what `--json` prints; the rest is for people."""

    workload: str
    title: str
    summary: str  # one or two sentences: what was found, in numbers
    metrics: dict[str, Any]
    gates: tuple[Gate, ...] = ()
    headline: Table | None = None  # the table that the terminal and the run page show
    figures: tuple[Drawing, ...] = ()  # the first ones stand on the run page too
    tables: tuple[Table, ...] = ()
    samples: tuple[Sample, ...] = ()
    browser: SampleBrowser | None = None  # more samples, to choose from

    @property
    def all_samples(self) -> tuple[Sample, ...]:
        """Those that are always shown, and those of the browser."""
        return (*self.samples, *(each.sample for each in (self.browser.samples if self.browser else ())))

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
                f"{gate.name}: {gate.value:.4g}{gate.unit}, {-gate.margin:.4g} "
                f"{f'short of {gate.at_least:g}' if gate.at_least is not None else f'above {gate.at_most:g}'}"
                for gate in missed
            ]
            raise GateFailed(f"{len(missed)} of {len(self.gates)} gates failed\n" + "\n".join(lines))
