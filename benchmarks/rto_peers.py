"""Writes what peers make of random inputs, value by value, for `tests/models/rto/test_peers.py`.

    python3 -m venv VENV && VENV/bin/pip install torch==2.13.0 PACKAGES
    OMP_NUM_THREADS=1 VENV/bin/python benchmarks/rto_peers.py PEER      # -> tests/models/rto/peers/PEER.json

| PEER     | PACKAGES                                                                                     |
|----------|----------------------------------------------------------------------------------------------|
| trl      | trl==1.16.0 transformers==5.23.0                                                             |
| trl-0.28 | trl==0.28.0 transformers==4.57.3 datasets==4.5.0 accelerate==1.12.0                          |
| torchrl  | torchrl==0.14.1                                                                              |
| verl     | --no-deps verl==0.7.1; then ray omegaconf codetiming packaging transformers 'tensordict<0.11' |

TRL 1.16 has no label smoothing in its sigmoid loss (cDPO), which 0.28 had. No peer has R-DPO or TDPO. All inputs are
float64. verl's dual clip, which PPO does not have, is set out of reach.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

# S responses, or pairs of them   R tokens of a response, padded on the right   T = R + 1 states

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "models" / "rto" / "peers"
PAIRS, RESPONSES, TOKENS = 12, 8, 11
BETAS = (0.1, 0.5, 2.5)

Numbers = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    peer = parser.parse_args().peer
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    package = peer.split("-")[0]
    told = {
        "command": f"VENV/bin/python benchmarks/rto_peers.py {peer}",
        "versions": {name: version(name) for name in (package, "torch")},
        **PEERS[peer](),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{peer}.json").write_text(json.dumps(as_lists(told), indent=1) + "\n")


def as_lists(value: Any) -> Any:
    """The value with lists for tensors; a float's JSON reads back as the same float."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: as_lists(part) for key, part in value.items()}
    return [as_lists(part) for part in value] if isinstance(value, list) else value


def draw_real(rows: int) -> Tensor:
    """Which tokens are real [S, R]: from one to all of them."""
    lengths_S = torch.randint(1, TOKENS + 1, (rows,))
    lengths_S[:2] = torch.tensor([1, TOKENS])
    return torch.arange(TOKENS) < lengths_S[:, None]


def draw_log_probs(real_SR: Tensor) -> Tensor:
    return torch.where(real_SR, -3.0 * torch.rand(real_SR.shape), 0.0)


def with_gradient(loss: Callable[[Tensor], Tensor], of: Tensor) -> tuple[Tensor, Tensor]:
    """The losses and the gradient of their sum."""
    of = of.clone().requires_grad_()
    losses = loss(of)
    (gradient,) = torch.autograd.grad(losses.sum(), of)
    return losses.detach(), gradient


def draw_pairs() -> dict[str, Tensor]:
    """Log-probabilities of each token of chosen and rejected responses, by policy and reference; else zero."""
    real = {side: draw_real(PAIRS) for side in ("chosen", "rejected")}
    drawn = {f"{side}_real_SR": real_SR for side, real_SR in real.items()}
    for side, real_SR in real.items():
        drawn |= {f"{whose}_{side}_SR": draw_log_probs(real_SR) for whose in ("policy", "reference")}
    return drawn


