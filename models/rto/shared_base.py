"""Actor, reference and DPO policy as adapters on one frozen base (Hu et al. 2021): one network in memory, not three."""

# B prompts   G responses of each   P prompt tokens   N real response tokens   V vocabulary   D width
# X rows that are being decoded

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.common.weights import load_weights
from models.rto.huggingface import TRAINED, DecodingCache, backbone_of, build_policy
from models.rto.network import Decoding, Policy, load_into
from models.rto.policies import PolicySet
from models.rto.policy_config import HuggingFaceConfig
from models.rto.sequences import Sequences

REFERENCE = "reference"
DPO = "dpo"


def policies_on_one_base(
    config: HuggingFaceConfig, vocabulary: int, *, start_from: Path | None, dpo: Path | None, device: torch.device
) -> PolicySet:
    """The policies as adapters on one frozen base.

    The actor's adapter goes on from the one in `start_from`, of which the reference keeps a frozen copy. Where there
    is none, the reference is the base itself. Each stage's folder therefore is the whole policy beside the base.
    """
    wanted = {TRAINED: start_from, REFERENCE: start_from, DPO: dpo}
    adapters = [name for name, folder in wanted.items() if folder is not None or name == TRAINED]
    policy = build_policy(config, vocabulary, pretrained=True, adapters=adapters)
    for name in adapters:
        folder = wanted[name]
        if folder is not None:
            trained = load_weights(folder)
            with backbone_of(policy).using(name):  # the only one that requires a gradient here: what is to be loaded
                load_into(policy, {key.replace(f".{TRAINED}.", f".{name}."): trained[key] for key in trained}, folder)
    policy.to(device)
    reference = SharedPolicy(policy, None if start_from is None else REFERENCE)
    return PolicySet(policy, reference, None if dpo is None else SharedPolicy(policy, DPO))


@dataclass(frozen=True)
class SharedPolicy:
    """A frozen policy: another one's network with an adapter of its own, or with none. It makes no gradients."""

    policy: Policy
    adapter: str | None

    @property
    def vocabulary(self) -> int:
        return self.policy.vocabulary

    @property
    def context(self) -> int:
        return self.policy.context

    @torch.no_grad()
    def __call__(self, sequences: Sequences, /) -> Tensor:
        with backbone_of(self.policy).using(self.adapter):
            return self.policy(sequences)

    @torch.no_grad()
    def start_decoding(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> Decoding:
        backbone = backbone_of(self.policy)
        with backbone.using(self.adapter):
            cache, states_XD = backbone.prefill(prompts_BP, prompt_real_BP, group, most)
        return SharedDecoding(self.policy, cache, states_XD, self.adapter)


class SharedDecoding(Decoding):
    """Decoding with an adapter that is used for each step only: between them the network is another policy's."""

    def __init__(self, policy: Policy, cache: DecodingCache, states_XD: Tensor, adapter: str | None) -> None:
        super().__init__(policy, cache, states_XD)
        self.adapter = adapter

    @torch.no_grad()
    def append(self, tokens_X: Tensor) -> None:
        with backbone_of(self.policy).using(self.adapter):
            super().append(tokens_X)
