"""How much memory a stage needs on a worker: what of it shapes tell, before anything is loaded.

A sum of what stays (weights, gradients, the optimizer, frozen copies) and the larger of what comes and goes: a
micro-batch's activations and logits, or a rollout's keys and values. Sequences are taken to be as long as they may
become. What the allocator rounds up and the libraries keep for themselves is not in it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from models.common.contract import WorkerGroup
from models.common.memory import bytes_of_a_number, trained_bytes
from models.rto.config import DpoStage, PpoStage, RewardModelStage, SftStage
from models.rto.policy_config import DecoderConfig, HuggingFaceConfig, PolicyConfig
from models.rto.ppo_config import WRITTEN_AT_ONCE

TASK_VOCABULARY = 1024 + 64 + 1  # of our tasks at most; the data know theirs, a stage does not


@dataclass(frozen=True)
class Shape:
    """What memory depends on. Parameters are those of the policy; without its head they are fewer by `head`."""

    parameters: int
    trained: int
    head: int  # parameters that only a policy's head has
    adapter: int  # parameters of one adapter; 0 without adapters
    layers: int
    width: int
    inner_width: int
    key_width: int  # of all heads' keys at one layer and token; the values' is the same
    vocabulary: int
    context: int
    recompute: bool

    def without_head(self, outputs: int) -> Shape:
        """The shape under a critic or a reward model, whose head has this many outputs."""
        extra = outputs * self.width
        trained = self.trained + extra if self.adapter else self.parameters - self.head + extra
        return replace(self, parameters=self.parameters - self.head + extra, trained=trained, vocabulary=outputs)


def sft_bytes(stage: SftStage, group: WorkerGroup) -> int:
    """Bytes of a worker; 0 where the model's shape cannot be had here."""
    shape = policy_shape(stage.policy)
    if shape is None:
        return 0
    return trained_bytes(shape.parameters, shape.trained, group) + _forward_backward(
        shape, group, _at_once(stage, group), shape.context
    )


def reward_model_bytes(stage: RewardModelStage, group: WorkerGroup) -> int:
    """Bytes of a worker; 0 where the model's shape cannot be had here."""
    shape = policy_shape(stage.network)
    if shape is None:
        return 0
    shape = shape.without_head(shape.vocabulary if stage.form == "token_sum" else 1)
    return trained_bytes(shape.parameters, shape.trained, group) + _forward_backward(
        shape, group, 2 * _at_once(stage, group), shape.context
    )


def dpo_bytes(stage: DpoStage, group: WorkerGroup) -> int:
    """Bytes of a worker; 0 where the model's shape cannot be had here."""
    shape = policy_shape(stage.policy)
    if shape is None:
        return 0
    asked = stage.reference == "live" and stage.loss != "simpo"  # which knows no reference
    reference = _frozen_beside(shape, group) if asked else 0
    return (
        trained_bytes(shape.parameters, shape.trained, group)
        + reference
        + _forward_backward(shape, group, 2 * _at_once(stage, group), shape.context)
    )


