"""TRL's side of the speed comparison; answers `rto_speed.py`'s requests on stdin, a JSON line each.

    PYTHON benchmarks/rto_trl.py          # a Python with trl 1.16.0 for DPO and generation, with trl 1.12.0 for PPO

The trainers run as they are: the time of a step is what passes between two of their callbacks. Switched off is what
costs them time here without a use: recomputed activations (TRL's default), logging, evaluation, saving.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from time import perf_counter, process_time
from typing import Any

import rto_work as work
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

DEVICE = os.environ.get("RTO_DEVICE", "cpu")
CONFIG = LlamaConfig(
    vocab_size=work.VOCABULARY,
    hidden_size=work.WIDTH,
    intermediate_size=work.FEED_FORWARD,
    num_hidden_layers=work.LAYERS,
    num_attention_heads=work.HEADS,
    tie_word_embeddings=False,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=1,
    num_labels=1,
)


class Clock(TrainerCallback):
    """Times each step from the end of the one before, so that all that a trainer does in between is in it."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if DEVICE != "cpu":
            torch.cuda.synchronize()
        self.ends.append((perf_counter(), process_time()))

    def take(self, repeats: int) -> dict[str, list[float]]:
        """Of the last steps; what came before them was warming up."""
        ends, self.ends = self.ends[-repeats - 1 :], []
        steps = list(pairwise(ends))
        return {
            "seconds": [after[0] - before[0] for before, after in steps],
            "processor_seconds": [after[1] - before[1] for before, after in steps],
        }


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One that the trainers want to have; all data are token numbers."""
    words = {f"t{number}": number for number in range(work.VOCABULARY)}
    plain = Tokenizer(models.WordLevel(words, unk_token="t2"))  # noqa: S106 - a token of text
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="t0", eos_token="t1", unk_token="t2", padding_side="left"  # noqa: S106
    )  # fmt: skip


def prepare_dpo(kind: work.Work, precision: str, micro: int) -> Callable[[int], dict[str, Any]]:
    from trl import DPOConfig, DPOTrainer

    class TokenTrainer(DPOTrainer):
        """Its data are tokens already."""

        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset

    most_steps = 64
    pairs = work.make_pairs(work.DPO_PAIRS * most_steps, mixed=kind.mixed)
    rows = [{"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in pairs]
    clock = Clock()
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    reference = LlamaForCausalLM(CONFIG)
    reference.load_state_dict(model.state_dict())
    trainer = TokenTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=work.DPO_PAIRS // micro,
            learning_rate=work.LEARNING_RATE,
            lr_scheduler_type="constant",
            beta=work.BETA,
            max_length=None,
            precompute_ref_log_probs=kind.cached,
            bf16=precision == "bf16",
            gradient_checkpointing=False,
            use_cpu=DEVICE == "cpu",
            dataloader_pin_memory=False,
            max_steps=most_steps,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=make_tokenizer(),
        callbacks=[clock],
    )

    def answer(repeats: int) -> dict[str, Any]:
        trainer.args.max_steps = repeats + 2
        trainer.train()
        return clock.take(repeats)

    return answer


def prepare_ppo(kind: work.Work, precision: str, micro: int) -> Callable[[int], dict[str, Any]]:
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    prompts = work.make_prompts(work.PPO_PROMPTS * 64, work.PPO_PROMPT)
    clock = Clock()
    torch.manual_seed(0)
    policy, reference = LlamaForCausalLM(CONFIG), LlamaForCausalLM(CONFIG)
    reference.load_state_dict(policy.state_dict())
    value, reward = LlamaForSequenceClassification(CONFIG), LlamaForSequenceClassification(CONFIG)
    data = Dataset.from_list([{"input_ids": prompt} for prompt in prompts])
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=work.PPO_PROMPTS // micro,
            num_mini_batches=kind.minibatches,
            num_ppo_epochs=kind.epochs,
            total_episodes=work.PPO_PROMPTS * 64,
            response_length=work.PPO_RESPONSE,
            temperature=1.0,
            kl_coef=0.01,
            learning_rate=work.LEARNING_RATE,
            bf16=precision == "bf16",
            gradient_checkpointing=False,
            use_cpu=DEVICE == "cpu",
            num_sample_generations=0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        processing_class=make_tokenizer(),
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=data,
        eval_dataset=data.select(range(work.PPO_PROMPTS)),
        callbacks=[clock],
    )
    # TRL takes this for the micro batches of a whole rollout, and Accelerate for those of an update: left as it is,
    # there is one update in a pass, however many minibatches that has.
    trainer.accelerator.gradient_accumulation_steps = work.PPO_PROMPTS // kind.minibatches // micro

    def answer(repeats: int) -> dict[str, Any]:
        trainer.args.num_total_batches = repeats + 2
        trainer.train()
        return clock.take(repeats)

    return answer


def prepare_generation(_: work.Work, precision: str, __: int) -> Callable[[int], dict[str, Any]]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG).to(DEVICE).eval()
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    prompts = torch.tensor(work.make_prompts(work.GENERATED, work.GENERATED_PROMPT), device=DEVICE)
    settings = transformers.GenerationConfig(
        max_new_tokens=work.GENERATED_RESPONSE, do_sample=True, top_k=0, top_p=1.0, temperature=1.0, use_cache=True,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model.generation_config.eos_token_id = None

    def generate() -> None:
        generated = model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=settings)
        assert generated.shape == (work.GENERATED, work.GENERATED_PROMPT + work.GENERATED_RESPONSE)

    generate()
    return lambda repeats: work.timed(generate, repeats)


def prepare(request: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    name, precision = request["work"], request["precision"]
    kinds = {"dpo": prepare_dpo, "ppo": prepare_ppo, "generation": prepare_generation}
    return kinds[name.split("-")[0]](work.WORK[name], precision, request["micro"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    with redirect_stdout(open(os.devnull, "w")):  # the trainers print
        work.serve(prepare)
