"""Two students on the same problems: whose chains are right, at the lengths that were trained on and labelled."""

# P problems   L tokens of a problem

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.contest import HELD_OUT, SIDES, Contest, paired, part_of, read_version
from models.common.contract import World
from models.common.errors import ConfigError
from models.common.weights import load_weights
from models.relay.contest_config import RelayContest
from models.relay.network import Decoder, read_student
from models.relay.problems import Group, Problems, chosen_tests, fingerprints
from models.relay.streams import CONTEST, TESTS
from models.relay.study import chains_of_student
from models.relay.task import Tokens, exact_matches

Array = NDArray[np.float64]


def shards(config: RelayContest, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each group that is trained on or labelled, the longest problems first."""
    problems = Problems.read(inputs[HELD_OUT])
    groups = sorted((*problems.train, *problems.label), key=lambda group: (-problems.loops(group), group))
    return [{"task": group.task, "length": group.length} for group in groups]


def process(config: RelayContest, shard: dict[str, Any], world: World) -> Array:
    """Whether each chain was right, 1 or 0, of candidate and champion (2, P): both write after the same problems."""
    group, problems = Group(shard["task"], shard["length"]), Problems.read(world.inputs[HELD_OUT])
    items_PL = held_out_problems(config, problems, group, world.inputs)
    asked = Problems(problems.data, {group: items_PL})
    right_PW = problems.solutions(group, items_PL)
    found = []
    for side in SIDES:
        student = _student(side, world, len(problems.vocabulary))
        written_PW = chains_of_student(student, asked, group)
        found.append(exact_matches(written_PW, right_PW))
    return np.array(found, float)


def collect(config: RelayContest, parts: Sequence[Array], inputs: Mapping[str, Path], folder: Path) -> None:
    """Writes who won; each problem counts alike."""
    candidate_P, champion_P = np.concatenate(parts, axis=1).tolist()
    scores = paired(candidate_P, champion_P)
    Contest(
        metric="whole chains right, trained and labelled lengths",
        items=len(candidate_P),
        margin=config.margin,
        **scores._asdict(),
    ).write(folder)


def held_out_problems(config: RelayContest, problems: Problems, group: Group, inputs: Mapping[str, Path]) -> Tokens:
    """The problems of a group (P, L) that both students write after.

    New ones by the contest's seed. But training goes through most problems of a short length, and so it does wherever
    a task has few: there they are the tests that both versions set aside, as far as they set aside the same.
    """
    anew = problems.data.but(seed=config.seed, tests_per_length=config.problems_per_length)
    new_PL = chosen_tests(anew, group, CONTEST)
    if group in problems.label and len(new_PL) == config.problems_per_length:
        return new_PL
    candidates_PL, champions_PL = (_tests_of(inputs[side], problems, group) for side in SIDES)
    common_PL = candidates_PL[np.isin(fingerprints(candidates_PL), fingerprints(champions_PL))]
    common_PL = common_PL[: config.problems_per_length]
    return common_PL if len(common_PL) > 1 else new_PL


def _tests_of(version: Path, problems: Problems, group: Group) -> Tokens:
    """The test problems that a version was not trained on; the tasks are those of `problems`, whose files are here."""
    config = read_version(version)
    own = {name: part_of(config, f"data.{name}", int) for name in ("seed", "tests_per_length")}
    return chosen_tests(problems.data.but(**own), group, TESTS)


def _student(side: str, world: World, vocabulary: int) -> Decoder:
    """Raises ConfigError for a student of other tokens, as after a user's task was rewritten."""
    tokens = len(load_weights(world.inputs[side])["embedding.weight"])
    if tokens != vocabulary:
        raise ConfigError(
            f"the {side} knows {tokens} tokens, and the tasks have {vocabulary}: it was trained on other symbols\n"
            "fits: versions of the same tasks; promote the first version of a changed task by hand"
        )
    return read_student(world.inputs[side], vocabulary, world.device)
