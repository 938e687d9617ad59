"""How the teacher's iterations are read: which positions are the round, when the loop ends, what it wrote."""

# P problems   T iterations   S positions   L tokens of a problem   R of a round   A of an answer

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.common.errors import ConfigError
from models.relay.labels_config import ReadingConfig
from models.relay.learning import on_device
from models.relay.network import LoopedTransformer
from models.relay.problems import Group, Problems
from models.relay.rounds import asked_to, least_width
from models.relay.task import MARK, PAD, Task, Tokens, closed_up, widened, widths_of

GIVEN = ReadingConfig()  # T loops

_MOST_LOGITS = 50_000_000  # numbers worked on at once: 200 MB


@dataclass(frozen=True)
class Reading:
    """What the teacher showed for some problems, in the task's own tokens, PAD on the right."""

    rounds_PTR: Tokens  # PAD beyond the loops that a problem took
    answers_PA: Tokens
    loops_P: NDArray[np.int64]
    confidence_P: NDArray[np.float32]  # the least probability of any token that was read

    def written(self, task: Task) -> Tokens:
        """Rounds, answer and EOS (P, W). The answer's own head speaks for a last round that is the bare answer."""
        rounds_PTR = self.rounds_PTR
        if task.last_round_is_answer:
            last_PT = np.arange(rounds_PTR.shape[1]) == self.loops_P[:, None] - 1
            nothing_P1R = np.zeros_like(rounds_PTR[:, :1])
            rounds_PTR = np.concatenate([np.where(last_PT[..., None], PAD, rounds_PTR), nothing_P1R], axis=1)
        return task.concatenate(rounds_PTR.astype(np.uint16), self.answers_PA)

    def last_rounds(self) -> Tokens:
        """What the rounds' head showed at last (P, R)."""
        return self.rounds_PTR[np.arange(len(self.loops_P)), self.loops_P - 1]


