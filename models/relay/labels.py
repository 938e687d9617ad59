"""The teacher works off new, longer problems, and what it writes becomes the student's data, right or wrong.

So can a student's own chains, or as a control the solver's. Filters may drop labels; the paper has none.
"""

# P problems   L tokens of a problem   W tokens of a label   R tokens of a round   A tokens of an answer

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.common.contract import World
from models.common.errors import ConfigError, DataError
from models.relay import filters
from models.relay.chains import Labels, with_chain
from models.relay.comparison import group_of
from models.relay.config import LabelsConfig
from models.relay.filters import Passed
from models.relay.labels_config import Filter
from models.relay.problems import Group, Problems
from models.relay.streams import LABELS, VOTES
from models.relay.task import EOS, Task, Tokens, exact_matches, stacked

if TYPE_CHECKING:
    from models.relay.network import Decoder, LoopedTransformer

ACCURACY_FILE = "label_accuracy.json"
_ALONE = "alone"  # there, what each filter would keep by itself

Counts = dict[str, int]


def shards(config: LabelsConfig, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Pieces of at most `shard_size` problems, those with the most tokens first.

    Raises ConfigError where lengths, voters or inputs do not go together.
    """
    problems = Problems.read(inputs["problems"])
    _require_writers(config, inputs)
    counts = problems_of(config, problems)
    longest_first = sorted(counts, key=lambda group: (-problems.loops(group) * problems.tests(group).shape[1], group))
    return [
        {"task": group.task, "length": group.length, "first": first, "count": min(config.shard_size, count - first)}
        for group in longest_first
        for count in [counts[group]]
        for first in range(0, count, config.shard_size)
    ]


def problems_of(config: LabelsConfig, problems: Problems) -> dict[Group, int]:
    """How many problems of each group are labelled (table 3).

    Raises ConfigError for a length twice, or not for labels, or where numbers and lengths are not as many.
    """
    counts: dict[Group, int] = {}
    for each in problems.data.tasks:
        name = each.task.name
        lengths = config.lengths.get(name, each.label_lengths)
        of_each = config.problems.get(name, (config.problems_per_length,) * len(lengths))
        if len(set(lengths)) < len(lengths):
            raise ConfigError(f"labels.lengths of {name}: {_listed(lengths)}\nfits: each length once")
        if strange := set(lengths) - set(each.label_lengths):
            raise ConfigError(
                f"labels of {name} at {_listed(strange)}, which the data does not have for labels\n"
                f"fits: {_listed(each.label_lengths)}"
            )
        if len(of_each) != len(lengths):
            raise ConfigError(
                f"{name}: {len(of_each)} numbers of problems for {len(lengths)} lengths; give one for each"
            )
        counts |= {Group(name, length): count for length, count in zip(lengths, of_each, strict=True)}
    return counts


@dataclass(frozen=True)
class Part:
    """What a shard gave: the labels that were kept, in the task's own tokens, and how right all of them were."""

    group: Group
    problems_PL: Tokens
    chains_PW: Tokens
    counts: Counts
    alone: dict[Filter, Counts]  # what each filter would keep if it were the only one


def process(config: LabelsConfig, shard: dict[str, Any], world: World) -> Part:
    """The shard's problems, drawn by the run's seed, and what is kept of the chains written after them."""
    problems = Problems.read(world.inputs["problems"])
    group = Group(shard["task"], shard["length"])
    place = list(problems.tasks).index(group.task)
    stream = [place, group.length, shard["first"]]
    problems_PL = problems.draw(np.random.default_rng([world.seed, LABELS, *stream]), group, shard["count"])
    solved = Solved(
        problems.solutions(group, problems_PL), problems.tasks[group.task].answers(problems_PL, group.length)
    )

    writer = _writer(config, problems, group, world)
    label = writer.write(problems_PL)
    passed = _passed(config, problems, group, label, solved)
    counts = solved.counts(label.chains_PW, np.ones(len(problems_PL), bool), "labels", "right_")
    alone: dict[Filter, Counts] = {
        name: solved.counts(label.chains_PW, passed_P, "kept", "right_") for name, passed_P in passed.items()
    }

    if "votes" in config.filters.kept:
        label, elected_P = _elect(config, writer, problems_PL, [world.seed, VOTES, *stream])
        passed = _passed(config, problems, group, label, solved) | {"votes": elected_P}
        alone["votes"] = solved.counts(label.chains_PW, elected_P, "kept", "right_")
    kept_P = filters.has_own_tokens(label.chains_PW, problems.tasks[group.task])  # others could not be written down
    for name in config.filters.kept:
        kept_P = kept_P & passed.get(name, np.True_)  # a filter that cannot judge this task's labels lets them pass
    counts |= solved.counts(label.chains_PW, kept_P, "kept", "kept_right_")
    return Part(group, problems_PL[kept_P], label.chains_PW[kept_P], counts, alone)


@dataclass(frozen=True)
class Solved:
    """What the solver writes after a shard's problems."""

    solutions_PW: Tokens
    answers_PA: Tokens

    def counts(self, chains_PW: Tokens, among_P: Passed, all_of_them: str, right: str) -> Counts:
        """How many chains are among these, and how many of them have a right answer, and are right altogether."""
        right_answers_P = filters.has_right_answer(chains_PW, self.answers_PA)
        right_chains_P = exact_matches(chains_PW, self.solutions_PW)
        return {
            all_of_them: int(among_P.sum()),
            f"{right}answers": int((right_answers_P & among_P).sum()),
            f"{right}chains": int((right_chains_P & among_P).sum()),
        }


@dataclass(frozen=True)
class Label:
    """Chains as they were written, in the task's own tokens, and how sure of them the writer was."""

    chains_PW: Tokens
    confidence_P: NDArray[np.floating]
    agrees_P: Passed | None = None  # whether the last round says the answer too; None where that cannot be told


class Writer(Protocol):
    """Whoever writes the chains after problems of one group."""

    def write(self, problems_PL: Tokens) -> Label:
        """The label, if there is no vote."""
        ...

    def vote(self, problems_PL: Tokens, voter: int, seed: int) -> Label:
        """What one of the voters writes."""
        ...


def _passed(
    config: LabelsConfig, problems: Problems, group: Group, label: Label, solved: Solved
) -> dict[Filter, Passed]:
    """Which labels pass each filter that can judge them, votes aside."""
    passed: dict[Filter, Passed] = {
        "length": filters.has_right_length(label.chains_PW, problems.tasks[group.task], group.length),
        "right_answer": filters.has_right_answer(label.chains_PW, solved.answers_PA),
    }
    if config.source != "solver":
        passed["confidence"] = filters.is_confident(label.confidence_P, config.filters.least_confidence)
    if label.agrees_P is not None:
        passed["last_round"] = label.agrees_P
    own_P = filters.has_own_tokens(label.chains_PW, problems.tasks[group.task])
    return {name: passed_P & own_P for name, passed_P in passed.items()}


def _elect(config: LabelsConfig, writer: Writer, problems_PL: Tokens, stream: list[int]) -> tuple[Label, Passed]:
    """The label that most voters wrote, and whether enough of them did."""
    voters, row_P = config.filters.voters, np.arange(len(problems_PL))
    seeds = np.random.SeedSequence(stream).generate_state(voters)
    labels = [writer.vote(problems_PL, voter, int(seeds[voter])) for voter in range(voters)]
    chains_VPW = stacked([label.chains_PW for label in labels]).reshape(voters, len(problems_PL), -1)
    voter_P, votes_P = filters.majority(chains_VPW)
    agrees = [label.agrees_P for label in labels if label.agrees_P is not None]
    elected = Label(
        chains_VPW[voter_P, row_P],
        np.stack([label.confidence_P for label in labels])[voter_P, row_P],
        np.stack(agrees)[voter_P, row_P] if agrees else None,
    )
    return elected, filters.is_elected(votes_P, voters, config.filters.least_votes)


def _writer(config: LabelsConfig, problems: Problems, group: Group, world: World) -> Writer:
    from models.relay.network import read_student, read_teacher  # here: the rest of this file needs no torch

    vocabulary = len(problems.vocabulary)
    if config.source == "solver":
        return _Solver(problems, group)
    if config.source == "student":
        return _Student(config, problems, group, read_student(world.inputs["student"], vocabulary, world.device))
    folders = [world.inputs[name] for name in _teachers(world.inputs)]
    return _Teachers(config, problems, group, [read_teacher(folder, vocabulary, world.device) for folder in folders])


@dataclass(frozen=True)
class _Solver:
    problems: Problems
    group: Group

    def write(self, problems_PL: Tokens) -> Label:
        return Label(self.problems.solutions(self.group, problems_PL), np.ones(len(problems_PL)))

    def vote(self, problems_PL: Tokens, voter: int, seed: int) -> Label:
        raise AssertionError("the solver does not vote; FilterConfig.misfit says so")


@dataclass(frozen=True)
class _Student:
    config: LabelsConfig
    problems: Problems
    group: Group
    network: Decoder

    def write(self, problems_PL: Tokens) -> Label:
        return self._write(problems_PL, temperature=0.0, seed=0)

    def vote(self, problems_PL: Tokens, voter: int, seed: int) -> Label:
        return self._write(problems_PL, temperature=self.config.filters.vote_temperature, seed=seed)

    def _write(self, problems_PL: Tokens, *, temperature: float, seed: int) -> Label:
        from models.relay.decoding import room, write_chains

        most = room(self.problems, self.group)
        writing = write_chains(
            self.network, self.problems, self.group, problems_PL, most=most, temperature=temperature, seed=seed
        )
        return Label(writing.written_PW, writing.confidence_P)


@dataclass(frozen=True)
class _Teachers:
    """The teacher, which writes, and others that vote with it, each in its turn."""

    config: LabelsConfig
    problems: Problems
    group: Group
    networks: Sequence[LoopedTransformer]

    def write(self, problems_PL: Tokens) -> Label:
        return self._read(self.networks[0], problems_PL, dropout=0.0, seed=0)

    def vote(self, problems_PL: Tokens, voter: int, seed: int) -> Label:
        network = self.networks[voter % len(self.networks)]
        return self._read(network, problems_PL, dropout=self.config.filters.vote_dropout, seed=seed)

    def _read(self, network: LoopedTransformer, problems_PL: Tokens, *, dropout: float, seed: int) -> Label:
        from models.relay.reading import read_problems

        reading = read_problems(
            network, self.problems, self.group, problems_PL, self.config.reading, dropout=dropout, seed=seed
        )
        task = self.problems.tasks[self.group.task]
        agrees_P = None
        if filters.last_round_tells(task, self._longest_trained(task)):
            agrees_P = filters.agrees_with_last_round(reading.answers_PA, reading.last_rounds(), task)
        return Label(reading.written(task), reading.confidence_P, agrees_P)

    def _longest_trained(self, task: Task) -> int:
        return max(group.length for group in self.problems.train if group.task == task.name)


def _teachers(inputs: Mapping[str, Path]) -> list[str]:
    return ["teacher", *sorted(name for name in inputs if name.startswith("voter_"))]


def _require_writers(config: LabelsConfig, inputs: Mapping[str, Path]) -> None:
    if config.source != "solver" and config.source not in inputs:
        raise ConfigError(
            f"labels of the {config.source}, but the stage was given none\ngive it as input '{config.source}'"
        )
    require_voters(config, len(_teachers(inputs)))


def require_voters(config: LabelsConfig, teachers: int) -> None:
    """Raises ConfigError where there are more voters than teachers, and no dropout by which they could differ."""
    if config.source != "teacher" or "votes" not in config.filters.kept or config.filters.vote_dropout:
        return
    if config.filters.voters > teachers:
        raise ConfigError(
            f"{config.filters.voters} voters, but {teachers} teacher{'s' * (teachers > 1)} without dropout, who would "
            "vote twice alike\nfits: vote_dropout above 0, or as many voters as the inputs teacher, voter_1, .. are"
        )


def collect(config: LabelsConfig, parts: Sequence[Part], inputs: Mapping[str, Path], folder: Path) -> None:
    """Writes the rows that were kept by group, and beside them how many are right, which no training reads.

    Raises DataError where no label at all was kept.
    """
    problems = Problems.read(inputs["problems"])
    accuracy = {group: _accuracy([part for part in parts if part.group == group]) for group in _groups(parts)}
    if not is_any_kept(parts):
        written = sum(counts["labels"] for counts in accuracy.values())
        raise DataError(
            f"none of {written} labels passed the filters {_listed(config.filters.kept)}\n"
            "fits: fewer filters, a lower least_confidence or least_votes, or a writer that is trained longer"
        )
    rows = {}
    for group in _groups([part for part in parts if len(part.problems_PL)]):
        mine = [part for part in parts if part.group == group]
        rows[group] = with_chain(
            problems, group, stacked([part.problems_PL for part in mine]), stacked([part.chains_PW for part in mine])
        )
    Labels(rows, problems.vocabulary).write(folder)
    by_name = {str(group): counts for group, counts in accuracy.items()}
    (folder / ACCURACY_FILE).write_text(json.dumps(by_name, indent=1, sort_keys=True) + "\n")


def is_any_kept(parts: Sequence[Part]) -> bool:
    return any(len(part.problems_PL) for part in parts)


def write_labels(config: LabelsConfig, world: World, inputs: Mapping[str, Path], folder: Path) -> bool:
    """Makes all labels in this process and writes them; whether there were any to write."""
    here = replace(world, inputs=inputs, start_from=None)
    parts = [process(config, shard, here) for shard in shards(config, inputs)]
    if not is_any_kept(parts):
        return False
    folder.mkdir(parents=True)
    collect(config, parts, inputs, folder)
    return True


def read_label_accuracy(folder: Path) -> dict[Group, Counts]:
    """How right a folder's labels are, by group.

    "labels", "right_answers" and "right_chains" count them before the filters, "kept", "kept_right_answers" and
    "kept_right_chains" after.
    """
    return {group: {name: counts[name] for name in counts if name != _ALONE} for group, counts in _read(folder).items()}


def read_filter_accuracy(folder: Path) -> dict[Group, dict[Filter, Counts]]:
    """What each filter would keep if it were the only one: "kept", "right_answers" and "right_chains", by group.

    Of filters that can judge these labels; of votes only where they were taken.
    """
    return {group: counts[_ALONE] for group, counts in _read(folder).items()}


def _read(folder: Path) -> dict[Group, dict[str, Any]]:
    found = json.loads((folder / ACCURACY_FILE).read_text())
    return {group_of(name): counts for name, counts in found.items()}


def _groups(parts: Sequence[Part]) -> list[Group]:
    return sorted({part.group for part in parts})


def _accuracy(parts: Sequence[Part]) -> dict[str, Any]:
    """The counts of a group's shards together."""
    alone = {name: _sum([part.alone[name] for part in parts]) for name in parts[0].alone}
    return {**_sum([part.counts for part in parts]), _ALONE: alone}


def _sum(counts: Sequence[Counts]) -> Counts:
    return {name: sum(each[name] for each in counts) for name in counts[0]}


def _listed(values: Sequence[Any] | set[Any]) -> str:
    return ", ".join(str(value) for value in (sorted(values) if isinstance(values, set) else values)) or "nothing"


def write_made_up_labels(problems_folder: Path, folder: Path) -> Path:
    """Labels of the right form, for a trial of the stages that read them: each chain repeats its problem once."""
    problems = Problems.read(problems_folder)
    folder.mkdir()
    rows = {}
    for group in problems.label:
        problems_PL = problems.draw(np.random.default_rng(group.length), group, 16)
        end_P1 = np.full((len(problems_PL), 1), EOS, np.uint16)
        repeated_PW = np.concatenate([problems_PL, problems_PL[:, :1], end_P1], axis=1)
        rows[group] = with_chain(problems, group, problems_PL, repeated_PW)
    Labels(rows, problems.vocabulary).write(folder)
    return folder
