"""The student's batches: problems with their chains, the solver's within training, labels beyond."""

# B rows of the batch   S positions   P rows of a group   W tokens of a row   N supervised positions

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.contract import World
from models.common.errors import DataError
from models.relay.config import StudentConfig
from models.relay.mixing import Rows, buckets_of, draw_groups
from models.relay.problems import Group, Problems, draw_group
from models.relay.task import EOS, PAD, Task, Tokens, Worked, closed_up, stacked, widened, widths_of
from models.relay.vocabulary import Vocabulary


class ChainRows(NamedTuple):
    """Problems as networks read them, each followed by its chain, answer and EOS; joint tokens, PAD on the right."""

    tokens_PW: Tokens
    asked_P: Rows  # how many of the tokens are the problem

    def take(self, rows: Rows) -> "ChainRows":
        return ChainRows(self.tokens_PW[rows], self.asked_P[rows])


def with_chain(problems: Problems, group: Group, problems_PL: Tokens, written_PW: Tokens) -> ChainRows:
    """Rows of problems and what was written after them, both in the task's own tokens."""
    asked_PL = problems.vocabulary.asked(group.task, problems_PL)
    written_PW = problems.vocabulary.joint(group.task, written_PW)
    return ChainRows(closed_up(np.concatenate([asked_PL, written_PW], axis=1)), widths_of(asked_PL))


class Labels:
    """Rows for longer problems, by group, whoever wrote them."""

    def __init__(self, rows: Mapping[Group, ChainRows], vocabulary: Vocabulary) -> None:
        self._rows = dict(sorted(rows.items()))
        self._vocabulary = vocabulary

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(self._rows)

    def rows(self, group: Group) -> ChainRows:
        return self._rows[group]

    def draw_group(self, rng: np.random.Generator, task: str | None = None) -> Group:
        """One of the groups: each task alike, and its lengths as many times as they have labels.

        task: of this one alone, if it has labels.
        """
        counts = {group: len(rows.asked_P) for group, rows in self._rows.items()}
        return draw_group(rng, {group: count for group, count in counts.items() if group.task == task} or counts)

    def draw_rows(self, rng: np.random.Generator, group: Group, count: int) -> ChainRows:
        """Rows of this group, with repetition."""
        rows = self._rows[group]
        return rows.take(rng.integers(len(rows.asked_P), size=count))

    def draw(self, rng: np.random.Generator, group: Group, count: int) -> tuple[Tokens, Tokens]:
        """Problems as networks read them, and their chains in the task's own tokens; both with PAD on the right."""
        rows = self.draw_rows(rng, group, count)
        asked = np.arange(rows.tokens_PW.shape[1]) < rows.asked_P[:, None]
        problems_PL = np.where(asked, rows.tokens_PW, PAD)[:, : int(rows.asked_P.max())]
        chains_PW = closed_up(np.where(asked, PAD, rows.tokens_PW).astype(np.uint16))
        return problems_PL.astype(np.uint16), self._vocabulary.own(group.task, chains_PW)

    def write(self, folder: Path) -> None:
        for group, rows in self._rows.items():
            np.save(folder / f"labels_{group}.npy", rows.tokens_PW, allow_pickle=False)
            np.save(folder / f"asked_{group}.npy", rows.asked_P.astype(np.uint16), allow_pickle=False)

    @classmethod
    def read(cls, folder: Path, problems: Problems) -> "Labels":
        """Raises DataError where the folder holds no labels."""
        files = sorted(folder.glob("labels_*.npy"))
        if not files:
            raise DataError(f"{folder} holds no labels_*.npy\ngive the folder of a labels stage")
        rows = {}
        for file in files:
            task, _, length = file.stem.removeprefix("labels_").rpartition("_")
            asked = np.load(folder / file.name.replace("labels_", "asked_", 1), allow_pickle=False).astype(np.int64)
            rows[Group(task, int(length))] = ChainRows(np.load(file, allow_pickle=False), asked)
        return cls(rows, problems.vocabulary)


