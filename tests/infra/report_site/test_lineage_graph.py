"""The lineage graph says which versions share code and data, and draws boxes that do not touch."""

import re
from itertools import pairwise
from typing import Any

from infra.artifacts import Version
from infra.report_site.library import Facts
from infra.report_site.lineage_graph import graph_of, relatives
from infra.report_site.lineage_svg import draw_lineage

DATA = "plants-0123456789ab"


def facts(number: int, parents: dict[str, str], commit: str = "c" * 40, **told: Any) -> Facts:
    version = Version(
        name="plants", version=f"v0.{number}.0", stages=(), commit="", published="", run_key="", preset="tiny", seed=0,
        summary="", sha256=f"{number:064x}",
    )  # fmt: skip
    return Facts(version, lineage={"code": {"git_commit": commit}, "parents": parents, **told})


def sha256(letter: str) -> str:
    return letter * 64


def test_shared_inputs_are_one_box_and_a_versions_own_are_counted() -> None:
    graph = graph_of(
        [
            facts(3, {"teacher": sha256("a"), "student": sha256("b")}),
            facts(2, {"teacher": sha256("a"), "student": sha256("d")}),
            facts(1, {DATA: sha256("e")}),
        ]
    )
    assert [node.title for node in graph.of_kind("data", "stage")] == ["teacher", DATA]
    assert len(graph.of_kind("code")) == 1
    assert {end for begin, end in graph.edges if begin == sha256("a")} == {
        "version plants@v0.3.0",
        "version plants@v0.2.0",
    }
    assert ["1 stage of its own" in node.note for node in graph.of_kind("version")] == [True, True, False]


def test_of_the_version_in_the_centre_every_input_is_drawn() -> None:
    centre = facts(2, {"teacher": sha256("a"), "student": sha256("b")})
    graph = graph_of([centre, facts(1, {"teacher": sha256("d")})], centre.version)
    assert [node.title for node in graph.of_kind("stage")] == ["student", "teacher"]
    assert [node.marked for node in graph.of_kind("version")] == [True, False]


def test_a_version_made_with_another_or_retrained_after_it_is_joined_to_it() -> None:
    first = facts(1, {}, weights_sha256=sha256("f"))
    start = facts(2, {"start": sha256("f")})
    retrained = facts(3, {}, commit="d" * 40, retrain={"champion": "plants@v0.2.0", "changed": ["code"]})
    graph = graph_of([retrained, start, first])
    assert ("version plants@v0.1.0", "version plants@v0.2.0") in graph.edges
    assert ("version plants@v0.2.0", "version plants@v0.3.0") in graph.edges
    assert [each.version.version for each in relatives([retrained, start, first], start.version)] == [
        "v0.3.0",
        "v0.2.0",
        "v0.1.0",
    ]


def test_changes_that_were_not_committed_are_other_code() -> None:
    dirty = facts(2, {}, code={"git_commit": "c" * 40, "git_dirty": True})
    graph = graph_of([dirty, facts(1, {})])
    assert [node.note for node in graph.of_kind("code")] == ["with changes", ""]


def test_a_lineage_that_is_something_else_is_no_graph_but_a_version() -> None:
    odd = Facts(facts(1, {}).version, lineage={"code": "none", "parents": ["a"], "weights_sha256": 3, "retrain": 1})
    graph = graph_of([odd])
    assert [node.kind for node in graph.nodes] == ["version"]
    assert graph.edges == ()


def test_no_two_boxes_touch() -> None:
    many = [facts(n, {f"stage{n}": sha256(f"{n % 7}"), DATA: sha256(f"{n % 5}"), "x": sha256("e")}) for n in range(30)]
    svg = draw_lineage(graph_of(many))
    boxes = [
        tuple(map(float, box)) for box in re.findall(r"<rect x='(\S+)' y='(\S+)' width='(\S+)' height='(\S+)'", svg)
    ]
    assert len(boxes) > 30 + 5
    for column in {x for x, _, _, _ in boxes}:
        tops = sorted(y for x, y, _, _ in boxes if x == column)
        assert all(after - before >= boxes[0][3] for before, after in pairwise(tops))
    height = float(re.findall(r"viewBox='0 0 \d+ (\d+)'", svg)[0])
    assert max(y + box_height for _, y, _, box_height in boxes) <= height
