"""The teacher's batches: problems, and what each iteration should show of them. Pure functions of seed and step."""

# B rows of the batch   S positions   T rounds   W tokens of the widest   N supervised positions   A of an answer
# R rows of all iterations: those of the first one, then those of the second, ..

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.contract import World
from models.relay.chains import Labels, rounds_of_chains
from models.relay.config import TeacherConfig
from models.relay.mixing import Rows, buckets_of, draw_groups
from models.relay.problems import Group, Problems
from models.relay.streams import TEACHER
from models.relay.task import MARK, PAD, Tokens, flush_right, stacked, widened, widths_of

IGNORED = -100  # what a cross entropy takes for no target
UNKNOWN = np.iinfo(np.uint16).max  # on a board, where nobody but the solver could say what stands there


@dataclass(frozen=True)
class RoundsBatch:
    """Rows that go through the loop together, those with most rounds first; this rank's."""

    tokens_BS: Tokens
    rows_T: tuple[int, ...]  # that iteration t still works on
    answer_at_B: Rows  # which of the R rows shows the answer
    answers_BA: Rows  # IGNORED where there is none, or where the loop is not unrolled so far
    answer_weight_B: NDArray[np.float32]  # of the loss; all ranks' sum up to the number of ranks
    picked_N: Rows  # which of the R * S positions are supervised
    targets_N: Rows
    weight_N: NDArray[np.float32]
    deep_N: NDArray[np.bool_]  # of problems that use all iterations that are unrolled now
    filled: int  # positions, over all iterations, that hold a token of the problem or a supervised one

    @property
    def computed(self) -> int:
        """Positions, over all iterations, that the network works on."""
        return sum(self.rows_T) * self.tokens_BS.shape[1]


@dataclass(frozen=True)
class Rounds:
    """Problems as the network reads them, with their rounds and answers; joint tokens, PAD on the right."""

    problems_BW: Tokens
    rounds_BTW: Tokens
    boards_BTW: Tokens | None  # what stands in the places of the problem after each round; PAD for nothing, or UNKNOWN
    answers_BA: Tokens
    loops_B: Rows
    weight_B: NDArray[np.float32]  # of the task in the loss
    longest: bool  # whether the longest training problems of a task are among them

    @property
    def widths_B(self) -> Rows:
        return widths_of(self.problems_BW)


def draw_rounds(
    problems: Problems, config: TeacherConfig, seed: int, step: int, labels: Labels | None = None
) -> tuple[Rounds, np.random.Generator]:
    """The global batch of this step, and the generator that drew it."""
    rng = np.random.default_rng([seed, TEACHER, step])
    draw_new = None if labels is None else labels.draw_group
    groups = draw_groups(
        rng, problems, config.batch_size, config.mix, new_share=lambda _: config.label_share, draw_new=draw_new
    )
    blocks = [_block(problems, config, group, count, rng, labels) for group, count in groups]
    most_loops = max(block.rounds_BTW.shape[1] for block in blocks)
    together = Rounds(
        problems_BW=stacked([block.problems_BW for block in blocks]),
        rounds_BTW=_stacked_rounds([block.rounds_BTW for block in blocks], most_loops),
        boards_BTW=_stacked_rounds([block.boards_BTW for block in blocks if block.boards_BTW is not None], most_loops)
        if config.board
        else None,
        answers_BA=stacked([block.answers_BA for block in blocks]),
        loops_B=np.concatenate([block.loops_B for block in blocks]),
        weight_B=np.concatenate([block.weight_B for block in blocks]),
        longest=any(block.longest for block in blocks),
    )
    return together, rng


