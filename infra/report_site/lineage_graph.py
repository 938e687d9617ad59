"""Where versions come from, as a graph: code and inputs on the left, what was made of them on the right."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from infra.artifacts import Version
from infra.report_site.library import Facts

_DATASET = re.compile(r".+-[0-9a-f]{12}")  # as `infra.datasets.dataset_folder` names them
_LETTERS = 10  # of a hash


@dataclass(frozen=True)
class Node:
    """One box: what it is called, a line below, all that is known of it, and the version that it stands for."""

    key: str
    kind: Literal["code", "data", "stage", "version"]
    title: str
    note: str
    told: str
    version: Version | None = None
    marked: bool = False


@dataclass(frozen=True)
class Graph:
    """Boxes in the order in which they are to be drawn, and which of them was made with which, by their keys."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    def of_kind(self, *kinds: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.kind in kinds)


def graph_of(facts: Sequence[Facts], centre: Version | None = None) -> Graph:
    """The graph of these versions, in their order, with datasets and whatever several versions were made of.

    centre: the version that it is about; of it, also the stages that no other has are drawn. An input that is another
    of the versions is an edge between both, and so is the champion that a retrained version was compared with.
    """
    specs = {each.spec for each in facts}
    made = {sha256: _key(each) for each in facts for sha256 in _hashes(each)}
    shared = Counter(sha256 for each in facts for sha256 in set(_inputs(each).values()))
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], None] = {}
    for each in facts:
        own = 0
        if (champion := _champion_before(each)) in specs:
            edges[f"version {champion}", _key(each)] = None
        if code := _code(each):
            nodes.setdefault(code.key, code)
            edges[code.key, _key(each)] = None
        for name, sha256 in _inputs(each).items():
            if made.get(sha256, _key(each)) != _key(each):
                edges[made[sha256], _key(each)] = None
            elif each.version == centre or shared[sha256] > 1 or _DATASET.fullmatch(name):
                nodes.setdefault(sha256, _input(name, sha256))
                edges[sha256, _key(each)] = None
            else:
                own += 1
        nodes[_key(each)] = _version(each, own, marked=each.version == centre)
    return Graph(tuple(nodes.values()), tuple(edges))


def relatives(facts: Sequence[Facts], centre: Version) -> list[Facts]:
    """The version, and those that share an input with it, are one, are made with it, or were retrained; in order."""
    mine = next(each for each in facts if each.version == centre)
    hashes = {*_inputs(mine).values(), *_hashes(mine)}

    def is_related(other: Facts) -> bool:
        retrained = other.spec == _champion_before(mine) or mine.spec == _champion_before(other)
        return other is mine or retrained or bool(hashes & {*_inputs(other).values(), *_hashes(other)})

    return [each for each in facts if is_related(each)]


@dataclass(frozen=True)
class Words:
    """What the graph says of one version."""

    version: Version
    code: str
    inputs: tuple[str, ...]
    champion: str  # that it was to be better than, where it was retrained


def words_of(facts: Facts) -> Words:
    """The version's code and inputs, to be read."""
    code = _code(facts)
    told = f"{code.title}{f', {code.note}' if code.note else ''}" if code else ""
    inputs = tuple(f"{name} {sha256[:_LETTERS]}" for name, sha256 in _inputs(facts).items())
    return Words(facts.version, told, inputs, _champion_before(facts))


def _key(facts: Facts) -> str:
    return f"version {facts.spec}"


def _hashes(facts: Facts) -> set[str]:
    """What names this version where it is the input of another: its manifest, or the weights in it."""
    named = (facts.version.sha256, facts.lineage.get("weights_sha256"))
    return {str(value) for value in named if _is_hash(value)}


def _inputs(facts: Facts) -> dict[str, str]:
    """What the version was made of, by name: datasets, stages trained before, versions."""
    parents = facts.lineage.get("parents")
    found = parents if isinstance(parents, dict) else {}
    return {str(name): sha256 for name, sha256 in sorted(found.items()) if _is_hash(sha256)}


def _champion_before(facts: Facts) -> str:
    """The champion that a retrained version was to be better than; empty for any other version."""
    retrain = facts.lineage.get("retrain")
    return str(retrain.get("champion") or "") if isinstance(retrain, dict) else ""


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) > _LETTERS


def _code(facts: Facts) -> Node | None:
    code = facts.lineage.get("code")
    commit = code.get("git_commit") if isinstance(code, dict) else None
    if not isinstance(code, dict) or not isinstance(commit, str):
        return None
    changed, lock = code.get("git_dirty"), code.get("lock_sha256")
    return Node(
        key=f"code {commit} {bool(changed)}",
        kind="code",
        title=commit[:_LETTERS] if " " not in commit else "no git",
        note="with changes" if changed else "",
        told=f"code {commit}{', with uncommitted changes' if changed else ''}; lock {lock or 'unknown'}",
    )


def _input(name: str, sha256: str) -> Node:
    kind = "data" if _DATASET.fullmatch(name) else "stage"
    return Node(sha256, kind, name, sha256[:_LETTERS], f"{name}: {sha256}")


def _version(facts: Facts, own: int, *, marked: bool) -> Node:
    version = facts.version
    told = [version.preset, f"seed {version.seed}" if version.seed is not None else "", ", ".join(version.stages)]
    if facts.problem and not facts.lineage:
        told.append("lineage unknown")
    if own:
        told.append(f"+ {own} stage{'s' * (own > 1)} of its own")
    words = " · ".join(part for part in told if part)
    return Node(_key(facts), "version", facts.spec, words, f"{facts.spec}, {words}", version, marked)
