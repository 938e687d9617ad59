"""The lineage graph as SVG: three columns of boxes, with lines from what was used to what was made of it."""

from html import escape
from urllib.parse import quote

from infra.report_site.lineage_graph import Graph, Node
from infra.svg_maps import cut

WIDTH = 860
_INPUTS, _VERSIONS = (220, 220), (540, 290)  # where a column begins, and its width
_COLUMNS = {"code": (4, 130), "data": _INPUTS, "stage": _INPUTS, "version": _VERSIONS}
_HEADINGS = {("code",): "Code", ("data", "stage"): "Data, and stages trained before", ("version",): "Versions"}
_TOP, _BOX = 34, 42
_STEP = _BOX + 12  # from one box to the next
_LETTER, _SMALL = 7.3, 6.3  # mean width of a letter of the title, and of the line below it


def draw_lineage(graph: Graph) -> str:
    """An `<svg>` element without a namespace, as HTML takes it; versions are links to their pages."""
    tops = _places(graph)
    height = max(tops.values(), default=_TOP) + _STEP + 4
    lines = [_line(graph, tops, begin, end) for begin, end in graph.edges]
    boxes = [_box(node, tops[node.key]) for node in graph.nodes]
    headings = [
        f"<text x='{_COLUMNS[kinds[0]][0]}' y='16' class='heading'>{heading}</text>"
        for kinds, heading in _HEADINGS.items()
        if graph.of_kind(*kinds)
    ]
    return (
        f"<svg viewBox='0 0 {WIDTH} {height:.0f}' width='{WIDTH}' height='{height:.0f}' role='img' "
        "aria-labelledby='graph-title graph-desc' font-size='13' fill='currentColor'>"
        "<title id='graph-title'>Lineage</title>"
        f"<desc id='graph-desc'>{len(graph.of_kind('version'))} versions and what they were made of; "
        f"the table below says the same in words.</desc>{''.join(headings)}{''.join(lines)}{''.join(boxes)}</svg>"
    )


def _places(graph: Graph) -> dict[str, float]:
    """The top of each box: versions in their order, and everything else beside the versions that it went into."""
    tops = {node.key: float(_TOP + place * _STEP) for place, node in enumerate(graph.of_kind("version"))}
    for kinds in (("data", "stage"), ("code",)):
        wanted = {}
        for node in graph.of_kind(*kinds):
            users = [tops[end] for begin, end in graph.edges if begin == node.key]
            wanted[node.key] = sum(users) / len(users)
        tops |= _stacked(wanted)
    return tops


def _stacked(wanted: dict[str, float]) -> dict[str, float]:
    """The tops of one column's boxes, in the order of what is wanted, and near to it without touching."""
    pushed = _pushed(wanted, 0.0)
    too_low = sum(pushed[key] - top for key, top in wanted.items()) / max(len(wanted), 1)
    return _pushed(wanted, too_low)


def _pushed(wanted: dict[str, float], up: float) -> dict[str, float]:
    """Each box so far up from where it is wanted, and then down as far as those above it need."""
    tops: dict[str, float] = {}
    free = float(_TOP)
    for key, top in sorted(wanted.items(), key=lambda each: each[1]):
        tops[key] = max(top - up, free)
        free = tops[key] + _STEP
    return tops


def _line(graph: Graph, tops: dict[str, float], begin: str, end: str) -> str:
    """A line from the right edge of one box to the left edge of another; between versions it bows out on the right."""
    nodes = {node.key: node for node in graph.nodes}
    source, target = nodes[begin], nodes[end]
    y, to_y = tops[begin] + _BOX / 2, tops[end] + _BOX / 2
    near = " near" if target.marked or source.marked else ""
    left, width = _COLUMNS[source.kind]
    if source.kind == "version":
        x = left + width
        path = f"M{x} {y:.1f}C{x + 28} {y:.1f} {x + 28} {to_y:.1f} {x} {to_y:.1f}"
    else:
        x, to_x = left + width, _COLUMNS[target.kind][0]
        middle = (x + to_x) / 2
        path = f"M{x} {y:.1f}C{middle:.0f} {y:.1f} {middle:.0f} {to_y:.1f} {to_x} {to_y:.1f}"
    return f"<path class='edge from-{source.kind}{near}' d='{path}'/>"


def _box(node: Node, top: float) -> str:
    x, width = _COLUMNS[node.kind]
    title = escape(cut(node.title, width - 20, _LETTER))
    note = escape(cut(node.note, width - 20, _SMALL))
    y = top + (18 if note else 26)
    inner = (
        f"<title>{escape(node.told)}</title>"
        f"<rect x='{x}' y='{top:.1f}' width='{width}' height='{_BOX}' rx='7'/>"
        f"<text x='{x + 10}' y='{y:.1f}' class='title'>{title}</text>"
    )
    if note:
        inner += f"<text x='{x + 10}' y='{top + 34:.1f}' class='note'>{note}</text>"
    box = f"<g class='of-{node.kind}{' marked' * node.marked}'>{inner}</g>"
    if node.version is None:
        return box
    return f"<a href='{quote(f'/{node.version.name}/{node.version.version}/')}'>{box}</a>"
