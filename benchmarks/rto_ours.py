"""Our side of the speed comparison, as `models/rto` trains; answers `rto_speed.py`'s requests, a JSON line each.

The learners run as they are, with the plain engine (`TorchEngine`), whose steps are those of DeepSpeed's. A PPO call is
one iteration: rollout, scores, token rewards, advantages, and all updates. Critic and reward model are of the policy's
size; the reward is PPO's, as TRL has no other.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

import rto_work as work
import torch
from safetensors.torch import save_file

from infra import collectives
from infra.clusters import Cluster
from infra.engine import engine_factory
from models.common.contract import World
from models.common.optimizer_config import OptimizerConfig
from models.rto.config import DpoStage, PpoStage
from models.rto.data_config import BigramTask
from models.rto.network import make_policy, make_reward_model
from models.rto.policy_config import DecoderConfig
from models.rto.ppo_config import CriticConfig
from models.rto.preferences import Pairs, Preferences, padded_prompts
from models.rto.ragged import Ragged
from models.rto.reward_config import ScoreConfig, TokenRewardConfig
from models.rto.rollout import generate

DEVICE = torch.device(os.environ.get("RTO_DEVICE", "cpu"))
POLICY = DecoderConfig(
    layers=work.LAYERS,
    width=work.WIDTH,
    heads=work.HEADS,
    feed_forward_width=work.FEED_FORWARD,
    context=work.DPO_PROMPT + work.DPO_RESPONSE,
)
OPTIMIZER = OptimizerConfig(learning_rate=work.LEARNING_RATE, schedule="constant")


def synchronised(call: Callable[[], object]) -> Callable[[], None]:
    """The call, over when its result is there."""

    def run() -> None:
        call()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return run


def prepare_generation(precision: str) -> Callable[[], object]:
    torch.manual_seed(0)
    policy = make_policy(POLICY, work.VOCABULARY).to(DEVICE)
    prompts_BP, real_BP = padded_prompts(work.make_prompts(work.GENERATED, work.GENERATED_PROMPT))
    prompts_BP, real_BP = prompts_BP.to(DEVICE), real_BP.to(DEVICE)
    random = torch.Generator().manual_seed(0)

    def sample() -> None:
        shape = (work.GENERATED, 1, work.GENERATED_RESPONSE)
        uniforms_BGR = torch.rand(shape, generator=random, dtype=torch.float64)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
            generate(
                policy, prompts_BP, real_BP, group=1, most=work.GENERATED_RESPONSE, least=0, end=None,
                uniforms_BGR=uniforms_BGR,
            )  # fmt: skip

    return sample


def make_world(precision: str, inputs: dict[str, Path], start_from: Path) -> World:
    cluster = Cluster(name="benchmark", workers=1, engine="torch", precision=precision)
    return World(
        rank=0,
        size=1,
        device=DEVICE,
        seed=0,
        inputs=inputs,
        start_from=start_from,
        fingerprints={},
        make_engine=engine_factory(cluster, DEVICE),
        mean=collectives.mean,
        sum=collectives.total,
        gather=collectives.gather,
        exchange=collectives.exchange,
        clock=monotonic,
    )


def new_folder(module: torch.nn.Module | None = None) -> Path:
    """A folder, with the module's weights as a stage leaves them."""
    folder = Path(tempfile.mkdtemp())
    if module is not None:
        save_file(module.state_dict(), folder / "weights.safetensors")
    return folder


@cache
def start_folder() -> Path:
    torch.manual_seed(0)
    return new_folder(make_policy(POLICY, work.VOCABULARY))


def write_preferences(pairs: list[work.Pair]) -> Path:
    ragged = Pairs(*(Ragged.of([getattr(pair, part) for pair in pairs]) for part in ("prompt", "chosen", "rejected")))
    folder = new_folder()
    task = BigramTask(symbols=work.VOCABULARY - 4, length=work.PPO_RESPONSE)
    Preferences(
        train=ragged,
        held_out=ragged,
        demonstration_prompts=ragged.prompts,
        demonstrations=ragged.chosen,
        vocabulary=work.VOCABULARY,
        end=None,
        about={"task": task.model_dump(mode="json"), "tokenizer": {}},
    ).write(folder)
    return folder


def prepare_dpo(kind: work.Work, precision: str, micro: int) -> Callable[[], object]:
    steps = 1000
    stage = DpoStage(
        policy=POLICY,
        max_steps=steps,
        batch_size=work.DPO_PAIRS,
        micro_batch=micro,
        beta=work.BETA,
        reference="cached" if kind.cached else "live",
        optimizer=OPTIMIZER,
    )
    data = write_preferences(work.make_pairs(work.DPO_PAIRS * 64, mixed=kind.mixed))
    return stage.build(make_world(precision, {"preferences": data}, start_folder())).step


def prepare_ppo(kind: work.Work, precision: str, micro: int) -> Callable[[], object]:
    """An iteration at a call. Without a truth, as for files: nothing but PPO's own work is timed."""
    stage = PpoStage(
        policy=POLICY,
        scorer=POLICY,
        reward_model_form="last_token",
        reward=TokenRewardConfig(layout="ppo", beta1=0.0),
        score=ScoreConfig(normalise="none"),
        max_steps=1_000_000,
        iterations=1_000_000 // (kind.epochs * kind.minibatches),
        batch_size=work.PPO_PROMPTS // kind.minibatches,
        micro_batch=micro,
        minibatches=kind.minibatches,
        epochs=kind.epochs,
        most_response=work.PPO_RESPONSE,
        optimizer=OPTIMIZER,
        critic=CriticConfig(optimizer=OPTIMIZER),
        gae_lambda=0.95,
        reduction="token",
    )
    prompts = work.make_prompts(work.PPO_PROMPTS * 64, work.PPO_PROMPT)
    responses = work.make_prompts(2 * len(prompts), work.PPO_RESPONSE, seed=1)
    pairs = [work.Pair(*parts) for parts in zip(prompts, responses[::2], responses[1::2], strict=True)]
    torch.manual_seed(1)
    scorer = make_reward_model(POLICY, work.VOCABULARY, "last_token")
    # As transformers does it. Were all scores 0, the critic would learn from subnormal numbers, several times slower.
    torch.nn.init.normal_(scorer.head.weight, std=0.02)
    inputs = {"preferences": write_preferences(pairs), "reward_model": new_folder(scorer)}
    learner = stage.build(make_world(precision, inputs, start_folder()))

    def iteration() -> None:
        for _ in range(stage.updates):
            learner.step()

    return iteration


def prepare(request: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    name, precision = request["work"], request["precision"]
    kind = work.WORK[name]
    calls = {
        "dpo": lambda: prepare_dpo(kind, precision, request["micro"]),
        "ppo": lambda: prepare_ppo(kind, precision, request["micro"]),
        "generation": lambda: prepare_generation(precision),
    }
    call = synchronised(calls[name.split("-")[0]]())
    call()
    call()
    return lambda repeats: work.timed(call, repeats)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        work.serve(prepare)