def rounds_of_chains(task: Task, chains_PW: Tokens, length: int) -> Worked:
    """Chains cut into T rounds and an answer, the inverse of `Task.concatenate`.

    A chain of too many rounds loses those beyond T, and one of too few has empty ones.
    """
    loops, width = task.loops(length), task.answer_width(length)
    ends_P = np.where((chains_PW == EOS).any(axis=1), (chains_PW == EOS).argmax(axis=1), widths_of(chains_PW))
    place_W = np.arange(chains_PW.shape[1])
    of_answer_PW = (place_W >= ends_P[:, None] - width) & (place_W < ends_P[:, None])
    answers_PA = closed_up(np.where(of_answer_PW, chains_PW, PAD).astype(np.uint16))
    closes_PW = chains_PW == task.token(task.round_end)
    round_PW = closes_PW.cumsum(axis=1) - closes_PW
    in_round_PW = (place_W < ends_P[:, None]) & (task.last_round_is_answer | ~of_answer_PW) & (round_PW < loops)
    rounds = [
        closed_up(np.where(in_round_PW & (round_PW == t), chains_PW, PAD).astype(np.uint16)) for t in range(loops)
    ]
    widest = max(each.shape[1] for each in rounds)
    return Worked(np.stack([widened(each, widest) for each in rounds], axis=1), answers_PA)


@dataclass(frozen=True)
class ChainsBatch:
    """Rows that go through the student together; this rank's."""

    tokens_BS: Tokens
    picked_N: Rows  # which of the B * (S - 1) positions have a next token that is to be learnt
    weight_N: NDArray[np.float32]  # of the loss; all ranks' sum up to the number of ranks where tasks weigh alike
    filled: int  # positions that hold a token

    @property
    def targets_N(self) -> Rows:
        """The tokens to be learnt: chain, answer and EOS, but not the problem."""
        return self.tokens_BS[:, 1:].reshape(-1)[self.picked_N].astype(np.int64)

    @property
    def computed(self) -> int:
        """Positions that the network works on."""
        return self.tokens_BS[:, :-1].size


@dataclass(frozen=True)
class Chains:
    """The global batch of a step."""

    rows: ChainRows
    weight_B: NDArray[np.float32]  # of the task in the loss
    longest: bool  # whether the longest training problems of a task are among them


def draw_chains(
    problems: Problems, labels: Labels | None, config: StudentConfig, seed: int, stream: int, step: int
) -> Chains:
    """The global batch of this step: short problems with their chains, or longer ones as they were labelled.

    The solver is asked for training lengths alone.
    """
    rng = np.random.default_rng([seed, stream, step])
    draw_new = None if labels is None else labels.draw_group
    groups = draw_groups(rng, problems, config.batch_size, config.mix, new_share=config.new_share_of, draw_new=draw_new)
    blocks, weights = [], []
    for group, count in groups:
        if labels is not None and group in labels.groups:
            blocks.append(labels.draw_rows(rng, group, count))
        else:
            drawn = problems.draw(rng, group, count)
            blocks.append(with_chain(problems, group, drawn, problems.solutions(group, drawn)))
        weights.append(np.full(count, config.task_weights.get(group.task, 1.0), np.float32))
    rows = ChainRows(
        stacked([block.tokens_PW for block in blocks]), np.concatenate([block.asked_P for block in blocks])
    )
    longest = any(group in problems.longest_trained for group, _ in groups)
    return Chains(rows, np.concatenate(weights), longest)


def chains_batches(chains: Chains, config: StudentConfig, world: World) -> list[ChainsBatch]:
    """This rank's part of the batch, bucket by bucket."""
    widths_B = widths_of(chains.rows.tokens_PW)
    to_learn = int((widths_B - chains.rows.asked_P).sum())
    batches = []
    for bucket in buckets_of(widths_B, config.mix.buckets):
        rows, width = bucket[world.rank :: world.size], int(widths_B[bucket].max())
        tokens_BS = chains.rows.tokens_PW[rows, :width]
        place_S = np.arange(width - 1)
        learnt_BS = (place_S >= chains.rows.asked_P[rows, None] - 1) & (place_S < widths_B[rows, None] - 1)
        b_N, s_N = np.nonzero(learnt_BS)
        batches.append(
            ChainsBatch(
                tokens_BS=tokens_BS,
                picked_N=b_N * (width - 1) + s_N,
                weight_N=(chains.weight_B[rows][b_N] * (world.size / to_learn)).astype(np.float32),
                filled=int((widths_B[rows] - 1).sum()),
            )
        )
    return batches
