"""Which rows of the data each step takes, in which pieces; and passes over all pairs. Ranks draw alike."""

# B rows of the global batch   2 chosen, rejected

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.contract import World
from models.common.errors import ConfigError
from models.common.rows import Rows
from models.rto.policy_config import PolicyConfig
from models.rto.preferences import Pairs, Preferences, pair_sequences
from models.rto.ragged import Ragged
from models.rto.sequences import Sequences

# What a random stream is for, so that no two stages share one.
SFT, REWARD_MODEL, DPO = 10, 11, 12


def read_preferences(world: World, network: PolicyConfig) -> Preferences:
    """The data that the stage was given; raises ConfigError where they are tokens of another tokenizer."""
    if "preferences" not in world.inputs:
        given = ", ".join(sorted(world.inputs)) or "nothing"
        raise ConfigError(f"the stage was given no input 'preferences'\ngiven: {given}\ngive a prepared dataset")
    preferences = Preferences.read(world.inputs["preferences"])
    preferences.check_tokenizer(network)
    return preferences


def pieces(rows: Rows, lengths: NDArray[np.int64], at_once: int | None) -> list[Rows]:
    """These rows in pieces of at most `at_once`, those of similar length together: least is then padded.

    lengths: of all rows of the data. None for `at_once`: all rows in one piece.
    """
    if at_once is None or at_once >= len(rows):
        return [rows]
    in_order = rows[np.argsort(-lengths[rows], kind="stable")]
    return [in_order[start : start + at_once] for start in range(0, len(rows), at_once)]


def pair_lengths(pairs: Pairs) -> NDArray[np.int64]:
    """Tokens of the prompt and of the longer response of each pair."""
    return pairs.prompts.lengths + np.maximum(pairs.chosen.lengths, pairs.rejected.lengths)


def over_pairs(pairs: Pairs, world: World, at_once: int, values_of: Callable[[Sequences], Tensor]) -> Tensor:
    """Two values of each pair [rows, 2], on the CPU, the same on each rank; the ranks share the work.

    All ranks make equally many calls, as a network that is spread over them needs; rows that fill up the last
    rank's share come from the beginning.
    """
    share = -(-len(pairs) // world.size)
    mine = np.arange(world.rank * share, (world.rank + 1) * share) % len(pairs)
    places = pieces(np.arange(share), pair_lengths(pairs)[mine], at_once)
    values_S2 = torch.zeros(share, 2, device=world.device)
    for some in places:
        batch = pair_sequences(pairs, mine[some]).to(world.device)
        with torch.no_grad():
            values_S2[torch.from_numpy(some).to(world.device)] = values_of(batch).float()
    return world.gather(values_S2)[: len(pairs)].cpu()


def check_lengths(prompts: Ragged, responses: Sequence[Ragged], context: int, what: str) -> None:
    """Raises ConfigError where a row is longer than a network's context, or holds a response without a token."""
    longest = np.stack([each.lengths for each in responses])
    if not longest.all():
        row = int(np.argmin(longest.min(axis=0)))
        raise ConfigError(f"{what} {row} has a response without any token\nleave it out, and prepare the data again")
    together = prompts.lengths + longest.max(axis=0)
    row = int(together.argmax())
    if together[row] > context:
        raise ConfigError(
            f"{what} {row} has {together[row]} tokens, prompt and response together, and the network's context is "
            f"{context}\ntry context={together[row]}, or shorter prompts or responses"
        )
