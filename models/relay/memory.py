"""How much memory a stage needs on a worker, told from its config and its data before anything is loaded.

What stays (weights, gradients, the optimizer), and the activations and logits of the largest bucket of a batch, which
is the most that is there at once. Batches are drawn as the learner draws them, with problems as wide as some of their
length are. What the allocator rounds up and the libraries keep for themselves is not in it.
"""

# R rows of all iterations, those that are done left out   S positions   V tokens of the vocabulary

from __future__ import annotations

import functools

import numpy as np

from models.common.contract import WorkerGroup
from models.common.memory import bytes_of_a_number, trained_bytes
from models.relay.config import StudentOnData, TeacherConfig, TeacherOnData
from models.relay.mixing import buckets_of, draw_groups
from models.relay.network_config import NetworkConfig
from models.relay.problems import Group, Problems
from models.relay.rounds import least_width
from models.relay.task import Task

_BATCHES = 16  # that are drawn to find a large one
_LIKE_IT = 64  # problems that are drawn of a length to find a wide one


def teacher_bytes(stage: TeacherOnData, group: WorkerGroup) -> int:
    """Bytes of a worker that trains the teacher, all rounds unrolled."""
    problems = Problems(stage.data, {})
    vocabulary = len(problems.vocabulary)
    largest = 0
    for drawn in _batches(stage, problems, {}):
        counts = [count for _, count in drawn]
        widths_B = np.repeat([problem_width(problems, each) for each, _ in drawn], counts)
        loops_B = np.repeat([problems.loops(each) for each, _ in drawn], counts)
        for rows in buckets_of(widths_B, stage.mix.buckets, loops_B):
            loops = loops_B[rows[:: group.workers]]
            rows_T = [int((loops > t).sum()) for t in range(loops.max())]
            width = least_width(int(widths_B[rows].max()), stage) + stage.side_pads - 1
            largest = max(largest, teacher_activations(stage, vocabulary, rows_T, width, bytes_of_a_number(group)))
    parameters = teacher_parameters(stage, vocabulary)
    return trained_bytes(parameters, parameters, group) + largest


def student_bytes(stage: StudentOnData, group: WorkerGroup) -> int:
    """Bytes of a worker that trains a student, on longer problems too where it reads labels."""
    problems = Problems(stage.data, {})
    vocabulary = len(problems.vocabulary)
    shares = {task: stage.new_share_of(task) for task in problems.tasks}
    largest = 0
    for drawn in _batches(stage, problems, shares):
        widths_B = np.repeat([row_width(problems, each) - 1 for each, _ in drawn], [count for _, count in drawn])
        for rows in buckets_of(widths_B, stage.mix.buckets):
            count, width = len(rows[:: group.workers]), int(widths_B[rows].max())
            kept = student_activations(stage.network, vocabulary, count, width, bytes_of_a_number(group))
            largest = max(largest, kept)
    parameters = student_parameters(stage.network, vocabulary)
    return trained_bytes(parameters, parameters, group) + largest


def teacher_parameters(config: TeacherConfig, vocabulary: int) -> int:
    """The embedding, the blocks, a norm, the answer's head and, where it is not tied, that of the rounds."""
    heads = 1 if config.tied_head else 2
    return _ends(config.network, vocabulary, heads) + config.network.block_parameters()


def student_parameters(network: NetworkConfig, vocabulary: int) -> int:
    return _ends(network, vocabulary, 1) + network.block_parameters()


def teacher_activations(config: TeacherConfig, vocabulary: int, rows_T: list[int], width: int, number: int) -> int:
    """Bytes that the backward pass of so many rows in each iteration needs, at its beginning.

    R * S * (layers * block + norm + gradient of the state) numbers, and a gradient inside of an MLP. Recomputed: of
    each iteration its state and the state's gradient, and the first iteration in full. Heads work on all positions
    where all pads are supervised or a board is shown, else on about half of them.
    """
    size, positions, first = config.network, sum(rows_T) * width, rows_T[0] * width
    iteration = size.layers * block_numbers(size, width) + (size.width if config.outer_norm else 0)
    kept = first * size.feed_forward_width
    if config.recompute:
        kept += positions * 2 * size.width + first * iteration
    else:
        kept += positions * (iteration + size.width)
    supervised = positions if config.supervised_pads == "all" or config.board else positions // 2
    return kept * number + _head_bytes(size, vocabulary, supervised, number, normed=not config.outer_norm)