def trl() -> Numbers:
    """Losses of `DPOTrainer._compute_loss`, one pair at a time, around a model that returns the drawn numbers."""
    from trl import DPOTrainer
    from trl.experimental.cpo import CPOTrainer

    drawn = draw_pairs()
    sums = {name: drawn[f"reference_{name}_SR"].sum(dim=1) for name in ("chosen", "rejected")}

    def loss(kind: str, beta: float, smoothing: float, chosen_SR: Tensor) -> Tensor:
        each = []
        for row in range(PAIRS):
            per_token = torch.stack([chosen_SR[row], drawn["policy_rejected_SR"][row]])
            real = torch.stack([drawn["chosen_real_SR"][row], drawn["rejected_real_SR"][row]]).long()
            trainer = SimpleNamespace(
                model=SimpleNamespace(training=True),
                accelerator=SimpleNamespace(
                    device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
                ),
                aux_loss_enabled=False,
                ld_alpha=None,
                precompute_ref_logps=True,
                f_divergence_type="reverse_kl",
                loss_types=[kind],
                loss_weights=[1.0],
                beta=beta,
                label_smoothing=smoothing,
                use_weighting=False,
                _metrics=defaultdict(lambda: defaultdict(list)),
                _total_train_tokens=0,
                _tp_size=1,
            )
            prompt = torch.zeros(2, 1, dtype=torch.long)  # one token, of which nothing is asked
            inputs = {
                "input_ids": torch.cat([prompt, torch.ones_like(real)], dim=1),
                "attention_mask": torch.cat([prompt + 1, real], dim=1),
                "completion_mask": torch.cat([prompt, real], dim=1),
                "ref_chosen_logps": sums["chosen"][row : row + 1],
                "ref_rejected_logps": sums["rejected"][row : row + 1],
            }
            outputs = SimpleNamespace(
                log_probs=per_token, entropy=per_token, mean_logits=per_token, is_top1=per_token > 0
            )
            compute = DPOTrainer._compute_loss
            each.append(compute(trainer, lambda outputs=outputs, **_: outputs, inputs, return_outputs=False))
        return torch.stack(each)

    def simpo(beta: float, margin: float, chosen_SR: Tensor) -> Tensor:
        def mean(log_probs_SR: Tensor, side: str) -> Tensor:
            return log_probs_SR.sum(dim=1) / drawn[f"{side}_real_SR"].sum(dim=1)

        trainer = SimpleNamespace(
            alpha=0.0, beta=beta, simpo_gamma=margin, loss_type="simpo", label_smoothing=0.0,
            accelerator=SimpleNamespace(device=torch.device("cpu")),
        )  # fmt: skip
        means = mean(chosen_SR, "chosen"), mean(drawn["policy_rejected_SR"], "rejected")
        return CPOTrainer.cpo_loss(trainer, *means)[0]

    found = []
    for beta in BETAS:
        ways: dict[tuple[str, float], Callable[[Tensor], Tensor]] = {
            ("sigmoid", 0.0): lambda x, beta=beta: loss("sigmoid", beta, 0.0, x),
            ("ipo", 0.0): lambda x, beta=beta: loss("ipo", beta, 0.0, x),
            ("robust", 0.2): lambda x, beta=beta: loss("robust", beta, 0.2, x),
            ("simpo", 0.5): lambda x, beta=beta: simpo(beta, 0.5, x),
        }
        for (kind, setting), way in ways.items():
            losses_S, gradient_SR = with_gradient(way, drawn["policy_chosen_SR"])
            found.append(
                {"loss": kind, "beta": beta, "setting": setting, "losses_S": losses_S, "gradient_SR": gradient_SR}
            )
    return {"inputs": drawn, "losses": found}


def trl_with_label_smoothing() -> Numbers:
    """Losses of `DPOTrainer.dpo_loss` as it last was a method: sigmoid with label smoothing, which is cDPO."""
    from trl import DPOTrainer

    drawn = draw_pairs()
    sums = {name: numbers.sum(dim=1) for name, numbers in drawn.items() if not name.endswith("_real_SR")}

    def loss(beta: float, smoothing: float, chosen_S: Tensor) -> Tensor:
        trainer = SimpleNamespace(
            accelerator=SimpleNamespace(device=torch.device("cpu")), beta=beta, label_smoothing=smoothing,
            reference_free=False, f_divergence_type="reverse_kl", f_divergence_params=None,
        )  # fmt: skip
        return DPOTrainer.dpo_loss(
            trainer, chosen_S, sums["policy_rejected_SR"], sums["reference_chosen_SR"], sums["reference_rejected_SR"]
        )[0]

    found = []
    for beta in BETAS:
        for smoothing in (0.0, 0.1, 0.3):
            losses_S, gradient_S = with_gradient(
                lambda x, beta=beta, smoothing=smoothing: loss(beta, smoothing, x), sums["policy_chosen_SR"]
            )
            found.append({"beta": beta, "smoothing": smoothing, "losses_S": losses_S, "gradient_S": gradient_S})
    return {"inputs": drawn, "losses": found}


def torchrl() -> Numbers:
    """`generalized_advantage_estimate`, a response at a time; one is cut off, so that its last value counts."""
    from torchrl.objectives.value.functional import generalized_advantage_estimate

    real_SR = draw_real(RESPONSES)
    reward_SR = torch.where(real_SR, torch.randn(real_SR.shape), 0.0)
    value_ST = torch.randn(RESPONSES, TOKENS + 1)
    bootstrap_S = torch.arange(RESPONSES) % 3 == 0
    found = []
    for discount, gae_lambda in ((1.0, 0.95), (1.0, 1.0), (0.97, 0.9), (0.9, 0.0)):
        advantage_SR, target_SR = torch.zeros_like(reward_SR), torch.zeros_like(reward_SR)
        for row in range(RESPONSES):
            length = int(real_SR[row].sum())
            done = torch.arange(length) == length - 1
            advantage, target = generalized_advantage_estimate(
                discount,
                gae_lambda,
                value_ST[row, :length].view(1, -1, 1),
                value_ST[row, 1 : length + 1].view(1, -1, 1),
                reward_SR[row, :length].view(1, -1, 1),
                done=done.view(1, -1, 1),
                terminated=(done & ~bootstrap_S[row]).view(1, -1, 1),
            )
            advantage_SR[row, :length], target_SR[row, :length] = advantage.flatten(), target.flatten()
        found.append({"discount": discount, "lambda": gae_lambda, "advantage_SR": advantage_SR, "target_SR": target_SR})
    drawn = {"real_SR": real_SR, "reward_SR": reward_SR, "value_ST": value_ST, "bootstrap_S": bootstrap_S}
    return {"inputs": drawn, "advantages": found}


