"""A report as one HTML file that needs nothing else: style and figures inside, no script, no outside address."""

import re
from pathlib import Path
from typing import Any

from infra.svg import draw_svg
from models.common.report import Curve, Figure, Report, Table

_TEMPLATE = "report_page.html.jinja"
_WIDE, _NARROW = (760, 380), (360, 290)  # a figure is drawn twice, since shrunk letters cannot be read
_MOST_ROWS = 120  # of a figure's table of numbers; a training curve has thousands
_NUMBER = re.compile(r"[<>≤≥≈~]?\s*[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?\s*(%|s|h|x|×|k|M|pts?|points)?(\s*±.*)?")


def write_page(report: Report, lineage: dict[str, Any], file: Path) -> None:
    """Writes the report and where it comes from into `file`, with every text escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:.4g}".format
    environment.filters["words"] = _words
    environment.filters["shown"] = _shown
    environment.filters["numeric"] = _numeric_columns
    environment.tests["code"] = _is_code
    figures = [
        {
            "figure": figure,
            "wide": Markup(draw_svg(figure, f"figure-{place}-wide", *_WIDE)),  # noqa: S704 draw_svg escapes its texts
            "narrow": Markup(draw_svg(figure, f"figure-{place}-narrow", *_NARROW)),  # noqa: S704
            "numbers": _numbers(figure),
        }
        for place, figure in enumerate(report.figures)
    ]
    page = environment.get_template(_TEMPLATE).render(report=report, figures=figures, lineage=lineage)
    file.write_text(page, encoding="utf-8")


def _numbers(figure: Figure) -> Table:
    """The figure's points as a table: a row for each x, a column for each curve."""
    xs = sorted({x for curve in figure.curves for x in curve.x})
    stride = -(-len(xs) // _MOST_ROWS) or 1
    shown = xs[::stride]
    points = [_points(curve) for curve in figure.curves]
    return Table(
        title=figure.title,
        columns=(figure.x_label, *(curve.label for curve in figure.curves)),
        rows=tuple((f"{x:.6g}", *(point.get(x, "") for point in points)) for x in shown),
        caption=f"Every {stride}th point of {len(xs)}." if stride > 1 else "",
    )


def _points(curve: Curve) -> dict[float, str]:
    values = [f"{y:.4g}" for y in curve.y]
    if curve.low:
        intervals = zip(values, curve.low, curve.high, strict=True)
        values = [f"{value} [{low:.4g}, {high:.4g}]" for value, low, high in intervals]
    return dict(zip(curve.x, values, strict=True))


def _words(key: str) -> str:
    """A key as a reader says it: `lock_sha256` is "lock sha256"."""
    return str(key).replace("_", " ").replace("gpu hours", "GPU-hours").replace("sha256", "SHA-256")


def _shown(value: Any) -> str:
    """A single value of lineage or metrics as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_code(value: Any) -> bool:
    """Whether a value is an identifier to compare letter by letter: a hash, a commit, a key."""
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{7,}|\S*\d\S*[-_.:/]\S*", value))


def _numeric_columns(table: Table) -> list[bool]:
    """For each column, whether all its cells are numbers or empty, so that they are set flush right."""
    columns = [[row[place] for row in table.rows if place < len(row)] for place in range(len(table.columns))]
    return [any(cells) and all(not cell or _is_number(cell) for cell in cells) for cells in columns]


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.split("[")[0].split("(")[0].strip()))