def _block(
    problems: Problems,
    config: TeacherConfig,
    group: Group,
    count: int,
    rng: np.random.Generator,
    labels: Labels | None,
) -> Rounds:
    """Problems of one group: worked off by the solver within training, as they were labelled beyond."""
    task, vocabulary = problems.tasks[group.task], problems.vocabulary
    labelled = labels is not None and group in labels.groups
    if labels is not None and labelled:
        asked, chains = labels.draw(rng, group, count)
        worked = rounds_of_chains(task, chains, group.length)
        drawn = vocabulary.own(group.task, asked[:, asked.shape[1] - vocabulary.problem_width(asked.shape[1]) :])
    else:
        drawn = problems.draw(rng, group, count)
        asked, worked = vocabulary.asked(group.task, drawn), task.work(drawn, group.length)
    return Rounds(
        problems_BW=asked,
        rounds_BTW=vocabulary.joint(group.task, worked.rounds_PTR),
        boards_BTW=_boards(problems, group, drawn, asked, labelled=labelled) if config.board else None,
        answers_BA=vocabulary.joint(group.task, worked.answers_PA),
        loops_B=np.full(count, problems.loops(group)),
        weight_B=np.full(count, config.task_weights.get(group.task, 1.0), np.float32),
        longest=group in problems.longest_trained,
    )


def rounds_batches(
    rounds: Rounds, config: TeacherConfig, unrolled: int, rng: np.random.Generator, world: World
) -> list[RoundsBatch]:
    """This rank's part of the batch, bucket by bucket; T is at most `unrolled`."""
    batches = []
    for rows in buckets_of(rounds.widths_B, config.mix.buckets, rounds.loops_B):
        width = least_width(int(rounds.widths_B[rows].max()), config) + int(rng.integers(config.side_pads))
        iterations = min(unrolled, int(rounds.loops_B[rows].max()))
        mine = rows[world.rank :: world.size]
        batches.append(_batch(rounds, config, mine, width, iterations, rounds.loops_B[mine] >= unrolled, world.size))
    return batches


def _batch(
    rounds: Rounds,
    config: TeacherConfig,
    rows: Rows,
    width: int,
    iterations: int,
    deep_B: NDArray[np.bool_],
    ranks: int,
) -> RoundsBatch:
    shown_B = np.minimum(rounds.loops_B[rows], iterations)
    # A rank whose rows are all done goes on with one of them: where weights are split, all ranks take part in each.
    rows_T = tuple(max(1, int((shown_B > t).sum())) for t in range(iterations))
    before_T = np.concatenate([[0], np.cumsum(rows_T)])
    tokens_BS = asked_to(rounds.problems_BW[rows], width, config)
    targets_BTS = stand(rounds.rounds_BTW[rows, :iterations], width, config.alignment)
    supervised_BTS = supervised_positions(targets_BTS, config.supervised_pads, config.alignment)
    if rounds.boards_BTW is not None:
        boards_BTS = beside_rounds(rounds.boards_BTW[rows, :iterations], rounds.widths_B[rows], width, config)
        # What the round and the PAD beside it leave free of the board
        free_BTS = (boards_BTS != PAD) & ~supervised_positions(targets_BTS, "last", config.alignment)
        targets_BTS = np.where(free_BTS, boards_BTS, targets_BTS)
        supervised_BTS |= free_BTS | (tokens_BS != PAD)[:, None]
        supervised_BTS &= targets_BTS != UNKNOWN
    supervised_BTS &= (np.arange(iterations) < shown_B[:, None])[..., None]
    t_N, b_N, s_N = np.nonzero(supervised_BTS.transpose(1, 0, 2))
    positions_BT = supervised_BTS.sum(axis=2)
    share_B = rounds.weight_B[rows] * ranks / len(rounds.loops_B)
    unreached_B = rounds.loops_B[rows] > iterations
    answers_BA = rounds.answers_BA[rows].astype(np.int64)
    if config.alignment == "right":
        answers_BA = flush_right(rounds.answers_BA[rows], answers_BA.shape[1]).astype(np.int64)
    return RoundsBatch(
        tokens_BS=tokens_BS,
        rows_T=rows_T,
        answer_at_B=before_T[shown_B - 1] + np.arange(len(rows)),
        # An answer that the iterations do not reach yet teaches nothing.
        answers_BA=np.where((answers_BA == PAD) | unreached_B[:, None], IGNORED, answers_BA),
        # A label may lack an answer, which then has no target either.
        answer_weight_B=(share_B / np.maximum(1, widths_of(rounds.answers_BA[rows]))).astype(np.float32),
        picked_N=(before_T[t_N] + b_N) * width + s_N,
        targets_N=targets_BTS[b_N, t_N, s_N].astype(np.int64),
        weight_N=(share_B[b_N] / (shown_B[b_N] * positions_BT[b_N, t_N])).astype(np.float32),
        deep_N=deep_B[b_N],
        filled=int((rounds.widths_B[rows] * shown_B).sum()),
    )


