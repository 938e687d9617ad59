"""What all pages share: templates with one set of filters, the page's style, and figures drawn for it."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.axes import digits, number_text
from infra.image_grids import shown_rows
from infra.ramps import dark_rules
from infra.svg import draw_svg
from infra.svg_maps import draw_maps_svg
from models.common.image_grid import ImageGrid
from models.common.report import Cells, Curve, Drawing, Figure, Map, MapRow, Table

if TYPE_CHECKING:
    from jinja2 import Environment

_WIDE, _NARROW = (760, 380), (360, 290)  # a figure is drawn twice, since shrunk letters cannot be read
_MOST_ROWS = 120  # of a figure's table of numbers; a training curve has thousands
_MOST_CELLS = 3000  # of all tables under one figure of maps
_NUMBER = re.compile(r"[<>≤≥≈~]?\s*[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?\s*(%|s|h|x|×|k|M|pts?|points)?(\s*±.*)?")


def rendered(template: str, **values: Any) -> str:
    """The page that a template makes of these values, every text escaped."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # here: whoever draws no page does without

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:.4g}".format
    environment.filters["words"] = words
    environment.filters["shown"] = shown
    environment.filters["numeric"] = _numeric_columns
    environment.tests["code"] = is_code
    return environment


def shown_figure(figure: Drawing, name: str, *, wide: bool = True) -> dict[str, Any]:
    """A figure as the templates take it; `name` is unique on its page. Without `wide` it is drawn narrow only."""
    from markupsafe import Markup

    if isinstance(figure, ImageGrid):
        return {"figure": figure, "rows": shown_rows(figure)}
    return {
        "figure": figure,
        "rows": None,
        "wide": Markup(_draw(figure, f"{name}-wide", _WIDE)) if wide else None,  # noqa: S704 both escape their texts
        "narrow": Markup(_draw(figure, f"{name}-narrow", _NARROW)),  # noqa: S704
        "numbers": [_numbers(figure)] if isinstance(figure, Figure) else _map_numbers(figure),
    }


def style_of(figures: Sequence[Drawing]) -> dict[str, Any]:
    """What the page's style has to know of its figures."""
    from markupsafe import Markup

    has_maps = any(isinstance(figure, Map | MapRow) for figure in figures)
    return {
        "has_images": any(isinstance(figure, ImageGrid) for figure in figures),
        "ramps": Markup(dark_rules() if has_maps else ""),  # noqa: S704 colours and class names of our own
    }


def _draw(figure: Figure | Map | MapRow, name: str, size: tuple[int, int]) -> str:
    return draw_svg(figure, name, *size) if isinstance(figure, Figure) else draw_maps_svg(figure, name, size[0])


def _numbers(figure: Figure) -> Table:
    """The figure's points as a table: a row for each x, a column for each curve; a fit's points say nothing new."""
    curves = [curve for curve in figure.curves if curve.style != "fit"]
    xs = sorted({x for curve in curves for x in curve.x})
    stride = -(-len(xs) // _MOST_ROWS) or 1
    shown = xs[::stride]
    points = [_points(curve) for curve in curves]
    x_digits = max(6, digits(xs))
    levels = [(level.label, number_text(level.value, digits([y for curve in curves for y in curve.y] + [level.value])),
               level.error) for level in figure.levels]  # fmt: skip
    told = [f"Every {stride}th point of {len(xs)}."] if stride > 1 else []
    told += [f"{label}: {value}{f' ± {error:.2g}' if error else ''}." for label, value, error in levels]
    return Table(
        title=figure.title,
        columns=(figure.x_label, *(curve.label for curve in curves)),
        rows=tuple((f"{x:.{x_digits}g}", *(point.get(x, "") for point in points)) for x in shown),
        caption=" ".join(told),
    )


def _points(curve: Curve) -> dict[float, str]:
    """The curve's values as text, by x; where several stand at one x, one after the other."""
    shown = digits(curve.y)
    values = [f"{y:.{shown}g}" for y in curve.y]
    if curve.low:
        intervals = zip(values, curve.low, curve.high, strict=True)
        values = [f"{value} [{low:.{shown}g}, {high:.{shown}g}]" for value, low, high in intervals]
    told: dict[float, str] = {}
    for x, value in zip(curve.x, values, strict=True):
        told[x] = f"{told[x]}; {value}" if x in told else value
    return told


def _map_numbers(drawing: Map | MapRow) -> list[Table]:
    """The cells of each map as a table, as many maps as a page has room for."""
    maps = drawing.maps if isinstance(drawing, MapRow) else (drawing,)
    sizes = [one.shape[0] * one.shape[1] for one in maps]
    shown = [one for place, one in enumerate(maps) if sum(sizes[: place + 1]) <= _MOST_CELLS]
    tables = [_cells(one, one.title, one.values) for one in shown]
    tables += [_cells(one, f"{one.title}: {one.marks.label}", one.marks.values) for one in shown if one.marks]
    if len(shown) < len(maps):
        note = f"{len(maps) - len(shown)} of {len(maps)} maps have too many cells for this page; report.json has them."
        tables.append(Table(title="", columns=(), rows=(), caption=note))
    return tables


def _cells(one: Map, title: str, values: Cells) -> Table:
    rows, columns = one.shape
    least = digits([value for row in values for value in row if value is not None])
    corner = " / ".join(part for part in (one.y_label, one.x_label) if part)
    return Table(
        title=title,
        columns=(corner, *(one.column_labels or (str(column + 1) for column in range(columns)))),
        rows=tuple(
            (label, *("" if value is None else number_text(value, least) for value in row))
            for label, row in zip(one.row_labels or map(str, range(1, rows + 1)), values, strict=True)
        ),
        caption=one.unit if values is one.values else "",
    )


def words(key: str) -> str:
    """A key as a reader says it: `lock_sha256` is "lock sha256"."""
    return str(key).replace("_", " ").replace("gpu hours", "GPU-hours").replace("sha256", "SHA-256")


def shown(value: Any) -> str:
    """A single value of lineage or metrics as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def is_code(value: Any) -> bool:
    """Whether a value is an identifier to compare letter by letter: a hash, a commit, a key."""
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{7,}|\S*\d\S*[-_.:/]\S*", value))


def _numeric_columns(table: Table) -> list[bool]:
    """For each column, whether all its cells are numbers or empty, so that they are set flush right."""
    columns = [[row[place] for row in table.rows if place < len(row)] for place in range(len(table.columns))]
    return [any(cells) and all(not cell or _is_number(cell) for cell in cells) for cells in columns]


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.split("[")[0].split("(")[0].strip()))
