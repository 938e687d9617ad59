"""The two networks: the looped teacher, which looks both ways, and the student, which looks back."""

# B sequences   S positions   D width   T iterations, one a round   V tokens of the vocabulary

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.transformer import Block, KeyValueCache, positions
from models.common.weights import load_weights
from models.relay.config import NetworkConfig, StudentConfig, TeacherConfig


class LoopedTransformer(nn.Module):
    """One stack of blocks, applied over and over to its own output (arXiv 2502.08482, section 3.1).

        e_0 = LN(embedding(x)),    e_t = LN(f(e_{t-1}))    for t = 1 .. T

    Unlike section 3.1, a layer norm ends each iteration, so that the 10th reads what the first one read; and the
    heads of the rounds are tied to the embeddings, through the same norm.
    """

    def __init__(self, config: NetworkConfig, vocabulary: int, alibi_slopes: Sequence[float]) -> None:
        super().__init__()
        self.config = config
        self.alibi_slopes = tuple(alibi_slopes)
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.feed_forward_width) for _ in range(config.layers)
        )
        self.answer_head = nn.Linear(config.width, vocabulary)

    def forward(self, tokens_BS: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """Logits of each round at each position (T, B, S, V), and of the answer after the last iteration (B, V)."""
        where = positions(
            0,
            tokens_BS.shape[1],
            self.config.width // self.config.heads,
            rope_base=self.config.rope_base,
            causal=False,
            alibi_slopes=self.alibi_slopes,
            device=tokens_BS.device,
        )
        e_BSD = self.norm(self.embedding(tokens_BS))
        states = []
        for _ in range(iterations):
            for block in self.blocks:
                e_BSD = block(e_BSD, where)
            e_BSD = self.norm(e_BSD)
            states.append(e_BSD)
        head_VD = self.norm(self.embedding.weight) / math.sqrt(self.config.width)
        return F.linear(torch.stack(states), head_VD), self.answer_head(e_BSD[:, -1])


class Decoder(nn.Module):
    """An autoregressive transformer, looking back only."""

    def __init__(self, config: NetworkConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.feed_forward_width) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, vocabulary)

    def forward(self, tokens_BS: Tensor, caches: list[KeyValueCache] | None = None) -> Tensor:
        """Logits of the next token after each of these (B, S, V); with caches, these follow what the caches hold."""
        where = positions(
            caches[0].length if caches else 0,
            tokens_BS.shape[1],
            self.config.width // self.config.heads,
            rope_base=self.config.rope_base,
            causal=True,
            device=tokens_BS.device,
        )
        x_BSD = self.embedding(tokens_BS)
        for place, block in enumerate(self.blocks):
            x_BSD = block(x_BSD, where, caches[place] if caches else None)
        return self.head(self.norm(x_BSD))

    def empty_caches(self, batch: int, most: int) -> list[KeyValueCache]:
        """Room for `most` positions in each block."""
        head_width = self.config.width // self.config.heads
        like = self.embedding.weight
        return [KeyValueCache(batch, self.config.heads, most, head_width, like) for _ in self.blocks]


def read_teacher(folder: Path, vocabulary: int, device: torch.device) -> LoopedTransformer:
    """The trained teacher in this folder."""
    config = TeacherConfig.model_validate_json((folder / "config.json").read_text())
    network = LoopedTransformer(config.network, vocabulary, config.alibi_slopes)
    network.load_state_dict(load_weights(folder))
    return network.to(device).eval()


def read_student(folder: Path, vocabulary: int, device: torch.device) -> Decoder:
    """The trained student in this folder."""
    config = StudentConfig.model_validate_json((folder / "config.json").read_text())
    network = Decoder(config.network, vocabulary)
    network.load_state_dict(load_weights(folder))
    return network.to(device).eval()
