"""The report page: whole in one file, safe to open, and saying what the report says."""

import html.parser
import re
from pathlib import Path

import pytest

from infra.report_page import write_page
from models.common.report import Curve, Figure, Report, Sample, SampleLine, Table
from tests.fixtures.reports import example, lineage

HOSTILE = "<script>alert('x')</script> & \"quotes\" {{ 7 * 7 }}"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(report: Report, tmp_path: Path) -> Page:
    write_page(report, lineage(), tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text())


def test_it_needs_nothing_from_outside(tmp_path: Path) -> None:
    write_page(example(), lineage(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    addresses = [value or "" for _, given in page.tags for name, value in given.items() if name in ("src", "href")]
    assert [address for address in addresses if not address.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")] == []


def test_it_says_what_the_report_says(tmp_path: Path) -> None:
    report = example()
    page = _page(report, tmp_path)
    said = [report.title, report.summary, *(gate.name for gate in report.gates)]
    assert report.headline
    said += [cell for row in report.headline.rows for cell in row]
    said += [figure.title for figure in report.figures] + [curve.label for curve in report.figures[0].curves]
    said += [line.text for sample in report.samples for line in sample.lines]
    said += ["5f0c" * 10, "cd34" * 16, "Linux x86_64"]
    together = " ".join(page.text.split())
    assert [text for text in said if " ".join(text.split()) not in together] == []
    assert "1 of 3 gates failed" in together


def test_wrong_lines_are_marked_in_words_too(tmp_path: Path) -> None:
    marks = [line.mark for sample in example().samples for line in sample.lines]
    text = _page(example(), tmp_path).text
    assert text.count("✗ wrong") == marks.count("wrong") > 0
    assert text.count("✓ right") == marks.count("right") > 0


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    report = Report(
        workload="relay",
        title=HOSTILE,
        summary=HOSTILE,
        metrics={},
        headline=Table(title=HOSTILE, columns=(HOSTILE,), rows=((HOSTILE,),), caption=HOSTILE),
        figures=(
            Figure(
                title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE, caption=HOSTILE,
                curves=(Curve(label=HOSTILE, x=(0, 1), y=(0, 1)),),
            ),
        ),
        samples=(Sample(title=HOSTILE, lines=(SampleLine(label=HOSTILE, text=HOSTILE, note=HOSTILE),)),),
    )  # fmt: skip
    page = _page(report, tmp_path)
    assert [tag for tag, _ in page.tags if tag == "script"] == []
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize(
    "curves", [(), (Curve(label="one point", x=(3,), y=(0.5,)),), (Curve(label="none", x=(), y=()),)]
)
def test_a_figure_with_little_in_it_is_drawn(curves: tuple[Curve, ...], tmp_path: Path) -> None:
    figure = Figure(title="little", x_label="x", y_label="y", curves=curves)
    page = _page(Report(workload="relay", title="t", summary="s", metrics={}, figures=(figure,)), tmp_path)
    assert "nan" not in page.text.lower()
    assert any(tag == "svg" for tag, _ in page.tags)
