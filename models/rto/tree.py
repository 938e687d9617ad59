"""T3: a tree of responses with a hidden reward at each token, small enough that every optimum is computed exactly."""

# N responses   H depth   A actions   K inner nodes, root first, level by level   Y leaves, in the order of their tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import DataError
from models.rto.data_config import TreeTask
from models.rto.law import draw, random_law
from models.rto.ragged import Ragged

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Optimum:
    """The best policy under a KL penalty, and the value of each inner node."""

    log_probs_KA: Table
    values_K: Table


@dataclass(frozen=True)
class Tree:
    """The task's one prompt, the law of its demonstrations, and its true reward.

    Tokens are the actions, and the prompt is token 0: the vocabulary holds nothing that a response could not, so that
    leaves are all that a policy can write. Child a of node k is node k * A + a + 1.
    """

    task: TreeTask
    rewards_KA: Table
    law_KA: Table

    end = None
    length_bias = 0.0
    describe = "true reward: sum of the hidden rewards along the branch"

    @classmethod
    def drawn(cls, task: TreeTask, rng: np.random.Generator) -> Tree:
        shape = ((task.actions**task.depth - 1) // (task.actions - 1), task.actions)
        return cls(task, task.reward_scale * rng.standard_normal(shape), random_law(rng, shape, task.law_scale))

    @classmethod
    def from_tables(cls, task: TreeTask, tables: Mapping[str, NDArray[Any]]) -> Tree:
        return cls(task, tables["rewards"], tables["law"])

    @property
    def tables(self) -> dict[str, Table]:
        return {"rewards": self.rewards_KA, "law": self.law_KA}

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(chr(ord("a") + action) for action in range(self.task.actions))

    @property
    def law_log_probs_KA(self) -> Table:
        """The law of the demonstrations."""
        return np.log(self.law_KA)

    def prompts(self, rng: np.random.Generator, count: int, *, held_out: bool) -> Ragged:
        """The one prompt, so many times."""
        return Ragged.of_lengths(np.zeros(count, np.int32), np.ones(count, np.int64))

    def responses(self, rng: np.random.Generator, prompts: Ragged) -> Ragged:
        """A branch to each prompt, drawn by the law."""
        branches_NH = np.empty((len(prompts), self.task.depth), np.int32)
        node_N = np.zeros(len(prompts), np.int64)
        for place in range(self.task.depth):
            branches_NH[:, place] = draw(self.law_KA[node_N], rng.random(len(prompts)))
            node_N = node_N * self.task.actions + branches_NH[:, place] + 1
        return Ragged.of_lengths(branches_NH.reshape(-1), np.full(len(prompts), self.task.depth, np.int64))

    def score(
        self, prompts: Ragged | Sequence[ArrayLike], responses: Ragged | Sequence[ArrayLike]
    ) -> NDArray[np.float64]:
        """Sum over tokens of r[node, action] (section 1.1)."""
        written = Ragged.of(responses)
        if written.longest > self.task.depth:
            raise DataError(
                f"a response of {written.longest} tokens is no branch of a tree of depth {self.task.depth}\n"
                f"set most_response to {self.task.depth}"
            )
        branches_NL, _ = written.padded()
        nodes = self.nodes(branches_NL)[written.rows, written.places]
        return written.sums(self.rewards_KA[nodes, written.tokens])

    def nodes(self, branches_NH: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Of each token, the node in which it is taken."""
        nodes_NH = np.zeros(branches_NH.shape, np.int64)
        for place in range(1, branches_NH.shape[1]):
            nodes_NH[:, place] = nodes_NH[:, place - 1] * self.task.actions + branches_NH[:, place - 1] + 1
        return nodes_NH

    @property
    def leaves_YH(self) -> NDArray[np.int32]:
        """Every response."""
        count = self.task.actions**self.task.depth
        powers_H = self.task.actions ** np.arange(self.task.depth - 1, -1, -1)
        return (np.arange(count)[:, None] // powers_H % self.task.actions).astype(np.int32)

    def leaf_sums(self, values_KA: Table) -> Table:
        """Along the branch to each leaf, the sum of a table: of rewards the return, of log-probabilities its log."""
        leaves_YH = self.leaves_YH
        return values_KA[self.nodes(leaves_YH), leaves_YH].sum(axis=1)

    def exact_optimum(
        self, beta: float, *, rewards_KA: Table | None = None, reference_log_probs_KA: Table | None = None
    ) -> Optimum:
        """The policy with the best sum of rewards less beta * KL, by dynamic programming (section 1.1).

            Q(s, a) = r(s, a) + beta * log pi_ref(a|s) + V(s')
            V(s) = beta * log sum_a exp(Q(s, a) / beta)
            log pi(a|s) = (Q(s, a) - V(s)) / beta

        Rewards are the true ones and the reference is the law, unless others are given.
        """
        rewards_KA = self.rewards_KA if rewards_KA is None else rewards_KA
        reference_KA = self.law_log_probs_KA if reference_log_probs_KA is None else reference_log_probs_KA
        actions, inner = self.task.actions, len(rewards_KA)
        values_K = np.concatenate([np.empty(inner), np.zeros(actions**self.task.depth)])  # a leaf is worth nothing more
        q_KA = rewards_KA + beta * reference_KA
        for level in reversed(range(self.task.depth)):
            first = (actions**level - 1) // (actions - 1)
            level_K = np.arange(first, first + actions**level)
            q_KA[level_K] += values_K[level_K[:, None] * actions + 1 + np.arange(actions)]
            values_K[level_K] = beta * np.logaddexp.reduce(q_KA[level_K] / beta, axis=1)
        return Optimum((q_KA - values_K[:inner, None]) / beta, values_K[:inner])
