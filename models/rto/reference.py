"""The reference of DPO: its log-probabilities of all pairs, computed once, or its logits, anew in each step."""

# B pairs   2 chosen, rejected   N real response tokens   V vocabulary

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.common.contract import World
from models.common.errors import CheckpointError, TrainingError
from models.common.rows import Rows
from models.rto.batches import over_pairs
from models.rto.network import token_log_probs
from models.rto.policies import FrozenPolicy
from models.rto.preferences import Pairs
from models.rto.sequences import Sequences

# Nats a token that policy and reference may differ by before the first step, by what they compute in.
SAME = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2}


def response_log_probs(logits_NV: Tensor, batch: Sequences) -> Tensor:
    """log p of each response, the sum over its tokens, [B, G]."""
    return batch.spread(token_log_probs(logits_NV, batch.targets_N())).sum(dim=-1)


class CachedReference:
    """The reference's log-probability of each response, which the policy itself tells before its first step.

    It is kept with the checkpoints: at a resume the policy is the reference no longer.
    """

    def __init__(self, pairs: Pairs, world: World, at_once: int) -> None:
        self.pairs = pairs
        self.world = world
        self.at_once = at_once
        self.fingerprint = world.fingerprints.get("start_from", "pretrained")
        self.log_probs: Tensor | None = None  # [pairs, 2]

    def of(self, rows_B: Rows, policy: Callable[[Sequences], Tensor]) -> Tensor:
        """log pi_ref of these pairs [B, 2]. policy: as it was before its first step, where the cache is still empty."""
        if self.log_probs is None:
            self.log_probs = over_pairs(
                self.pairs, self.world, self.at_once, lambda batch: response_log_probs(policy(batch), batch)
            )
        return self.log_probs[torch.from_numpy(rows_B)].to(self.world.device)

    def state_dict(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "log_probs": self.log_probs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"the checkpoint holds log-probabilities of reference {state['fingerprint'][:12]}, and this stage "
                f"starts from {self.fingerprint[:12]}\nstart from the same policy again, or begin under a new run key"
            )
        self.log_probs = state["log_probs"]


def live_logits(reference: FrozenPolicy, batch: Sequences, like_NV: Tensor) -> Tensor:
    """The reference's logits [N, V], in the precision that the policy's were computed in."""
    lower = like_NV.dtype in (torch.bfloat16, torch.float16)
    with torch.no_grad(), torch.autocast(like_NV.device.type, dtype=like_NV.dtype if lower else None, enabled=lower):
        return reference(batch)


def check_agreement(log_ratios_B2: Tensor, lengths_B2: Tensor, dtype: torch.dtype) -> None:
    """Raises TrainingError where policy and reference differ before the first step.

    They are the same weights then: a loss other than log 2 would come from something that is wrong, and train on it.
    """
    found = float((log_ratios_B2.detach().abs() / lengths_B2).max())
    most = SAME.get(dtype, SAME[torch.bfloat16])
    if not found <= most:
        raise TrainingError(
            f"step 0: policy and reference, which have the same weights, differ by {found:.2g} nats a token in some "
            f"response; what fits is at most {most:g} in {str(dtype).removeprefix('torch.')}\n"
            "their forward passes are not alike: look for dropout in the model, and try dpo.reference=cached"
        )