def verl() -> Numbers:
    """PPO's losses for each token and over a batch, KL estimates, rewards with their KL part, whitened advantages."""
    from verl.trainer.ppo import core_algos

    real_SR = draw_real(RESPONSES)
    mask_SR = real_SR.to(torch.float64)
    drawn = {
        "real_SR": real_SR,
        "log_probs_SR": draw_log_probs(real_SR),
        "advantage_SR": torch.where(real_SR, torch.randn(real_SR.shape), 0.0),
        "value_SR": torch.randn(real_SR.shape),
        "reward_SR": torch.where(real_SR, torch.randn(real_SR.shape), 0.0),
    }
    drawn["old_log_probs_SR"] = torch.where(real_SR, drawn["log_probs_SR"] + 0.4 * torch.randn(real_SR.shape), 0.0)
    drawn["reference_SR"] = torch.where(real_SR, drawn["log_probs_SR"] + 0.8 * torch.randn(real_SR.shape), 0.0)
    drawn["old_value_SR"] = drawn["value_SR"] + 0.4 * torch.randn(real_SR.shape)
    drawn["return_SR"] = drawn["value_SR"] + torch.randn(real_SR.shape)
    reductions = {"token": "token-mean", "sequence": "seq-mean-token-mean"}

    def each(loss: Callable[[Tensor], Tensor]) -> Tensor:
        """What the loss is with each real token alone [S, R]."""
        alone_SR = torch.zeros_like(mask_SR)
        for row, column in real_SR.nonzero().tolist():
            only_SR = torch.zeros_like(mask_SR)
            only_SR[row, column] = 1.0
            alone_SR[row, column] = loss(only_SR)
        return alone_SR

    def policy_loss(log_probs_SR: Tensor, clip: float, mask: Tensor, mode: str) -> tuple[Tensor, float]:
        class Settings(SimpleNamespace):
            def get(self, name: str, default: Any) -> Any:
                return getattr(self, name, default)

        settings = Settings(
            clip_ratio=clip, clip_ratio_low=None, clip_ratio_high=None, clip_ratio_c=1e30, global_batch_info={}
        )
        loss, metrics = core_algos.compute_policy_loss_vanilla(
            drawn["old_log_probs_SR"], log_probs_SR, drawn["advantage_SR"], mask, mode, settings
        )
        return loss, metrics["actor/pg_clipfrac"]

    def value_loss(value_SR: Tensor, clip: float, mask: Tensor, mode: str) -> Tensor:
        return core_algos.compute_value_loss(value_SR, drawn["return_SR"], drawn["old_value_SR"], mask, clip, mode)[0]

    found: Numbers = {"policy": [], "value": [], "advantages": []}
    for clip in (0.1, 0.2, 0.5):
        policy: Numbers = {"clip": clip, "each_SR": each(lambda only, clip=clip: policy_loss(
            drawn["log_probs_SR"], clip, only, "token-mean")[0])}  # fmt: skip
        value: Numbers = {"clip": clip, "each_SR": each(lambda only, clip=clip: value_loss(
            drawn["value_SR"], clip, only, "token-mean"))}  # fmt: skip
        for reduction, mode in reductions.items():
            policy[reduction], policy[f"{reduction}_gradient_SR"] = with_gradient(
                lambda x, clip=clip, mode=mode: policy_loss(x, clip, mask_SR, mode)[0], drawn["log_probs_SR"]
            )
            value[reduction], value[f"{reduction}_gradient_SR"] = with_gradient(
                lambda x, clip=clip, mode=mode: value_loss(x, clip, mask_SR, mode), drawn["value_SR"]
            )
        found["policy"].append(policy)
        found["value"].append(value)
    for discount, gae_lambda in ((1.0, 0.95), (1.0, 1.0), (0.97, 0.9)):
        advantage_SR, return_SR = core_algos.compute_gae_advantage_return(
            drawn["reward_SR"], drawn["value_SR"], mask_SR, discount, gae_lambda
        )
        found["advantages"].append(
            {"discount": discount, "lambda": gae_lambda, "whitened_SR": advantage_SR, "return_SR": return_SR}
        )
    found["kl"] = {
        name: core_algos.kl_penalty(drawn["log_probs_SR"], drawn["reference_SR"], name) for name in ("k1", "k2", "k3")
    }
    found["reward_with_kl_SR"] = core_algos.compute_rewards(
        drawn["reward_SR"], drawn["log_probs_SR"], drawn["reference_SR"], 0.05
    )
    return {"inputs": drawn, **found}


PEERS: dict[str, Callable[[], Numbers]] = {
    "trl": trl,
    "trl-0.28": trl_with_label_smoothing,
    "torchrl": torchrl,
    "verl": verl,
}

if __name__ == "__main__":
    main()
