"""The pages of the site: what each one shows, as HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from infra import git
from infra.artifacts import Version
from infra.page_parts import rendered, shown_figure, style_of
from infra.report_site.comparison import Pair, compare
from infra.report_site.library import Facts, Library, Listing
from infra.report_site.lineage_graph import graph_of, relatives, words_of
from infra.report_site.lineage_svg import draw_lineage
from infra.settings import settings
from models.common.errors import RegistryError
from models.common.report import Drawing

Query = Mapping[str, str]

_MOST_ROWS = 200  # of the index
_MOST_DRAWN = 30  # versions of one lineage graph


@dataclass(frozen=True)
class Link:
    text: str
    address: str
    current: bool = False


def index_page(library: Library, query: Query) -> bytes:
    """All versions, or those that fit `q` and `name`, newest first."""
    listing = library.listing()
    name, words = query.get("name", ""), query.get("q", "").strip()
    fitting = [each for each in listing.versions if name in ("", each.name) and fits(each, words)]
    shown, paging = _paged(fitting, query, "/", _MOST_ROWS)
    many = len(listing.versions)
    return _page(
        "index.html.jinja",
        "All versions" if many != 1 else "One version",
        listing=listing,
        name=name,
        query=words,
        chips=_chips(listing, "/", name, {"q": words} if words else {}),
        shown=shown,
        **paging,
    )


def fits(version: Version, words: str) -> bool:
    """Whether all words are in what the registry says of the version; "seed=2" and "preset=tiny" are exact."""
    marks = {f"seed={version.seed}", f"preset={version.preset}", *(f"stage={stage}" for stage in version.stages)}
    spec = f"{version.name}@{version.version}"
    told = (spec, *version.stages, version.preset, version.run_key, version.summary, version.published, version.commit)
    text = " ".join(told).casefold()
    return all(word in marks or word in text for word in words.casefold().split())


def report_page(library: Library, version: Version) -> bytes:
    """The version's own page, with a bar above that leads to the others; nothing else of it is changed."""
    page = library.page(version)
    spec = quote(f"{version.name}@{version.version}", safe="@")
    other = _beside(library.listing(), version)
    links = [Link("Orchard reports", "/"), Link("Lineage", f"/lineage?of={spec}")]
    if other:
        links.append(Link(f"Compare with {other.version}", f"/compare?a={other.name}@{other.version}&b={spec}"))
    style = rendered("report_site/bar.css.jinja")
    bar = rendered("report_site/bar.html.jinja", links=links)
    head, found, rest = page.partition(b"</head>\n<body>\n")
    if not found:
        return page  # somebody else's page: shown as it is
    return b"".join((head, b"<style>", style.encode(), b"</style>\n</head>\n<body>\n", bar.encode(), rest))


def _beside(listing: Listing, version: Version) -> Version | None:
    """What one would compare the version with: the champion, or else the one registered before it."""
    named = listing.named(version.name)
    champion = next((each for each in named if "champion" in each.stages), None)
    if champion and champion != version:
        return champion
    older = [each for each in named if each.published <= version.published and each != version]
    return older[0] if older else None


def comparison_page(library: Library, query: Query) -> bytes:
    """Two versions side by side, or what there is to choose from. Raises RegistryError for one that does not exist."""
    listing = library.listing()
    asked = [query.get(side, "").strip() for side in ("a", "b")]
    chosen = [library.find(spec) if spec else None for spec in asked]
    specs = [f"{version.name}@{version.version}" if version else "" for version in chosen]
    first, second = chosen
    comparison = compare(library.facts(first), library.facts(second)) if first and second else None
    pairs = comparison.figures if comparison else ()
    return _page(
        "comparison.html.jinja",
        f"{specs[0]} and {specs[1]}" if comparison else "Compare two versions",
        listing=listing,
        first=specs[0],
        second=specs[1],
        comparison=comparison,
        swap=f"/compare?{urlencode({'a': specs[1], 'b': specs[0]}, safe='@')}" if comparison else "",
        pairs=[_shown_pair(pair, place) for place, pair in enumerate(pairs)],
        figures=[figure for pair in pairs for figure in (pair.first, pair.second) if figure is not None],
    )


def _shown_pair(pair: Pair, place: int) -> dict[str, Any]:
    drawn = [
        shown_figure(figure, f"figure-{place}-{side}", wide=False) if figure else None
        for side, figure in (("a", pair.first), ("b", pair.second))
    ]
    return {"title": pair.title, "first": drawn[0], "second": drawn[1]}


