"""Tokens coloured by a value: what the report page needs to draw the token lines of a sample."""

from collections.abc import Iterable
from dataclasses import dataclass

from infra.axes import digits, number_text
from infra.ramps import LEVELS, Scale, colours, ink
from models.common.report import Report, Sample, Table, TokenLine

_MOST_ROWS = 1000  # of the table of a line's tokens


@dataclass(frozen=True)
class ShownToken:
    """A token as it stands on the page: with what shows a line break, its colour's level and its value in words."""

    text: str
    level: int
    told: str
    below: bool  # below zero: said by an underline too, for whoever does not see the colours


@dataclass(frozen=True)
class TokenScale:
    """The legend of a sample's colours: levels from its low to its high end, and the numbers at both."""

    unit: str
    levels: range
    low: str
    high: str


def token_lines(sample: Sample) -> list[TokenLine]:
    """The lines of the sample that have a value for each token."""
    return [line for line in sample.lines if isinstance(line, TokenLine)]


def has_tokens(report: Report) -> bool:
    return any(token_lines(sample) for sample in report.all_samples)


def legend(sample: Sample) -> TokenScale | None:
    """The scale of the sample's tokens; None where it has none."""
    if not any(line.values for line in token_lines(sample)):
        return None
    scale = _scale(sample)
    low, high = number_text(scale.low, 3), f"+{number_text(scale.high, 3)}"
    return TokenScale(
        unit=sample.token_values,
        levels=range(LEVELS),
        low=f"≤ {low}" if scale.below else low,
        high=f"≥ {high}" if scale.above else high,
    )


def shown_tokens(sample: Sample, line: TokenLine) -> list[ShownToken]:
    """The line's tokens, coloured by the scale that all lines of the sample share."""
    scale = _scale(sample)
    told = _numbers(line.values)
    return [
        ShownToken(text=token.replace("\n", "↵\n") or "∅", level=scale.level(value), told=text, below=value < 0)
        for token, value, text in zip(line.tokens, line.values, told, strict=True)
    ]


def token_numbers(sample: Sample) -> list[Table]:
    """The values of each line as a table, for whoever cannot hover."""
    tables = []
    for line in token_lines(sample):
        shown = list(zip(line.tokens, _numbers(line.values), strict=True))[:_MOST_ROWS]
        left_out = len(line.tokens) - len(shown)
        tables.append(
            Table(
                title=line.label,
                columns=("token", "text", sample.token_values or "value"),
                rows=tuple((str(place), repr(token), value) for place, (token, value) in enumerate(shown, start=1)),
                caption=f"{left_out} more tokens; report.json has them." if left_out else "",
            )
        )
    return tables


def tone_rules(*, dark: bool = False) -> str:
    """The style rules that give each level its colour behind a token, and the ink on it."""
    return "".join(
        f".tone-{level}{{background:{colour};color:{ink(colour)}}}"
        for level, colour in enumerate(colours("diverging", dark=dark))
    )


def _scale(sample: Sample) -> Scale:
    values = [value for line in token_lines(sample) for value in line.values]
    largest = max((abs(value) for value in values), default=0.0)
    most = sample.most or largest or 1.0
    beyond = (min(values, default=0.0) < -most, max(values, default=0.0) > most)
    return Scale("diverging", -most, most, *beyond)


def _numbers(values: Iterable[float]) -> list[str]:
    """Numbers with their signs, in as many digits as tell the values apart."""
    values = list(values)
    significant = min(digits(values, least=3), 6)
    return [("+" if value > 0 else "") + number_text(value, significant) for value in values]
