"""The report page: whole in one file, safe to open, and saying what the report says."""

import re
from pathlib import Path

import pytest

from infra.report_page import write_page
from models.common.report import Curve, Figure, Level, Map, MapRow, Marks, Report, Sample, SampleLine, Table
from tests.fixtures.pages import Page
from tests.fixtures.reports import example, extrapolation, heads, lineage, stripes

HOSTILE = "<script>alert('x')</script> & \"quotes\" {{ 7 * 7 }}"


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
    said += [figure.title for figure in report.figures]
    said += [curve.label for figure in report.figures if isinstance(figure, Figure) for curve in figure.curves]
    said += [line.text for line in _worked(report)]
    said += ["5f0c" * 10, "cd34" * 16, "Linux x86_64"]
    together = " ".join(page.text.split())
    assert [text for text in said if " ".join(text.split()) not in together] == []
    assert "1 of 3 gates failed" in together


def _worked(report: Report) -> list[SampleLine]:
    return [line for sample in report.samples for line in sample.lines if isinstance(line, SampleLine)]


def test_wrong_lines_are_marked_in_words_too(tmp_path: Path) -> None:
    marks = [line.mark for line in _worked(example())]
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
                curves=(Curve(label=HOSTILE, x=(0, 1), y=(0, 1)),), levels=(Level(label=HOSTILE, value=0.5),),
            ),
            MapRow(
                title=HOSTILE, caption=HOSTILE,
                maps=(
                    Map(
                        title=HOSTILE, values=((0, 1),), unit=HOSTILE, x_label=HOSTILE, y_label=HOSTILE,
                        row_labels=(HOSTILE,), column_labels=(HOSTILE, HOSTILE),
                        marks=Marks(label=HOSTILE, values=((1, -1),)),
                    ),
                ),
            ),
        ),
        samples=(Sample(title=HOSTILE, lines=(SampleLine(label=HOSTILE, text=HOSTILE, note=HOSTILE),)),),
    )  # fmt: skip
    page = _page(report, tmp_path)
    assert [tag for tag, _ in page.tags if tag == "script"] == []
    assert "{{ 7 * 7 }}" in page.text


def test_numbers_of_a_figure_differ_where_the_values_do(tmp_path: Path) -> None:
    page = _page(example().but(figures=(extrapolation(),)), tmp_path)
    assert "-3.46909 [-3.46913, -3.46905]" in page.text
    assert "exact −3.46932: −3.46932. published −3.4683(2): −3.4683 ± 0.0002." in page.text


def test_numbers_of_a_map_stand_in_a_table_each(tmp_path: Path) -> None:
    text = " ".join(_page(example().but(figures=(stripes(), heads())), tmp_path).text.split())
    weights = heads().maps[7].values
    assert f"{weights[0][5]:.4g}" in text
    assert "A stripe: spin" in text
    assert all(text.count(one.title) >= 3 for one in heads().maps), "in both pictures, and above its table"


def test_maps_with_too_many_cells_for_tables_are_named_as_left_out(tmp_path: Path) -> None:
    large = Map(title="large", values=tuple(tuple(float(row * column) for column in range(50)) for row in range(50)))
    row = MapRow(title="two", maps=(large, large.but(title="second")))
    text = " ".join(_page(example().but(figures=(row,)), tmp_path).text.split())
    assert "1 of 2 maps have too many cells for this page; report.json has them." in text


def test_only_a_page_with_maps_has_their_dark_colours(tmp_path: Path) -> None:
    for report, expected in ((example(), False), (example().but(figures=(stripes(),)), True)):
        write_page(report, lineage(), tmp_path / "report.html")
        assert (".ramp-s0{fill:" in (tmp_path / "report.html").read_text()) is expected


@pytest.mark.parametrize(
    "curves", [(), (Curve(label="one point", x=(3,), y=(0.5,)),), (Curve(label="none", x=(), y=()),)]
)
def test_a_figure_with_little_in_it_is_drawn(curves: tuple[Curve, ...], tmp_path: Path) -> None:
    figure = Figure(title="little", x_label="x", y_label="y", curves=curves)
    page = _page(Report(workload="relay", title="t", summary="s", metrics={}, figures=(figure,)), tmp_path)
    assert "nan" not in page.text.lower()
    assert any(tag == "svg" for tag, _ in page.tags)
