"""The two networks: the looped teacher, which looks both ways, and the student, which looks back."""

# B sequences   S positions   D width   T iterations, one a round   V tokens of the vocabulary
# R rows of all iterations: those of the first one, then those of the second, ..   N positions of these   A of an answer

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.common.transformer import Block, KeyValueCache, Positions
from models.common.weights import load_stage_config, load_weights
from models.relay.config import StudentConfig, TeacherConfig
from models.relay.network_config import NetworkConfig
from models.relay.positions import PositionEncoding
from models.relay.task import MARK


class LoopedTransformer(nn.Module):
    """One stack of blocks f, applied over and over to its own output (arXiv 2502.08482, section 3.1).

        e_0 = N(embedding(x)),    e_t = N(f(e_{t-1} + J e_0))    for t = 1 .. T

    N is a layer norm with `outer_norm`, else nothing; J is 1 with `input_injection`, else 0. In section 3.1 neither is
    there. With N, the 10th iteration reads what the first one read. Heads read e_t through the norm that ends a pre-LN
    stack, which N already is.
    """

    def __init__(self, config: TeacherConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        size = config.network
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.positions = PositionEncoding(size, causal=False)
        self.blocks = _blocks(size)
        self.norm = nn.LayerNorm(size.width)
        self.answer_head = nn.Linear(size.width, vocabulary)
        self.round_head = None if config.tied_head else nn.Linear(size.width, vocabulary)

    def forward(
        self,
        tokens_BS: Tensor,
        rows_T: Sequence[int],
        answer_at_B: Tensor,
        answer_width: int,
        picked_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of rounds (N, V) and answers (B, A, V).

        rows_T: how many rows each iteration still works on, never more than the one before: rows with more rounds
            stand first, and those that are done leave the loop.
        answer_at_B: which of the R rows of all iterations holds the answer of each problem.
        picked_N: positions of the R * S of all iterations whose logits are asked for; None: all, as (R, S, V).
        """
        where = self.positions(0, tokens_BS.shape[1], tokens_BS.device)
        e_0 = self._normed(self.embedding(tokens_BS))
        e_BSD, states = e_0, list[Tensor]()
        for rows in rows_T:
            e_BSD = self._advance(e_BSD[:rows], e_0[:rows], where)
            states.append(e_BSD)
        e_RSD = torch.cat(states)
        e_BAD = e_RSD[:, self._answer_places(answer_width)][answer_at_B]
        e_ND = e_RSD if picked_N is None else e_RSD.flatten(0, 1)[picked_N]
        return self._rounds(self._shown(e_ND)), self.answer_head(self._shown(e_BAD))

    def _answer_places(self, answer_width: int) -> slice:
        """Where an answer stands alone, at the side that rounds are aligned to."""
        return slice(-answer_width, None) if self.config.alignment == "right" else slice(MARK, MARK + answer_width)

    def _advance(self, e_BSD: Tensor, e_0: Tensor, where: Positions) -> Tensor:
        """One iteration, as the config says its gradient is to be found."""
        if self.config.detach:
            e_BSD = e_BSD.detach()
        if self.config.recompute and torch.is_grad_enabled():
            return checkpoint(self._iterate, e_BSD, e_0, where, use_reentrant=False)
        return self._iterate(e_BSD, e_0, where)

    def _iterate(self, e_BSD: Tensor, e_0: Tensor, where: Positions) -> Tensor:
        if self.config.input_injection:
            e_BSD = e_BSD + e_0
        for block in self.blocks:
            e_BSD = block(e_BSD, where)
        return self._normed(e_BSD)

    def _normed(self, e_BSD: Tensor) -> Tensor:
        return self.norm(e_BSD) if self.config.outer_norm else e_BSD

    def _shown(self, e_BSD: Tensor) -> Tensor:
        return e_BSD if self.config.outer_norm else self.norm(e_BSD)

    def _rounds(self, e_ND: Tensor) -> Tensor:
        if self.round_head is not None:
            return self.round_head(e_ND)
        head_VD = self.norm(self.embedding.weight) / math.sqrt(self.config.network.width)
        return F.linear(e_ND, head_VD)


class Decoder(nn.Module):
    """An autoregressive transformer, looking back only."""

    def __init__(self, config: NetworkConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.positions = PositionEncoding(config, causal=True)
        self.blocks = _blocks(config)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, vocabulary)

    def forward(
        self, tokens_BS: Tensor, caches: list[KeyValueCache] | None = None, picked_N: Tensor | None = None
    ) -> Tensor:
        """Logits of the next token after each of these (B, S, V); with caches, these follow what the caches hold.

        picked_N: positions of the B * S whose logits are asked for (N, V); None: all.
        """
        where = self.positions(caches[0].length if caches else 0, tokens_BS.shape[1], tokens_BS.device)
        x = self.embedding(tokens_BS)
        last = len(self.blocks) - 1
        for place, block in enumerate(self.blocks):
            x = block(x, where, caches[place] if caches else None, picked_N if place == last else None)
        return self.head(self.norm(x))

    def empty_caches(self, batch: int, most: int) -> list[KeyValueCache]:
        """Room for `most` positions in each block."""
        like = self.embedding.weight
        return [KeyValueCache(batch, self.config.heads, most, self.config.head_width, like) for _ in self.blocks]


def _blocks(config: NetworkConfig) -> nn.ModuleList:
    return nn.ModuleList(
        Block(config.width, config.heads, config.feed_forward_width, config.dropout) for _ in range(config.layers)
    )


def read_teacher(folder: Path, vocabulary: int, device: torch.device) -> LoopedTransformer:
    """The trained teacher in this folder."""
    config = TeacherConfig.model_validate_json((folder / "config.json").read_text())
    network = LoopedTransformer(config, vocabulary)
    network.load_state_dict(load_weights(folder))
    return network.to(device).eval()


def read_student(folder: Path, vocabulary: int, device: torch.device) -> Decoder:
    """The trained student in the folder of a stage or of a version."""
    config = StudentConfig.model_validate(load_stage_config(folder))
    network = Decoder(config.network, vocabulary)
    network.load_state_dict(load_weights(folder))
    return network.to(device).eval()