def ppo_bytes(stage: PpoStage, group: WorkerGroup) -> int:
    """Bytes of a worker; 0 where a model's shape cannot be had here.

    The actor with its reference, DPO's policy where beta1 asks for it, critic and reward model where there are such.
    """
    actor, scorer = policy_shape(stage.policy), policy_shape(stage.scorer)
    if actor is None or scorer is None:
        return 0
    stays = trained_bytes(actor.parameters, actor.trained, group) + _frozen_beside(actor, group)
    if stage.reward.beta1 and stage.reward.layout != "ppo":
        stays += _frozen_beside(actor, group)
    if stage.score.source == "model" and stage.reward.beta3:
        outputs = scorer.vocabulary if stage.reward_model_form == "token_sum" else 1
        stays += scorer.without_head(outputs).parameters * bytes_of_a_number(group)
    at_once = _at_once(stage, group)
    comes = [
        _forward_backward(actor, group, at_once, min(actor.context, stage.most_response)),
        _decoding(actor, group, min(-(-stage.rollouts // group.workers), at_once * WRITTEN_AT_ONCE)),
    ]
    if stage.algorithm == "ppo":
        critic = scorer.without_head(1)
        stays += trained_bytes(critic.parameters, critic.trained, group)
        comes.append(_forward_backward(critic, group, at_once, critic.context))
    return stays + max(comes)


def _at_once(stage: Any, group: WorkerGroup) -> int:
    share = -(-stage.batch_size // group.workers)
    return min(share, stage.micro_batch or share)


def _frozen_beside(shape: Shape, group: WorkerGroup) -> int:
    """A frozen policy beside the one that is trained: an adapter on the same base, or a network of its own."""
    return (shape.adapter or shape.parameters) * bytes_of_a_number(group)


def _forward_backward(shape: Shape, group: WorkerGroup, rows: int, predicted: int) -> int:
    """What a forward pass keeps for the backward pass, of so many rows.

    rows x context x layers x (10 width + 4 inner width) numbers: of a layer the inputs and outputs of its two norms,
    queries, keys, values, what attention gives, the two residual sums; and of the gated part gate, up, its activation
    and their product. Recomputed: one width a layer, and one layer in full. Attention's own scores are not kept.
    The logits of the `predicted` tokens of a row are held in the network's precision, and in float32 as log p and as
    two gradients.
    """
    number, tokens = bytes_of_a_number(group), rows * shape.context
    layer = 10 * shape.width + 4 * shape.inner_width
    kept = shape.layers * shape.width + layer if shape.recompute else shape.layers * layer
    return tokens * kept * number + rows * predicted * shape.vocabulary * (number + 12)


def _decoding(shape: Shape, group: WorkerGroup, rows: int) -> int:
    """Keys and values of the rows that are written at once, at their longest, and a step's logits.

    The keys and values of one layer stand there twice while it grows by a token.
    """
    number = bytes_of_a_number(group)
    cache = rows * shape.context * 2 * shape.key_width * (shape.layers + 1) * number
    return cache + rows * shape.vocabulary * (number + 8 + 8)  # log p and its cumulative sum are float64


def policy_shape(config: PolicyConfig) -> Shape | None:
    """The shape of a policy; None where the model's config is neither in a folder, nor downloaded, nor known here."""
    if isinstance(config, DecoderConfig):
        return _decoder_shape(config)
    return _huggingface_shape(config)  # pyright: ignore[reportArgumentType] -- frozen, therefore hashable


def _decoder_shape(config: DecoderConfig, vocabulary: int = TASK_VOCABULARY) -> Shape:
    """V D of the embedding and as many of the head; of a layer 4 D^2 + 3 D F + 2 D; D of the last norm."""
    width, inner = config.width, config.feed_forward_width
    head = 0 if config.tied else vocabulary * width
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    parameters = vocabulary * width + head + config.layers * layer + width
    return Shape(
        parameters=parameters,
        trained=parameters,
        head=head,
        adapter=0,
        layers=config.layers,
        width=width,
        inner_width=inner,
        key_width=width,
        vocabulary=vocabulary,
        context=config.context,
        recompute=False,
    )


@functools.lru_cache(maxsize=32)
def _huggingface_shape(config: HuggingFaceConfig) -> Shape | None:
    """Counted on a model without storage (torch's meta device), adapters included."""
    from models.rto import huggingface

    shape = huggingface.find_shape(config)
    if shape is None:
        return None
    network = huggingface.build_empty(config, shape)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    adapter = sum(p.numel() for name, p in network.named_parameters() if ".lora_" in name)
    head = network.get_output_embeddings().weight
    tied = head is network.get_input_embeddings().weight
    text = shape.get_text_config()
    heads = text.num_attention_heads
    return Shape(
        parameters=parameters,
        trained=adapter or parameters,
        head=0 if tied else head.numel(),
        adapter=adapter,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner_width=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        key_width=(getattr(text, "num_key_value_heads", None) or heads)
        * (getattr(text, "head_dim", None) or text.hidden_size // heads),
        vocabulary=head.shape[0],
        context=config.context,
        recompute=config.recompute,
    )