@torch.no_grad()
def read_problems(
    network: LoopedTransformer,
    problems: Problems,
    group: Group,
    problems_PL: Tokens,
    reading: ReadingConfig = GIVEN,
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> Reading:
    """Works off problems of one group. Each is read alone with others of just its width, so that none disturbs another.

    dropout: of this pass, its randomness from `seed`. Raises ConfigError where the loop is to halt at a last round that
    the task's rounds do not tell from others.
    """
    task = problems.tasks[group.task]
    asked_PL = problems.vocabulary.asked(group.task, problems_PL)
    iterations = _iterations(problems, group, reading)
    widths_P = widths_of(asked_PL)
    rounds_PTR = np.zeros((len(asked_PL), iterations, least_width(int(widths_P.max()), network.config)), np.uint16)
    answers_PTA = np.zeros((len(asked_PL), iterations, task.answer_width(group.length)), np.uint16)
    round_confidence_PT = np.ones((len(asked_PL), iterations), np.float32)
    answer_confidence_PT = np.ones((len(asked_PL), iterations), np.float32)
    with _dropping(network, dropout, seed):
        for rows in _alike(widths_P, iterations * (int(widths_P.max()) + 1) * len(problems.vocabulary)):
            shown, sure, answers, answer_sure = _run(
                network, asked_PL[rows, : widths_P[rows[0]]], iterations, answers_PTA.shape[2]
            )
            kept = read_out(shown, network.config.alignment)
            read = closed_up(np.where(kept, shown, PAD).reshape(-1, shown.shape[-1]))
            read = widened(read, rounds_PTR.shape[2]).reshape(len(rows), iterations, -1)
            rounds_PTR[rows] = problems.vocabulary.own(group.task, read)
            answers_PTA[rows] = problems.vocabulary.own(group.task, answers)
            round_confidence_PT[rows] = np.where(kept, sure, 1.0).min(axis=2)
            answer_confidence_PT[rows] = answer_sure.min(axis=2)
    loops_P = _halt(task, reading, rounds_PTR, answer_confidence_PT)
    used_PT = np.arange(iterations) < loops_P[:, None]
    ended = (np.arange(len(loops_P)), loops_P - 1)
    return Reading(
        rounds_PTR=np.where(used_PT[..., None], rounds_PTR, PAD).astype(np.uint16),
        answers_PA=answers_PTA[ended],
        loops_P=loops_P,
        confidence_P=np.minimum(
            np.where(used_PT, round_confidence_PT, 1.0).min(axis=1), answer_confidence_PT[ended]
        ).astype(np.float32),
    )


def read_out(shown_PTS: Tokens, alignment: str) -> NDArray[np.bool_]:
    """Which positions belong to the round: those from its side up to the first PAD, or all where there is none.

    What stands beyond was not supervised, and means nothing (section 3.3).
    """
    token_PTS = shown_PTS != PAD
    if alignment == "left":
        of_round_PTS = np.logical_and.accumulate(token_PTS[..., MARK:], axis=-1)
        return np.concatenate([np.zeros_like(token_PTS[..., :MARK]), of_round_PTS], axis=-1)
    return np.logical_and.accumulate(token_PTS[..., ::-1], axis=-1)[..., ::-1]


def _iterations(problems: Problems, group: Group, reading: ReadingConfig) -> int:
    """How many iterations are looked at."""
    if reading.halting == "given":
        return max(1, problems.loops(group) + reading.more_loops)
    return max(problems.loops(other) for other in problems.groups if other.task == group.task)


def _halt(
    task: Task, reading: ReadingConfig, rounds_PTR: Tokens, answer_confidence_PT: NDArray[np.float32]
) -> NDArray[np.int64]:
    """How many iterations each problem takes."""
    problems, iterations, width = rounds_PTR.shape
    if reading.halting == "given":
        return np.full(problems, iterations)
    if reading.halting == "confidence":
        return answer_confidence_PT.argmax(axis=1) + 1
    last_P = task.is_last(rounds_PTR.reshape(-1, width))
    if last_P is None:
        raise ConfigError(
            f"a round of {task.name} does not tell whether it is the last one, as halting=last_round asks\n"
            "fits: halting=given, halting=confidence"
        )
    last_PT = last_P.reshape(problems, iterations)
    return np.where(last_PT.any(axis=1), last_PT.argmax(axis=1) + 1, iterations)


def _alike(widths_P: NDArray[np.int64], logits_of_a_problem: int) -> Iterator[NDArray[np.int64]]:
    """Rows of equal width, as many at once as memory has room for."""
    most = max(1, _MOST_LOGITS // logits_of_a_problem)
    for width in np.unique(widths_P):
        rows = np.flatnonzero(widths_P == width)
        yield from (rows[first : first + most] for first in range(0, len(rows), most))


def _run(
    network: LoopedTransformer, asked_PL: Tokens, iterations: int, answer_width: int
) -> tuple[Tokens, NDArray[np.float32], Tokens, NDArray[np.float32]]:
    """The likeliest tokens of each iteration (P, T, S) and its answer (P, T, A), each with its probability."""
    device = next(network.parameters()).device
    tokens_PS = on_device(asked_to(asked_PL, least_width(asked_PL.shape[1], network.config), network.config), device)
    count = len(asked_PL)
    everything = torch.arange(iterations * count, device=device)
    round_logits, answer_logits = network(tokens_PS, (count,) * iterations, everything, answer_width)
    shown, sure = _likeliest(round_logits, iterations)
    answers, answer_sure = _likeliest(answer_logits, iterations)
    return shown, sure, answers, answer_sure


def _likeliest(logits_RSV: torch.Tensor, iterations: int) -> tuple[Tokens, NDArray[np.float32]]:
    """Tokens and probabilities, by problem (P, T, S)."""
    probability_RS, token_RS = torch.softmax(logits_RSV.float(), dim=-1).max(dim=-1)
    shape = (iterations, -1, logits_RSV.shape[1])
    return (
        token_RS.cpu().numpy().astype(np.uint16).reshape(shape).swapaxes(0, 1),
        probability_RS.cpu().numpy().reshape(shape).swapaxes(0, 1),
    )


@contextmanager
def _dropping(network: nn.Module, dropout: float, seed: int) -> Iterator[None]:
    """The network as it is, but for its dropout, which works here also outside training."""
    modules = [module for module in network.modules() if isinstance(module, nn.Dropout)] if dropout else []
    before = [(module.p, module.training) for module in modules]
    with torch.random.fork_rng(enabled=bool(dropout)):
        if dropout:
            torch.manual_seed(seed)
        for module in modules:
            module.p, module.training = dropout, True
        try:
            yield
        finally:
            for module, (p, training) in zip(modules, before, strict=True):
                module.p, module.training = p, training
