"""A report as one HTML file that needs nothing else: style and figures inside, no script, no outside address."""

from pathlib import Path
from typing import Any

from infra.page_parts import rendered, shown_figure, style_of
from infra.sample_browser import browser_rules, facets_of, kinds_of
from infra.token_lines import has_tokens, legend, shown_tokens, token_numbers, tone_rules
from models.common.report import Report, Sample, SampleBrowser, TokenLine

_TEMPLATE = "report_page.html.jinja"


def write_page(report: Report, lineage: dict[str, Any], file: Path) -> None:
    """Writes the report and where it comes from into `file`, with every text escaped."""
    from markupsafe import Markup

    page = rendered(
        _TEMPLATE,
        report=report,
        figures=[shown_figure(figure, f"figure-{place}") for place, figure in enumerate(report.figures)],
        samples=[_sample(sample) for sample in report.samples],
        browser=_browser(report.browser) if report.browser else None,
        lineage=lineage,
        # Colours and class names of our own.
        tones=[Markup(tone_rules(dark=dark) if has_tokens(report) else "") for dark in (False, True)],  # noqa: S704
        **style_of(report.figures),
    )
    file.write_text(page, encoding="utf-8")


def _sample(sample: Sample) -> dict[str, Any]:
    """A sample as the template takes it: its lines, each with its coloured tokens where it has values."""
    return {
        "title": sample.title,
        "lines": [(line, shown_tokens(sample, line) if isinstance(line, TokenLine) else None) for line in sample.lines],
        "legend": legend(sample),
        "numbers": token_numbers(sample),
    }


def _browser(browser: SampleBrowser) -> dict[str, Any]:
    """The browser as the template takes it: what can be chosen, its samples, and the rules that show those chosen."""
    from markupsafe import Markup

    return {
        "title": browser.title,
        "caption": browser.caption,
        "facets": facets_of(browser),
        "samples": [
            {"kind": kind, **_sample(each.sample)}
            for kind, each in zip(kinds_of(browser), browser.samples, strict=True)
        ],
        "rules": Markup(browser_rules(browser)),  # noqa: S704 names of our own, no text of the report
    }
