"""Tokens with a colour each: the scale that a sample's lines share, and what the page says without colours."""

import colorsys
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.ramps import LEVELS, contrast
from infra.report_page import write_page
from infra.token_lines import legend, shown_tokens, token_numbers, tone_rules
from models.common.report import Report, Sample, SampleLine, TokenLine
from tests.fixtures.reports import example, lineage, rewarded_sample, right_sample


def _line(*values: float) -> TokenLine:
    return TokenLine(label="line", tokens=tuple(f"t{place}" for place in range(len(values))), values=values)


def _page(tmp_path: Path, *samples: Sample) -> str:
    report = example().but(samples=[sample.model_dump() for sample in samples])
    write_page(report, lineage(), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_one_scale_symmetric_about_zero_serves_all_lines_of_a_sample() -> None:
    lines = (_line(0.0, 0.2), _line(-0.4, 0.4))
    sample = Sample(title="t", lines=lines)
    levels = [[token.level for token in shown_tokens(sample, line)] for line in lines]
    middle = (LEVELS - 1) // 2
    assert levels == [[middle, middle + middle // 2], [0, LEVELS - 1]]


def test_values_beyond_the_scale_take_its_end_and_the_legend_says_so() -> None:
    sample = Sample(title="t", lines=(_line(-3.0, -0.5, 1.0),), most=1.0, token_values="nats")
    levels = [token.level for token in shown_tokens(sample, sample.lines[0])]  # pyright: ignore[reportArgumentType]
    assert levels == [0, (LEVELS - 1) // 4, LEVELS - 1]
    scale = legend(sample)
    assert scale is not None
    assert (scale.low, scale.high, scale.unit) == ("≤ −1", "+1", "nats")


def test_lines_of_zeros_are_in_the_colour_of_zero() -> None:
    sample = Sample(title="t", lines=(_line(0.0, 0.0),))
    assert {token.level for token in shown_tokens(sample, _line(0.0, 0.0))} == {(LEVELS - 1) // 2}


def test_a_sample_without_values_has_no_legend() -> None:
    assert legend(right_sample()) is None
    assert legend(Sample(title="t", lines=(_line(),))) is None


def test_each_token_needs_a_finite_value() -> None:
    with pytest.raises(ValidationError, match="2 tokens and 1 values; give each token its value"):
        TokenLine(label="l", tokens=("a", "b"), values=(1.0,))
    with pytest.raises(ValidationError, match="finite"):
        TokenLine(label="l", tokens=("a",), values=(float("nan"),))


def test_a_sample_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    report = Report(workload="rto", title="t", summary="s", metrics={}, samples=(rewarded_sample(), right_sample()))
    report.write(tmp_path)
    assert Report.read(tmp_path) == report
    assert isinstance(Report.read(tmp_path).samples[0].lines[1], TokenLine)
    assert isinstance(Report.read(tmp_path).samples[1].lines[1], SampleLine)


def test_ink_is_legible_on_every_tone() -> None:
    for dark in (False, True):
        tones = re.findall(r"background:(#\w+);color:(#\w+)", tone_rules(dark=dark))
        assert len(tones) == LEVELS
        assert min(contrast(ground, ink) for ground, ink in tones) >= 4.5


def test_both_ends_differ_in_hue_and_match_in_lightness() -> None:
    for dark in (False, True):
        grounds = re.findall(r"background:#(\w+)", tone_rules(dark=dark))
        low, high = (
            colorsys.rgb_to_hls(*(channel / 255 for channel in bytes.fromhex(g))) for g in (grounds[0], grounds[-1])
        )
        assert abs(low[0] - high[0]) > 0.3
        assert abs(low[1] - high[1]) < 0.1


def test_the_page_says_each_value_and_its_sign_without_colour(tmp_path: Path) -> None:
    page = _page(tmp_path, rewarded_sample())
    tokens = re.findall(r'<span class="token tone-\d+( below)?" title="([^"]*)">([^<]*)</span>', page)
    values = [value for line in rewarded_sample().lines if isinstance(line, TokenLine) for value in line.values]
    assert [float(told.replace("−", "-")) for _, told, _ in tokens] == pytest.approx(values, abs=5e-4)
    assert [bool(below) for below, _, _ in tokens] == [value < 0 for value in values]
    assert "token reward, in nats; below 0 underlined" in page


def test_numbers_stand_in_a_table_for_each_line(tmp_path: Path) -> None:
    before, after = token_numbers(rewarded_sample())
    assert (before.title, after.title) == ("before", "after")
    assert before.rows[6][1] == r"'.\n'"
    assert before.rows[-1] == ("11", "'<end>'", "−0.31")
    assert "−0.31" in _page(tmp_path, rewarded_sample())


def test_a_very_long_line_names_what_its_table_leaves_out() -> None:
    (table,) = token_numbers(Sample(title="t", lines=(_line(*[0.1] * 1200),)))
    assert len(table.rows) == 1000
    assert table.caption == "200 more tokens; report.json has them."


def test_no_token_becomes_markup_and_no_line_break_is_lost(tmp_path: Path) -> None:
    line = TokenLine(label="<b>", tokens=("<script>", "\n", ""), values=(1.0, -1.0, 0.0))
    page = _page(tmp_path, Sample(title="t", lines=(line,)))
    assert "<script>" not in page
    assert "&lt;script&gt;</span>" in page
    assert "↵\n</span>" in page
    assert "∅</span>" in page


def test_only_a_page_with_coloured_tokens_has_their_styles(tmp_path: Path) -> None:
    assert ".tone-0{" in _page(tmp_path, rewarded_sample())
    assert ".tone-0{" not in _page(tmp_path, right_sample())
