"""Colours for the values of a map: scales whose lightness runs one way, told apart with few colours, on light and dark.

A colour is one of LEVELS, so that a map of thousands of cells is a few dozen shapes, and the page's style can give a
level another colour where the page is dark: there a value near the scale's low end (or zero, for a diverging scale)
fades into the dark card as it fades into the white one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.common.report import Map, MapRow

LEVELS = 41  # odd, so that zero is a level of its own
_INKS = ("#000000", "#ffffff")  # what is written on a colour; one of them has a contrast of 4.5 on any

# The sequential scale is ColorBrewer's YlGnBu; the diverging one runs from blue to orange, which all eyes tell apart.
_ANCHORS = {
    ("sequential", False): "fbfce4 e4f3bd bfe5b8 7fccbb 45b4c5 2290c0 225ea8 253b92 0c1f5c",
    ("sequential", True): "17222f 1c3253 21487f 2468a6 2a8bb8 45aec0 7fccbb c3e7b9 f7fad0",
    ("diverging", False): "0a2f66 1f62a7 4f97cb 9cc8e4 d8e8f2 f6f6f5 fbe2cf f5b98a e57f3a b84a0d 6e2604",
    ("diverging", True): "c4e2ff 86bdf2 4a90d4 2b659f 223f5f 22282d 553118 914917 cd6e26 f29d5b ffd3ad",
}


@dataclass(frozen=True)
class Scale:
    """How the values of one map, or of several that share it, become colours."""

    kind: str
    low: float
    high: float
    below: bool = False  # whether a value lies beyond this end
    above: bool = False

    def level(self, value: float) -> int:
        """The place of the value's colour, 0 to LEVELS - 1."""
        part = (value - self.low) / (self.high - self.low)
        return round(min(1.0, max(0.0, part)) * (LEVELS - 1))

    @property
    def css_class(self) -> str:
        """The class of a level's colour is this and the level's number."""
        return f"ramp-{self.kind[0]}"


def scale_of(drawing: Map | MapRow) -> Scale:
    """The scale that all cells of the drawing share."""
    maps = drawing.maps if isinstance(drawing, MapRow) else (drawing,)
    values = [value for one in maps for row in one.values for value in row if value is not None] or [0.0]
    low, high = maps[0].value_range or _span(values, maps[0].scale)
    return Scale(maps[0].scale, low, high, below=min(values) < low, above=max(values) > high)


def _span(values: Sequence[float], kind: str) -> tuple[float, float]:
    low, high = min(values), max(values)
    if kind == "diverging":
        most = max(-low, high) or 1.0
        return -most, most
    if low == high:
        return low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    return low, high


def colours(kind: str, *, dark: bool = False) -> tuple[str, ...]:
    """The colour of every level, as "#rrggbb"."""
    anchors = [_parse(anchor) for anchor in _ANCHORS[kind, dark].split()]
    found = []
    for level in range(LEVELS):
        place = level / (LEVELS - 1) * (len(anchors) - 1)
        before = min(int(place), len(anchors) - 2)
        part = place - before
        mixed = [a + part * (b - a) for a, b in zip(anchors[before], anchors[before + 1], strict=True)]
        found.append("#" + "".join(f"{round(channel):02x}" for channel in mixed))
    return tuple(found)


def ink(colour: str) -> str:
    """Black or white, whichever is easier to read on the colour."""
    return max(_INKS, key=lambda candidate: contrast(candidate, colour))


def contrast(one: str, other: str) -> float:
    """The ratio of luminances that WCAG 2.2 defines, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [value / 255 for value in _parse(colour)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _parse(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def dark_rules() -> str:
    """The style rules that give each level its colour, and what is written on it, where the page is dark."""
    rules = []
    for kind in ("sequential", "diverging"):
        for level, colour in enumerate(colours(kind, dark=True)):
            name = f".ramp-{kind[0]}{level}"
            rules.append(f"{name}{{fill:{colour}}}{name} .on{{fill:{ink(colour)}}}")
    return "".join(rules)
