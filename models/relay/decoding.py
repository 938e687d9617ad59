"""How the student writes: on from a problem, each token from all that it wrote before."""

# P problems   L tokens of a problem   W tokens written   V tokens of the vocabulary   R rows that are still written

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.relay.learning import on_device
from models.relay.network import Decoder
from models.relay.problems import Group, Problems
from models.relay.task import EOS, PAD, Tokens, widths_of

_LOOK_EVERY = 8  # tokens after which rows that have ended are left out, once they are half of those still computed


@dataclass(frozen=True)
class Writing:
    """What the student wrote after some problems, in the task's own tokens."""

    written_PW: Tokens  # PAD after EOS
    confidence_P: NDArray[np.float32]  # the least probability of any token written


def write_chains(
    network: Decoder,
    problems: Problems,
    group: Group,
    problems_PL: Tokens,
    *,
    most: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Writing:
    """At most `most` tokens after each problem: the likeliest, or drawn at a temperature, which the seed decides."""
    asked_PL = problems.vocabulary.asked(group.task, problems_PL)
    widths_P = widths_of(asked_PL)
    written_PW = np.zeros((len(asked_PL), most), np.uint16)
    confidence_P = np.ones(len(asked_PL), np.float32)
    generator = torch.Generator(next(network.parameters()).device).manual_seed(seed) if temperature else None
    for width in np.unique(widths_P):
        rows = np.flatnonzero(widths_P == width)
        tokens, sure = write_on(network, asked_PL[rows, :width], most, temperature, generator)
        written_PW[rows, : tokens.shape[1]] = problems.vocabulary.own(group.task, tokens)
        confidence_P[rows] = sure
    return Writing(written_PW[:, : int(widths_of(written_PW).max(initial=1))], confidence_P)


def room(problems: Problems, group: Group) -> int:
    """Tokens that a chain may have: one problem more than is right, so that a chain too long can still end well."""
    tests_PL = problems.tests(group)
    return problems.solutions(group, tests_PL).shape[1] + tests_PL.shape[1]


@torch.inference_mode()
def write_on(
    network: Decoder, asked_PL: Tokens, most: int, temperature: float = 0.0, generator: torch.Generator | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What the network writes after each of these, which are equally long, up to its EOS or `most` tokens; then PAD.

    Beside it the least probability of any token of each.
    """
    device = next(network.parameters()).device
    count, length = asked_PL.shape
    caches = network.empty_caches(count, length + most)
    written_PW = torch.full((count, most), PAD, dtype=torch.int64, device=device)
    least_P = torch.zeros(count, device=device)  # as logarithms
    rows_R, next_R1 = torch.arange(count, device=device), on_device(asked_PL, device)
    ended_R, done = torch.zeros(count, dtype=torch.bool, device=device), 0
    while done < most and len(rows_R):
        chosen = list[tuple[Tensor, Tensor]]()
        for _ in range(min(_LOOK_EVERY, most - done)):
            token_R, sure_R = choose(network(next_R1, caches)[:, -1].float(), temperature, generator)
            token_R = token_R.masked_fill(ended_R, PAD)
            chosen.append((token_R, sure_R.masked_fill(ended_R, 0.0)))
            ended_R = ended_R | (token_R == EOS)
            next_R1 = token_R[:, None]
        tokens, sure = zip(*chosen, strict=True)
        written_PW[rows_R, done : done + len(chosen)] = torch.stack(tokens, dim=1)
        least_P[rows_R] = torch.minimum(least_P[rows_R], torch.stack(sure).amin(dim=0))
        done += len(chosen)
        on_R = (~ended_R).nonzero()[:, 0]
        if 2 * len(on_R) <= len(rows_R):
            rows_R, ended_R, next_R1 = rows_R[on_R], ended_R[on_R], next_R1[on_R]
            for cache in caches:
                cache.keep(on_R)
    return written_PW.cpu().numpy(), least_P.exp().cpu().numpy()


def choose(logits_RV: Tensor, temperature: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """A token for each row, the likeliest or drawn at a temperature, and the logarithm of its probability."""
    if not temperature:
        best_R, token_R = logits_RV.max(dim=-1)
        return token_R, best_R - logits_RV.logsumexp(dim=-1)
    log_probability_RV = (logits_RV / temperature).log_softmax(dim=-1)
    token_R = torch.multinomial(log_probability_RV.exp(), 1, generator=generator)
    return token_R[:, 0], log_probability_RV.gather(1, token_R)[:, 0]
