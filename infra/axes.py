"""Axes: the range they span, round ticks, and numbers with as many digits as it takes to tell them apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.common.report import Figure

DIGIT = 7.4  # mean width of a digit at 13 px
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """One axis: the values it spans, where its ticks are, and how a value becomes a pixel."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    begin: float  # pixel of `low`
    end: float  # pixel of `high`

    def __call__(self, value: float) -> float:
        if self.log and value <= 0:
            return self.begin - (self.end - self.begin)  # as far below the axis as it is long: cut off there
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    @property
    def texts(self) -> tuple[str, ...]:
        return tick_texts(self.ticks, log=self.log)


def make_axes(figure: Figure, width: float, top: float, bottom: float) -> tuple[Axis, Axis]:
    """The x and the y axis of a figure that is `width` pixels wide, with room for their numbers."""
    y_low, y_high, y_log = y_span(figure)
    y_axis = Axis(y_low, y_high, y_log, _ticks(y_low, y_high, 6, log=y_log), bottom, top)
    left = max(58.0, 34 + DIGIT * max((len(text) for text in y_axis.texts), default=0))
    return _x_axis(figure, left, width, most=max(3, int((width - 14 - left) / 70))), y_axis


def _x_axis(figure: Figure, left: float, width: float, most: int) -> Axis:
    """The x axis with at most so many ticks, and fewer where their numbers would touch."""
    low, high, log = x_span(figure)
    ticks = _ticks(low, high, most, log=log)
    widest = DIGIT * max((len(text) for text in tick_texts(ticks, log=log)), default=0)
    axis = Axis(low, high, log, ticks, left, width - max(14.0, widest / 2 + 2))
    places = [axis(tick) for tick in ticks]
    crowded = any(after - before < widest + 12 for before, after in pairwise(places))
    return _x_axis(figure, left, width, most - 1) if crowded and most > 2 else axis


def x_span(figure: Figure) -> tuple[float, float, bool]:
    """The lowest and the highest x, and whether the axis is logarithmic."""
    if figure.x_range:
        return *figure.x_range, figure.log_x
    xs = [x for curve in figure.curves for x in curve.x] + list(figure.shaded or ())
    log = figure.log_x and bool(xs)
    apart = any(curve.style == "points" for curve in figure.curves)
    low, high = _padded(min(xs, default=0.0), max(xs, default=1.0), 0.02 if apart else 0.0, log=log)
    return low, high, log


def y_span(figure: Figure) -> tuple[float, float, bool]:
    """The lowest and the highest y with a little room, and whether the axis is logarithmic."""
    ys = [y for curve in figure.curves for values in (curve.y, curve.low, curve.high) for y in values]
    ys += [level.value + error for level in figure.levels for error in (-level.error, level.error)]
    ys = [y for y in ys if y > 0 or not figure.log_y]
    log = figure.log_y and bool(ys)
    if figure.y_range and not (log and figure.y_range[0] <= 0):
        return *figure.y_range, log
    low, high = _padded(min(ys, default=0.0), max(ys, default=1.0), 0.05, log=log)
    return low, high, log


def _padded(low: float, high: float, part: float, *, log: bool) -> tuple[float, float]:
    if log:
        factor = (high / low) ** part if high > low else 2.0
        return low / factor, high * factor
    if high == low:
        room = 0.5 if abs(low) < 1e6 else 0.5e-6 * abs(low)
        return low - room, high + room
    return low - part * (high - low), high + part * (high - low)


def _ticks(low: float, high: float, most: int, *, log: bool) -> tuple[float, ...]:
    values = _log_ticks(low, high, most) if log else ()
    return values if len(values) > 2 else round_ticks(low, high, most)


def round_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Round values between low and high: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * power for step in (1, 2, 5, 10) if (high - low) / (step * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{number * step:.15g}") for number in range(first, last + 1))


def _log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Powers of ten between low and high, at most so many; with 2 and 5 times them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = math.floor(math.log10(high) + 1e-9) - math.ceil(math.log10(low) - 1e-9) + 1
    stride = -(-powers // most) if powers > 2 else 1
    decades = [decade for decade in range(first, last + 1) if decade % stride == 0]
    multiples = (1,) if powers > 2 else (1, 2, 5)
    values = [float(f"{multiple}e{decade}") for decade in decades for multiple in multiples]
    return tuple(value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))


def tick_texts(ticks: Sequence[float], *, log: bool = False) -> tuple[str, ...]:
    """Ticks as text: all with the decimals that tell neighbours apart, or as powers of ten."""
    if len(ticks) < 2:
        return tuple(number_text(tick, 6) for tick in ticks)
    if log and any(after > 1.9 * before for before, after in pairwise(ticks)):
        plain = all(1e-3 <= tick < 1e5 for tick in ticks)
        return tuple(f"{tick:g}" if plain else _scientific(tick, 0) for tick in ticks)
    step, largest = ticks[1] - ticks[0], max(abs(tick) for tick in ticks)
    power = math.floor(math.log10(step) + 1e-9)
    if largest >= 1e7 or largest < 1e-3:
        return tuple(_scientific(tick, max(0, math.floor(math.log10(largest) + 1e-9) - power)) for tick in ticks)
    return tuple(f"{tick:.{max(0, -power)}f}".replace("-", "−") for tick in ticks)


def _scientific(value: float, decimals: int) -> str:
    """Such as 2·10⁻⁵, or 10⁻⁵ where the factor is 1."""
    if value == 0:
        return "0"
    factor, power = f"{value:.{decimals}e}".split("e")
    ten = "10" + str(int(power)).translate(_SUPERSCRIPT)
    return ten if factor == "1" else f"{factor.replace('-', '−')}·{ten}"


def number_text(value: float, significant: int) -> str:
    """The value as text with so many significant digits, and with a true minus sign."""
    return f"{value:.{significant}g}".replace("-", "−")


def digits(values: Sequence[float], least: int = 4) -> int:
    """Significant digits that leave `least` of them for the differences between the values."""
    spread = max(values, default=0.0) - min(values, default=0.0)
    largest = max((abs(value) for value in values), default=0.0)
    if not spread:
        return max(least, 6)
    return min(15, least + max(0, math.floor(math.log10(largest / spread))))
