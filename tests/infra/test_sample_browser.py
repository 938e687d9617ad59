"""Samples to choose from: every choice shows its own samples and no others, by style rules alone."""

import itertools
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.report_page import write_page
from models.common.report import Report, Sample, SampleBrowser, SampleLine, SampleOfKind
from tests.fixtures.reports import example, lineage, rewarded_sample

HOSTILE = "</style><script>alert('x')</script>"


def _sample(title: str) -> Sample:
    return Sample(title=title, lines=(SampleLine(label="answer", text=f"text of {title}"),))


def _browser(*kinds: tuple[str, ...], facets: tuple[str, ...] = ("length", "written by")) -> SampleBrowser:
    samples = tuple(
        SampleOfKind(values=values, sample=_sample(f"sample {place}")) for place, values in enumerate(kinds)
    )
    return SampleBrowser(title="Chains", facets=facets, samples=samples)


def _page(browser: SampleBrowser, tmp_path: Path) -> str:
    write_page(example().but(browser=browser), lineage(), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


class Browsed:
    """A page as a viewer's style engine sees it: buttons, samples, and the rules that hide them."""

    def __init__(self, page: str) -> None:
        legends = re.findall(r"<fieldset><legend>(.*?)</legend>(.*?)</fieldset>", page, re.DOTALL)
        self.choices = {
            legend: dict(re.findall(r'id="([^"]+)"[^>]*><span>(.*?)</span>', buttons)) for legend, buttons in legends
        }
        self.checked = re.findall(r'id="([^"]+)" checked', page)
        self.samples = {
            title: set(classes.split())
            for classes, title in re.findall(
                r'<details class="([^"]*of-kind[^"]*)"[^>]*><summary>(.*?)</summary>', page
            )
        }
        rules = re.search(r"@supports selector\(:has\(\*\)\)\{(.*)\}$", page, re.MULTILINE)
        assert rules
        self.hiding = re.findall(r"\.browser((?::has\(#[\w-]+:checked\))*) ([\w.:()-]+)\{display:none\}", rules[1])

    def shown(self, chosen: tuple[str, ...]) -> tuple[list[str], bool]:
        """The titles of the samples that this choice of buttons shows, and whether it says that there is none."""
        holding = [
            target for conditions, target in self.hiding if set(re.findall(r"#([\w-]+)", conditions)) <= set(chosen)
        ]
        unfit = {match[1] for target in holding if (match := re.fullmatch(r"\.of-kind:not\(\.([\w-]+)\)", target))}
        return [title for title, has in self.samples.items() if unfit <= has], ".no-sample" not in holding


def test_each_choice_shows_the_samples_of_its_values_and_no_others(tmp_path: Path) -> None:
    kinds = [("5", "teacher"), ("5", "student"), ("8", "teacher"), ("5", "teacher"), ("10", "student")]
    browsed = Browsed(_page(_browser(*kinds), tmp_path))
    assert [list(buttons.values()) for buttons in browsed.choices.values()] == [
        ["5", "8", "10"],
        ["teacher", "student"],
    ]
    for chosen in itertools.product(*browsed.choices.values()):
        values = tuple(buttons[name] for buttons, name in zip(browsed.choices.values(), chosen, strict=True))
        expected = [f"sample {place}" for place, kind in enumerate(kinds) if kind == values]
        assert browsed.shown(chosen) == (expected, not expected)


def test_the_page_opens_with_the_kind_of_the_first_sample(tmp_path: Path) -> None:
    browsed = Browsed(_page(_browser(("8", "student"), ("5", "student"), ("5", "teacher")), tmp_path))
    assert browsed.shown(tuple(browsed.checked)) == (["sample 0"], False)


def test_what_is_alike_in_all_samples_is_no_choice(tmp_path: Path) -> None:
    browsed = Browsed(_page(_browser(("5", "student"), ("5", "teacher")), tmp_path))
    assert list(browsed.choices) == ["written by"]
    alone = _page(_browser(("5", "student")), tmp_path)
    assert "<fieldset>" not in alone
    assert Browsed(alone).shown(()) == (["sample 0"], False)


def test_without_the_rules_every_sample_is_there_and_can_be_opened(tmp_path: Path) -> None:
    page = _page(_browser(("5", "teacher"), ("8", "teacher"), ("8", "teacher")), tmp_path)
    assert re.findall(r"<details class=\"card of-kind [^\"]*\"( open)?>", page) == [" open", " open", ""]
    assert all(f"text of sample {place}" in page for place in range(3))
    assert ".choose, .no-sample { display: none; }" in page.split("@supports")[0], "no choice that would do nothing"


def test_no_text_of_a_browser_becomes_markup_or_style(tmp_path: Path) -> None:
    browser = SampleBrowser(
        title=HOSTILE,
        caption=HOSTILE,
        facets=(HOSTILE,),
        samples=tuple(SampleOfKind(values=(value,), sample=_sample(HOSTILE)) for value in (HOSTILE, "plain")),
    )
    page = _page(browser, tmp_path)
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert page.count("&lt;script&gt;") >= 6


def test_tokens_with_values_are_coloured_in_a_browser_too(tmp_path: Path) -> None:
    browser = SampleBrowser(
        title="Responses", facets=("run",), samples=(SampleOfKind(values=("1",), sample=rewarded_sample()),)
    )
    page = _page(browser, tmp_path)
    assert ".tone-0{" in page
    assert "token reward, in nats; below 0 underlined" in page


def test_a_report_without_a_browser_has_no_trace_of_one(tmp_path: Path) -> None:
    write_page(example(), lineage(), tmp_path / "report.html")
    assert "of-kind" not in (tmp_path / "report.html").read_text()


def test_each_sample_has_a_value_for_each_facet() -> None:
    with pytest.raises(
        ValidationError, match="sample 'sample 0' has 1 values for 2 facets; give one for each of length"
    ):
        _browser(("5",))


def test_a_browser_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    report = example().but(browser=_browser(("5", "teacher"), ("8", "student")))
    report.write(tmp_path)
    assert Report.read(tmp_path) == report
