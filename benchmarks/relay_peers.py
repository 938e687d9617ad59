"""transformers' side of RELAY's speed comparison; answers `relay_speed.py`'s requests on stdin.

Its `Trainer` runs as it is: the time of a step is what passes between two of its callbacks. The batches are ready
tensors, so that it draws, solves and pads nothing. Logging, evaluation and saving are off; AdamW is the fused one.
"""

# B rows   S positions   H heads   C width of a head   D width

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import pairwise
from time import perf_counter, process_time
from typing import Any

import numpy as np
import relay_work as work
import torch
import transformers
from rto_work import serve, timed
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

transformers.logging.set_verbosity_error()
IGNORED, WARMING = -100, 2
POSITIONS = 512
ROTARY = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}

Answer = dict[str, Any]


def make_model(kind: str, shape: work.Shape) -> PreTrainedModel:
    """Llama of the same shape, or GPT-NeoX, which can be our very network: norms and GELU one after the other."""
    torch.manual_seed(0)
    same: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        "attn_implementation": "sdpa",
    }
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**same))
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **same, hidden_act="gelu", rope_parameters=ROTARY, use_parallel_residual=False, attention_bias=True
        )
    )


class Batches(IterableDataset):
    """The first batches once more, to warm up, then all of them; each is an item."""

    def __init__(self, shape: str) -> None:
        stored = np.load(work.place(shape, "batches.npz"))
        self.items = []
        for step in range(work.SHAPES[shape].steps):
            tokens_BS = torch.from_numpy(stored[f"tokens_{step}"].astype(np.int64))
            labels_BS = tokens_BS.clone()
            labels_BS[:, 0] = IGNORED
            labels_BS[:, 1:][~torch.from_numpy(stored[f"learnt_{step}"])] = IGNORED
            self.items.append({"input_ids": tokens_BS, "labels": labels_BS})

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in range(WARMING + len(self.items)):
            yield self.items[(number - WARMING) % len(self.items)]


class Clock(TrainerCallback):
    """Times each step from the end of the one before, so that all that a trainer does in between is in it."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append((perf_counter(), process_time()))

    def take(self, steps: int) -> tuple[float, float]:
        """Of the last steps; what came before them was warming up."""
        ends, self.ends = self.ends[-steps - 1 :], []
        assert len(list(pairwise(ends))) == steps, "the trainer took fewer steps"
        return ends[-1][0] - ends[0][0], ends[-1][1] - ends[0][1]


def prepare_student(kind: str, name: str) -> Callable[[int], Answer]:
    shape, clock = work.SHAPES[name], Clock()
    model = make_model(kind, shape)
    model.config.use_cache = False
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=1,  # an item is a batch
            max_steps=WARMING + shape.steps,
            learning_rate=work.LEARNING_RATE,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            weight_decay=0.01,
            adam_beta2=0.98,
            max_grad_norm=1.0,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Batches(name),
        data_collator=lambda items: items[0],
        callbacks=[clock],
    )

    def answer(repeats: int) -> Answer:
        spans = []
        for _ in range(repeats):
            trainer.train()
            spans.append(clock.take(shape.steps))
        return {"seconds": [clocked for clocked, _ in spans], "processor_seconds": [own for _, own in spans]}

    return answer


def with_our_weights(model: PreTrainedModel, shape: work.Shape, ours: dict[str, Tensor]) -> PreTrainedModel:
    """GPT-NeoX as our student: it holds query, key and value of a head together, we those of all heads."""

    def by_head(weight: Tensor) -> Tensor:
        return weight.unflatten(0, (3, shape.heads, -1)).transpose(0, 1).flatten(0, 2)

    theirs = {"gpt_neox.embed_in.weight": ours["embedding.weight"], "lm_head.weight": ours["head.weight"]}
    names = {
        "attention_norm": "input_layernorm",
        "attention.query_key_value": "attention.query_key_value",
        "attention.out": "attention.dense",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward.0": "mlp.dense_h_to_4h",
        "feed_forward.2": "mlp.dense_4h_to_h",
    }
    for kind in ("weight", "bias"):
        theirs[f"gpt_neox.final_layer_norm.{kind}"] = ours[f"norm.{kind}"]
        for layer in range(shape.layers):
            for our_name, their_name in names.items():
                value = ours[f"blocks.{layer}.{our_name}.{kind}"]
                value = by_head(value) if "query_key_value" in our_name else value
                theirs[f"gpt_neox.layers.{layer}.{their_name}.{kind}"] = value
    model.load_state_dict(theirs)
    return model


def prepare_decoding(kind: str, name: str) -> Callable[[int], Answer]:
    """`generate`, greedy, with its cache and our weights."""
    assert kind == "gpt_neox", "Llama is another network than ours"
    shape = work.SHAPES[name]
    model = with_our_weights(make_model(kind, shape).eval(), shape, load_file(work.place(name, "weights.safetensors")))
    asked_BS = torch.from_numpy(np.load(work.place(name, "asked.npy")).astype(np.int64))
    written: list[Tensor] = []

    @torch.inference_mode()
    def call() -> None:
        rows_BS = model.generate(  # pyright: ignore[reportCallIssue]
            asked_BS,
            attention_mask=torch.ones_like(asked_BS),
            max_new_tokens=shape.written,
            do_sample=False,
        )
        written[:] = [rows_BS[:, asked_BS.shape[1] :]]

    def same() -> float:
        """The share of tokens that ours wrote too."""
        return float((written[0].numpy() == np.load(work.place(name, "written.npy"))).mean())

    return lambda repeats: {**timed(call, repeats), "same_tokens": same()}


def prepare(request: dict[str, Any]) -> Callable[[int], Answer]:
    kinds = {"student": prepare_student, "decoding": prepare_decoding}
    answer = kinds[request["work"]](request["model"], request["shape"])
    answer(1)
    return answer


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        serve(prepare)
