"""Policies and critics of a tree (T3) as tables of its nodes: nothing is approximated but the optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.rto.sequences import Sequences
from models.rto.tree import Tree


def nodes_of(sequences: Sequences, actions: int) -> Tensor:
    """The node before each response token, and the one after the last [B, G, T]; node 0 is the root."""
    tokens_BGR = sequences.responses_BGR
    nodes = [torch.zeros_like(tokens_BGR[..., 0])]
    for place in range(tokens_BGR.shape[-1]):
        nodes.append(nodes[-1] * actions + tokens_BGR[..., place] + 1)
    return torch.stack(nodes, dim=-1)


class TablePolicy(nn.Module):
    """Logits of each inner node."""

    vocabulary = 3
    context = 100

    def __init__(self, log_probs_KA: Tensor) -> None:
        super().__init__()
        self.logits_KA = nn.Parameter(log_probs_KA.float().clone())

    def forward(self, sequences: Sequences) -> Tensor:
        nodes_BGT = nodes_of(sequences, self.logits_KA.shape[1])
        return self.logits_KA[nodes_BGT[..., :-1][sequences.response_real_BGR]]

    def start_decoding(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> TableDecoding:
        return TableDecoding(self.logits_KA, torch.zeros(len(prompts_BP) * group, dtype=torch.long))


@dataclass
class TableDecoding:
    logits_KA: Tensor
    nodes_X: Tensor

    @property
    def logits_XV(self) -> Tensor:
        return self.logits_KA[self.nodes_X]

    def append(self, tokens_X: Tensor) -> None:
        self.nodes_X = self.nodes_X * self.logits_KA.shape[1] + tokens_X + 1

    def keep(self, rows_X: Tensor) -> None:
        self.nodes_X = self.nodes_X[rows_X]


class TableCritic(nn.Module):
    """A value of each node, leaves too."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        inner, actions = tree.rewards_KA.shape
        self.actions = actions
        self.value_K = nn.Parameter(torch.zeros(inner * actions + 1))

    def forward(self, sequences: Sequences) -> Tensor:
        return self.value_K[nodes_of(sequences, self.actions)]
