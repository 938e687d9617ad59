"""The networks: a policy, a critic and a reward model, each a head on a backbone; and how they are made and read."""

# B prompts   G responses of each   P prompt tokens   R response tokens   T = R + 1 states   N real response tokens
# S real states, N and one more of each response   X rows that are decoded   V vocabulary   D width

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.errors import ConfigError
from models.common.weights import load_weights
from models.rto.decoder import Decoder
from models.rto.packing import state_real
from models.rto.policy_config import HuggingFaceConfig, PolicyConfig
from models.rto.sequences import Sequences

RewardForm = Literal["token_sum", "last_token", "mean"]


class DecodingCache(Protocol):
    """What a backbone keeps of the tokens so far."""

    def keep(self, rows_X: Tensor, /) -> None:
        """Forgets all rows but these."""
        ...


class Backbone(Protocol):
    """A causal network without its head: `Decoder`, or one of `huggingface.py`."""

    vocabulary: int
    context: int  # most tokens of prompt and response together
    width: int

    def states(self, sequences: Sequences, *, final: bool) -> Tensor:
        """The states before the real response tokens [N, D], row after row; with `final` those after the last too."""
        ...

    def prefill(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> tuple[Any, Tensor]:
        """A `DecodingCache` of B x G rows with room for `most` tokens in each, and the states after them [X, D]."""
        ...

    def advance(self, tokens_X: Tensor, cache: Any, /) -> Tensor:
        """The states after one token more in each row, [X, D]."""
        ...


class Policy(nn.Module):
    """The law of the next token."""

    def __init__(self, backbone: Backbone, *, tied: bool = False) -> None:
        super().__init__()
        self.backbone = cast(Any, backbone)
        self.head = None if tied else nn.Linear(backbone.width, backbone.vocabulary, bias=False)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.02)  # Unlike Llama's own, small for any width: nearly uniform

    @property
    def vocabulary(self) -> int:
        return self.backbone.vocabulary

    @property
    def context(self) -> int:
        return self.backbone.context

    def forward(self, sequences: Sequences) -> Tensor:
        """The logits [N, V] that the real response tokens were drawn from."""
        return self.logits(self.backbone.states(sequences, final=False))

    def logits(self, states_XD: Tensor) -> Tensor:
        """The logits of the next token after these states, [X, V]."""
        if self.head is None:
            return F.linear(states_XD, self.backbone.embedding.weight)
        return self.head(states_XD)

    def start_decoding(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> Decoding:
        """Decoding of B x G rows, each prompt `group` times, with room for `most` tokens in each."""
        return Decoding(self, *self.backbone.prefill(prompts_BP, prompt_real_BP, group, most))


class Decoding:
    """Rows that grow token by token; `logits_XV` are those of the next one."""

    def __init__(self, policy: Policy, cache: DecodingCache, states_XD: Tensor) -> None:
        self.policy = policy
        self.cache = cache
        self.logits_XV = policy.logits(states_XD)

    def append(self, tokens_X: Tensor) -> None:
        """Takes in one token more in each row."""
        self.logits_XV = self.policy.logits(self.policy.backbone.advance(tokens_X, self.cache))

    def keep(self, rows_X: Tensor) -> None:
        """Goes on with these rows only; the next call is `append`."""
        self.cache.keep(rows_X)


class Critic(nn.Module):
    """The value of each state."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = cast(Any, backbone)
        self.head = nn.Linear(backbone.width, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, sequences: Sequences) -> Tensor:
        """The value of the state after the prompt and after each response token, [B, G, T]; zero where not real."""
        values_S1 = self.head(self.backbone.states(sequences, final=True))
        return spread_states(_at_least_float(values_S1.squeeze(-1)), sequences)


class RewardModel(nn.Module):
    """The score of a whole response.

    token_sum: the sum over its tokens of the head's value of that token in the state before it
    last_token: the head's value of the state after its last token
    mean: the mean of the head's values of the states after its tokens
    """

    def __init__(self, backbone: Backbone, form: RewardForm) -> None:
        super().__init__()
        self.backbone = cast(Any, backbone)
        self.form = form
        self.head = nn.Linear(backbone.width, backbone.vocabulary if form == "token_sum" else 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, sequences: Sequences) -> Tensor:
        """The score of each response, [B, G]."""
        if self.form == "token_sum":
            values_NV = self.head(self.backbone.states(sequences, final=False))
            values_N = values_NV.gather(-1, sequences.targets_N()[:, None]).squeeze(-1)
            return sequences.spread(_at_least_float(values_N)).sum(dim=-1)
        values_S1 = self.head(self.backbone.states(sequences, final=True))
        values_BGT = spread_states(_at_least_float(values_S1.squeeze(-1)), sequences)
        if self.form == "last_token":
            return values_BGT.gather(-1, sequences.lengths_BG[..., None]).squeeze(-1)
        return values_BGT[..., 1:].sum(dim=-1) / sequences.lengths_BG.clamp(min=1)


def spread_states(values_S: Tensor, sequences: Sequences) -> Tensor:
    """Values of the real states at their places [B, G, T]; zero elsewhere."""
    real_BGT = state_real(sequences)
    return values_S.new_zeros(real_BGT.shape).masked_scatter(real_BGT, values_S)


def token_log_probs(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """log p of each target, in nats, [N], in float32 or better."""
    return -F.cross_entropy(_at_least_float(logits_NV), targets_N, reduction="none")


def entropy(logits_NV: Tensor) -> Tensor:
    """The entropy of each law, in nats, [N], in float32 or better."""
    log_p_NV = F.log_softmax(_at_least_float(logits_NV), dim=-1)
    # A token that is ruled out has log p = -inf, and p log p = 0.
    return -(log_p_NV.exp() * log_p_NV.clamp(min=torch.finfo(log_p_NV.dtype).min)).sum(dim=-1)


def _at_least_float(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def make_policy(config: PolicyConfig, vocabulary: int) -> Policy:
    """A policy before any stage: fresh weights, or the pretrained ones where the model has such."""
    if isinstance(config, HuggingFaceConfig):
        from models.rto import huggingface

        return huggingface.make_policy(config, vocabulary)
    return Policy(Decoder(config, vocabulary), tied=config.tied)


def make_critic(config: PolicyConfig, vocabulary: int) -> Critic:
    """A critic that values every state at 0."""
    return Critic(make_backbone(config, vocabulary))


def make_reward_model(config: PolicyConfig, vocabulary: int, form: RewardForm) -> RewardModel:
    """A reward model that scores every response with 0."""
    return RewardModel(make_backbone(config, vocabulary), form)


def make_backbone(config: PolicyConfig, vocabulary: int) -> Backbone:
    """A backbone before any stage."""
    if isinstance(config, HuggingFaceConfig):
        from models.rto import huggingface

        return huggingface.make_backbone(config, vocabulary)
    return Decoder(config, vocabulary)


def read_policy(config: PolicyConfig, folder: Path | None, vocabulary: int, device: torch.device) -> Policy:
    """The policy in a stage's folder; None: with the pretrained weights."""
    if isinstance(config, HuggingFaceConfig):
        from models.rto import huggingface

        return huggingface.read_policy(config, folder, vocabulary, device)
    if folder is None:
        raise ConfigError(
            "a policy of kind 'decoder' has no pretrained weights\n"
            "give it the folder of a trained stage, such as the supervised start's"
        )
    policy = make_policy(config, vocabulary)
    load_into(policy, load_weights(folder), folder)
    return policy.to(device)


@dataclass(frozen=True)
class ScoredModel:
    """A trained reward model, and what was measured on its scores: the weights 'score.NAME', by NAME."""

    model: RewardModel
    measured: dict[str, Tensor]


def read_reward_model(
    config: PolicyConfig, folder: Path, vocabulary: int, form: RewardForm, device: torch.device
) -> ScoredModel:
    """The reward model in a stage's folder."""
    model = make_reward_model(config, vocabulary, form)
    weights = load_weights(folder)
    measured = {name.removeprefix("score."): weights.pop(name) for name in list(weights) if name.startswith("score.")}
    load_into(model, weights, folder)
    return ScoredModel(model.to(device), measured)


def start_critic(
    config: PolicyConfig, vocabulary: int, from_folder: Path | None, whose: Literal["policy", "reward_model"]
) -> Critic:
    """A critic with the backbone of this policy or reward model, that values every state at 0.

    from_folder: a trained stage's; None: the pretrained weights.
    """
    critic = make_critic(config, vocabulary)
    if from_folder is None:
        if not isinstance(config, HuggingFaceConfig):
            raise ConfigError(
                "a critic of kind 'decoder' has no pretrained weights to start from\n"
                f"give it the folder of a trained {whose.replace('_', ' ')}"
            )
        return critic
    load_backbone(critic, from_folder, hint=f"set critic.start to another than '{whose}', or make the networks equal")
    return critic


_HINT = "give a stage that was trained with this network and vocabulary"


def load_backbone(module: Critic | RewardModel, folder: Path, hint: str = _HINT) -> None:
    """Loads the backbone of the policy or reward model in a stage's folder; the module's head stays."""
    backbone = {name: value for name, value in load_weights(folder).items() if name.startswith("backbone.")}
    head = {f"head.{name}": value for name, value in module.head.state_dict().items()}
    load_into(module, backbone | head, folder, hint)


def load_into(module: nn.Module, weights: dict[str, Tensor], folder: Path, hint: str = _HINT) -> None:
    """Loads weights by name; raises ConfigError where names or shapes are not the module's."""
    expected = {name: tuple(value.shape) for name, value in module.named_parameters() if value.requires_grad}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise ConfigError(
            f"the weights in {folder} do not fit this network: {len(wrong)} of {len(expected)} differ, such as\n"
            f"{name}: found {found.get(name, 'nothing')}, fits {expected.get(name, 'nothing')}\n{hint}"
        )
    module.load_state_dict(weights, strict=False)