def lineage_page(library: Library, query: Query) -> bytes:
    """The graph of one version and its relatives (`of`), of one name's versions (`name`), or of all."""
    listing = library.listing()
    name, of = query.get("name", ""), query.get("of", "").strip()
    centre = library.find(of) if of else None
    paging: dict[str, Any] = {"newer": "", "older": "", "place": ""}
    if centre:
        facts = relatives(library.lineages(listing.versions), centre)
        shown = _around(facts, centre)
        more = f" {len(facts) - len(shown)} more are not drawn." if len(shown) < len(facts) else ""
        told = f"What it was made of, and which versions share that with it.{more}"
    else:
        fitting = [each for each in listing.versions if name in ("", each.name)]
        versions, paging = _paged(fitting, query, "/lineage", _MOST_DRAWN)
        shown = library.lineages(versions)
        told = "Which code and which data each version was made of. Newest first."
    title = f"Lineage of {centre.name}@{centre.version}" if centre else f"Lineage{f' of {name}' if name else ''}"
    graph = draw_lineage(graph_of(shown, centre))
    return _page(
        "lineage.html.jinja",
        title,
        listing=listing,
        told=told,
        chips=_chips(listing, "/lineage", None if centre else name, {}),
        graph=_trusted(graph) if shown else None,
        problems=[each.trouble.partition("\n")[0] for each in shown if not each.lineage],
        words=[words_of(each) for each in shown],
        **paging,
    )


def _around(facts: list[Facts], centre: Version) -> list[Facts]:
    """As many as can be drawn, with the centre among them."""
    place = next(place for place, each in enumerate(facts) if each.version == centre)
    begin = max(0, min(place - _MOST_DRAWN // 2, len(facts) - _MOST_DRAWN))
    return facts[begin : begin + _MOST_DRAWN]


def problem_page(title: str, problem: str, version: Version | None = None) -> bytes:
    """What went wrong, and what the registry says of the version that it went wrong with."""
    known: dict[str, Any] = {}
    if version:
        known = {
            "name": version.name,
            "version": version.version,
            "stages": ", ".join(version.stages) or "none",
            "published": version.published,
            "run": version.run_key or "none: it was registered by other means",
            "preset": version.preset or "none",
            "what it found": version.summary or "–",
            "manifest's SHA-256": version.sha256 or "none",
            "commit of the registry": version.commit,
        }
    return _page("problem.html.jinja", title, problem=problem, version=version, known=known)


def _page(template: str, title: str, figures: Sequence[Drawing] = (), **values: Any) -> bytes:
    links = [
        Link("Orchard reports", "/"),
        Link("Versions", "/"),
        Link("Compare", "/compare"),
        Link("Lineage", "/lineage"),
    ]
    style = {"browser": None, "tones": ("", ""), **style_of(figures)}
    page = rendered(
        f"report_site/{template}",
        title=title,
        links=links,
        registry=git.hide_secrets(settings().registry),
        **style,
        **values,
    )
    return page.encode()


def _chips(listing: Listing, path: str, name: str | None, kept: dict[str, str]) -> list[Link]:
    """A link for each artifact's name, and one for all."""
    counts = Counter(version.name for version in listing.versions)
    every = Link(f"all {len(listing.versions)}", _address(path, kept), current=name == "")
    return [
        every,
        *(
            Link(f"{each} {count}", _address(path, {"name": each, **kept}), current=name == each)
            for each, count in sorted(counts.items())
        ),
    ]


def _address(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _paged(versions: list[Version], query: Query, path: str, most: int) -> tuple[list[Version], dict[str, Any]]:
    """The versions of the page that the query asks for, and where newer and older ones are."""
    asked = query.get("page", "1")
    if not asked.isdecimal() or len(asked) > 6:
        raise RegistryError(f"there is no page '{asked}'\nfits: a number from 1\nuse the links below the list")
    last = max(1, -(-len(versions) // most))
    page = min(max(int(asked), 1), last)
    kept = {key: value for key, value in query.items() if key in ("name", "q") and value}

    def at(number: int) -> str:
        return _address(path, {**kept, "page": str(number)}) if 1 <= number <= last else ""

    begin = (page - 1) * most
    shown = versions[begin : begin + most]
    place = f"{begin + 1}–{begin + len(shown)} of {len(versions)}" if shown else ""
    return shown, {"newer": at(page - 1), "older": at(page + 1), "place": place}


def _trusted(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 it escapes its texts
