"""Samples to choose from by their facets: what the report page needs to show the chosen ones, with no script.

A choice is a radio button, and style rules hide what it does not fit. Where a viewer knows no `:has`, no choice is
offered and all samples are there, folded up.
"""

from dataclasses import dataclass

from models.common.report import SampleBrowser


@dataclass(frozen=True)
class Option:
    """A value that can be chosen: its text, and the id of its button."""

    value: str
    name: str


@dataclass(frozen=True)
class Facet:
    """A facet with more than one value: its text, the name that its buttons share, and what they offer."""

    title: str
    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Kind:
    """What a sample's place in the browser is: the classes that it is chosen by, and whether it is its kind's first."""

    classes: str
    first: bool


def facets_of(browser: SampleBrowser) -> list[Facet]:
    """What can be chosen; a facet that is alike in all samples is no choice."""
    facets = []
    for place, title in enumerate(browser.facets):
        values = _values(browser, place)
        if len(values) > 1:
            options = tuple(Option(value, _option(place, number)) for number, value in enumerate(values))
            facets.append(Facet(title, f"facet-{place}", options))
    return facets


def kinds_of(browser: SampleBrowser) -> list[Kind]:
    """The kind of each sample, in their order."""
    seen: set[tuple[str, ...]] = set()
    kinds = []
    for each in browser.samples:
        kinds.append(Kind(" ".join(f"is-{name}" for name in _names(browser, each.values)), each.values not in seen))
        seen.add(each.values)
    return kinds


def browser_rules(browser: SampleBrowser) -> str:
    """The style rules that hide every sample that is not of the chosen kind, and say so where there is none."""
    rules = [".choose{display:flex}.no-sample{display:block}"]
    for facet in facets_of(browser):
        for option in facet.options:
            rules.append(f".browser:has(#{option.name}:checked) .of-kind:not(.is-{option.name}){{display:none}}")
    for values in dict.fromkeys(each.values for each in browser.samples):
        chosen = "".join(f":has(#{name}:checked)" for name in _names(browser, values))
        rules.append(f".browser{chosen} .no-sample{{display:none}}")
    return f"@supports selector(:has(*)){{{''.join(rules)}}}"


def _values(browser: SampleBrowser, place: int) -> list[str]:
    """The values of a facet, each once, in the order in which the samples bring them."""
    return list(dict.fromkeys(each.values[place] for each in browser.samples))


def _names(browser: SampleBrowser, values: tuple[str, ...]) -> list[str]:
    """The names of the options that these values are, facets without a choice left out."""
    offered = [_values(browser, place) for place in range(len(values))]
    return [
        _option(place, offered[place].index(value)) for place, value in enumerate(values) if len(offered[place]) > 1
    ]


def _option(place: int, number: int) -> str:
    return f"facet-{place}-{number}"