def student_activations(size: NetworkConfig, vocabulary: int, rows: int, width: int, number: int) -> int:
    """Bytes that the backward pass of so many rows needs at its beginning; all their tokens count as learnt."""
    positions = rows * width
    kept = positions * (size.layers * block_numbers(size, width) + size.feed_forward_width)
    return kept * number + _head_bytes(size, vocabulary, positions, number, normed=True)


def block_numbers(size: NetworkConfig, width: int) -> int:
    """Numbers that a block keeps for a position.

    Inputs and outputs of its two norms, queries, keys and values, what attention gives, and the MLP's inner layer
    before and after GELU; queries and keys once more where they are turned; two masks where something is dropped.
    Attention's own matrix is kept only where its bias is learnt.
    """
    kept = 8 * size.width + 2 * size.feed_forward_width
    kept += 2 * size.width if "rope" in size.positions else 0
    kept += 2 * size.width if size.dropout else 0
    return kept + (size.heads * width if size.positions == "fire" else 0)


def problem_width(problems: Problems, group: Group) -> int:
    """Tokens of a wide problem of this group as networks read it."""
    return _widths(problems, group)[0] + bool(problems.vocabulary.task_token)


def row_width(problems: Problems, group: Group) -> int:
    """Tokens of a wide problem of this group with its chain, answer and EOS."""
    return sum(_widths(problems, group)) + bool(problems.vocabulary.task_token)


def _widths(problems: Problems, group: Group) -> tuple[int, int]:
    task = problems.tasks[group.task]
    return _widest(task, group.length)  # pyright: ignore[reportArgumentType] -- frozen, therefore hashable


@functools.lru_cache(maxsize=4096)
def _widest(task: Task, length: int) -> tuple[int, int]:
    """Tokens of the widest of some problems that are drawn, and of the widest solution."""
    drawn = task.draw(np.random.default_rng(length), length, _LIKE_IT)
    return drawn.shape[1], task.solutions(drawn, length).shape[1]


def _batches(
    stage: TeacherOnData | StudentOnData, problems: Problems, new_shares: dict[str, float]
) -> list[list[tuple[Group, int]]]:
    """Batches such as a stage draws; where a batch is one draw, one of each group that it may draw."""
    new = tuple(group for group in problems.label if new_shares.get(group.task))
    if stage.mix.draws == 1:
        return [[(group, stage.batch_size)] for group in (*problems.train, *new)]

    def draw_new(rng: np.random.Generator, task: str) -> Group:
        mine = [group for group in new if group.task == task]
        return mine[int(rng.integers(len(mine)))]

    def share_of(task: str) -> float:
        return new_shares.get(task, 0.0)

    rng = np.random.default_rng(0)
    return [
        draw_groups(rng, problems, stage.batch_size, stage.mix, new_share=share_of, draw_new=draw_new)
        for _ in range(_BATCHES)
    ]


def _ends(network: NetworkConfig, vocabulary: int, heads: int) -> int:
    """Parameters of embedding, last norm, heads and learnt biases."""
    fire = 66 + 33 * network.heads if network.positions == "fire" else 0  # an MLP from 1 through 32, and two scalars
    return vocabulary * network.width + 2 * network.width + heads * vocabulary * (network.width + 1) + fire


def _head_bytes(size: NetworkConfig, vocabulary: int, positions: int, number: int, *, normed: bool) -> int:
    """What a head reads, before a norm too where there is one; logits, and in float32 log p and its gradient."""
    return positions * (size.width * (2 if normed else 1) * number + vocabulary * (number + 8))
