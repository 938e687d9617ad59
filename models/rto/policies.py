"""The policies of one stage: the one that is trained, the reference it is held to, and DPO's, which scores tokens."""

# B prompts   G responses of each   N real response tokens   V vocabulary

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from models.common.errors import ConfigError
from models.rto.policy_config import HuggingFaceConfig, PolicyConfig
from models.rto.sequences import Sequences

if TYPE_CHECKING:
    from models.rto.network import Decoding


class FrozenPolicy(Protocol):
    """What a policy does for those that do not train it: a `network.Policy`, or one that shares another's weights."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def context(self) -> int: ...

    def __call__(self, sequences: Sequences, /) -> Tensor:
        """The logits [N, V] of the real response tokens."""
        ...

    def start_decoding(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> Decoding: ...


@dataclass(frozen=True)
class PolicySet:
    """The policies of a stage.

    actor: a `network.Policy`, the module for the engine. Of its parameters those that require a gradient are trained,
    and they alone are in a stage's folder.
    reference, dpo: frozen. They may share the actor's weights, and then nothing of theirs is in its `state_dict`; a
    forward pass of theirs makes no gradients.
    """

    actor: nn.Module
    reference: FrozenPolicy
    dpo: FrozenPolicy | None

    def follow_actor(self) -> None:
        """Moves frozen networks of their own to the actor's device and precision, once an engine has set both.

        In bf16 an engine rounds the actor's weights. A reference that is not rounded alike would differ from it before
        the first step.
        """
        like = next(self.actor.parameters())
        for frozen in (self.reference, self.dpo):
            if isinstance(frozen, nn.Module):
                frozen.to(device=like.device, dtype=like.dtype)


def policies_for(
    config: PolicyConfig, vocabulary: int, *, start_from: Path | None, dpo: Path | None, device: torch.device
) -> PolicySet:
    """The policies of a stage that starts from this folder's weights, which are the reference's as well.

    start_from: None for the pretrained weights, which the project's own decoder has none of.
    dpo: the folder of a DPO policy that began with the same reference; None: no such policy is needed.

    With adapters (`HuggingFaceConfig.lora`) all of them share one frozen base; else each is a network of its own.
    """
    if start_from is None and not isinstance(config, HuggingFaceConfig):
        raise ConfigError(
            "the project's own decoder has no pretrained weights, and the stage was given none to start from\n"
            "fits: a supervised start before it, or a policy of kind 'huggingface'"
        )
    if isinstance(config, HuggingFaceConfig) and config.lora is not None:
        from models.rto.shared_base import policies_on_one_base

        return policies_on_one_base(config, vocabulary, start_from=start_from, dpo=dpo, device=device)
    from models.rto.network import read_policy

    actor = read_policy(config, start_from, vocabulary, device)
    reference = _frozen(copy.deepcopy(actor))
    return PolicySet(actor, reference, None if dpo is None else _frozen(read_policy(config, dpo, vocabulary, device)))


def _frozen(policy: nn.Module) -> FrozenPolicy:
    frozen: FrozenPolicy = policy.requires_grad_(requires_grad=False).eval()  # pyright: ignore[reportAssignmentType]
    return frozen