def stand(tokens_BTW: Tokens, width: int, alignment: str) -> Tokens:
    """Rows of tokens at the side of so many positions that they are aligned to, PAD on the other side."""
    flat = tokens_BTW.reshape(-1, tokens_BTW.shape[-1])
    if alignment == "right":
        moved = flush_right(flat, width)
    else:
        moved = np.zeros((len(flat), width), np.uint16)
        room = min(width - MARK, flat.shape[1])
        moved[:, MARK : MARK + room] = flat[:, :room]
    return moved.reshape(*tokens_BTW.shape[:-1], width)


def least_width(widest: int, config: TeacherConfig) -> int:
    """Positions that problems of this width need, and one PAD beside them."""
    return widest + 1 + config.workspace + (MARK if config.alignment == "left" else 0)


def asked_to(problems_BW: Tokens, width: int, config: TeacherConfig) -> Tokens:
    """Problems as they stand before the first iteration: at their side, or beside the workspace at it."""
    if config.alignment == "left":
        return stand(problems_BW, width, "left")
    return widened(flush_right(problems_BW, width - config.workspace), width)


def beside_rounds(boards_BTW: Tokens, widths_B: Rows, width: int, config: TeacherConfig) -> Tokens:
    """Boards moved to where their problems stand; PAD around them."""
    place_S, end = np.arange(width), width - config.workspace
    first_B = np.full(len(widths_B), MARK) if config.alignment == "left" else end - widths_B
    from_BS = place_S - first_B[:, None]
    moved_BTS = np.take_along_axis(boards_BTW, np.clip(from_BS, 0, boards_BTW.shape[2] - 1)[:, None], axis=2)
    on_it_BS = (from_BS >= 0) & (from_BS < widths_B[:, None])
    return np.where(on_it_BS[:, None], moved_BTS, PAD).astype(np.uint16)


def _boards(problems: Problems, group: Group, problems_PL: Tokens, asked_PL: Tokens, *, labelled: bool) -> Tokens:
    """The boards of these problems as the network is to show them, or empty ones; a task's token stays where it is.

    Those of labelled problems are unknown: a task may need its solver for them, as `LongestIncreasing` does.
    """
    boards_PTL = problems.tasks[group.task].boards(problems_PL, group.length)
    loops = problems.loops(group)
    if boards_PTL is None:
        return np.zeros((len(asked_PL), loops, asked_PL.shape[1]), np.uint16)
    if labelled:
        return np.full((len(asked_PL), loops, asked_PL.shape[1]), UNKNOWN, np.uint16)
    flat = problems.vocabulary.asked(group.task, boards_PTL.reshape(-1, boards_PTL.shape[2]))
    return flat.reshape(len(asked_PL), loops, -1)


def supervised_positions(targets_BTS: Tokens, pads: str, alignment: str = "right") -> NDArray[np.bool_]:
    """M_t[i] = 1 where the target is no PAD, and at the PAD just beside the round (section 3.3).

    Unlike section 3.3 if `pads` is "all": every PAD counts, since the network then learns faster.
    """
    if pads == "all":
        return np.ones(targets_BTS.shape, bool)
    token_BTS = targets_BTS != PAD
    beside_BTS = np.zeros_like(token_BTS)
    if alignment == "right":
        beside_BTS[..., :-1] = token_BTS[..., 1:]
    else:
        beside_BTS[..., 1:] = token_BTS[..., :-1]
    return token_BTS | beside_BTS


def _stacked_rounds(blocks: list[Tokens], most_loops: int) -> Tokens:
    width = max(block.shape[2] for block in blocks)
    return np.concatenate(
        [np.pad(block, ((0, 0), (0, most_loops - block.shape[1]), (0, width - block.shape[2]))) for block in blocks]
    )
