"""Actor, reference and DPO policy on one base, held against transformers' model with its weights merged by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infra.clusters import Cluster
from infra.engine import engine_factory
from models.common.errors import ConfigError
from models.rto import network
from models.rto.policies import FrozenPolicy, PolicySet, policies_for
from models.rto.policy_config import HuggingFaceConfig, LoraConfig
from models.rto.rollout import generate
from models.rto.sequences import Sequences
from tests.fixtures.ranks import run_ranks
from tests.models.rto.small_models import VOCABULARY, llama, one_by_one, saved, sequences, trained_folder, transformers

CPU = torch.device("cpu")
LORA = LoraConfig(rank=2, alpha=4.0)


def adapted(folder: Path) -> HuggingFaceConfig:
    config, _ = saved(folder, llama())
    return config.but(lora=LORA.model_dump())


def merged(config: HuggingFaceConfig, folder: Path | None) -> nn.Module:
    """transformers' model with the folder's adapter added to its weights by hand: W + (alpha / rank) B A."""
    model = transformers.AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32).eval()
    if folder is not None:
        weights = network.load_weights(folder)
        for name in [name for name in weights if ".lora_A." in name]:
            layer = name.removeprefix("backbone.model.").split(".lora_A.")[0]
            update = weights[name.replace(".lora_A.", ".lora_B.")] @ weights[name]
            model.base_model.get_submodule(layer).weight.data += LORA.alpha / LORA.rank * update
    return model


def logits_of(model: nn.Module, batch: Sequences) -> Tensor:
    rows = [
        model(input_ids=torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        for prompt, response in one_by_one(batch)
    ]
    return torch.cat(rows)


def shared(tmp_path: Path) -> tuple[HuggingFaceConfig, Path, Path, PolicySet]:
    config = adapted(tmp_path / "model")
    sft = trained_folder(tmp_path / "sft", network.make_policy(config, VOCABULARY))
    dpo = trained_folder(tmp_path / "dpo", network.read_policy(config, sft, VOCABULARY, CPU))
    return config, sft, dpo, policies_for(config, VOCABULARY, start_from=sft, dpo=dpo, device=CPU)


def test_actor_reference_and_dpo_share_one_base_and_are_each_the_merged_model(tmp_path: Path) -> None:
    config, sft, dpo, policies = shared(tmp_path)
    batch = sequences()
    assert policies.dpo is not None
    start, aligned = merged(config, sft), merged(config, dpo)
    assert not torch.allclose(logits_of(start, batch), logits_of(aligned, batch), atol=0.1)
    assert torch.allclose(policies.actor(batch), logits_of(start, batch), atol=1e-4)
    assert torch.allclose(policies.reference(batch), logits_of(start, batch), atol=1e-4)
    assert torch.allclose(policies.dpo(batch), logits_of(aligned, batch), atol=1e-4)
    assert torch.equal(policies.actor(batch), policies.reference(batch))
    large = [name for name, _ in policies.actor.named_parameters() if "lora" not in name]
    alone = [name for name, _ in transformers.AutoModelForCausalLM.from_pretrained(config.model).named_parameters()]
    assert len(large) == len(alone)  # one base


def test_without_a_start_the_reference_is_the_base(tmp_path: Path) -> None:
    config = adapted(tmp_path / "model")
    policies = policies_for(config, VOCABULARY, start_from=None, dpo=None, device=CPU)
    batch = sequences()
    assert policies.dpo is None
    assert torch.allclose(policies.reference(batch), logits_of(merged(config, None), batch), atol=1e-5)
    assert torch.equal(policies.actor(batch), policies.reference(batch))


def test_only_the_actors_adapter_is_trained_and_the_others_stay(tmp_path: Path) -> None:
    _, _, _, policies = shared(tmp_path)
    batch = sequences()
    assert policies.dpo is not None
    before = [policies.actor(batch), policies.reference(batch), policies.dpo(batch)]
    parameters = dict(policies.actor.named_parameters())
    trained = [name for name, p in parameters.items() if p.requires_grad]
    assert trained
    assert all(".lora_" in name and ".actor." in name for name in trained)
    loss = policies.actor(batch).logsumexp(-1).sum()
    policies.reference(batch)  # between a forward pass and its backward pass
    policies.dpo(batch)
    assert [name for name, p in parameters.items() if p.requires_grad] == trained
    loss.backward()
    assert [name for name, p in parameters.items() if p.grad is not None] == trained
    torch.optim.SGD([parameters[name] for name in trained], lr=0.1).step()
    after = [policies.actor(batch), policies.reference(batch), policies.dpo(batch)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, True]
    assert not after[1].requires_grad


def test_a_frozen_policy_decodes_with_its_own_adapter_and_gives_the_network_back_between_steps(tmp_path: Path) -> None:
    _, _, _, policies = shared(tmp_path)
    batch = sequences()
    actors = policies.actor(batch)

    class Watched:
        """The DPO policy; the actor is used between its steps."""

        vocabulary, context = VOCABULARY, 64

        def __call__(self, sequences: Sequences, /) -> Tensor:
            raise NotImplementedError

        def start_decoding(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> Any:
            assert policies.dpo is not None
            decoding = policies.dpo.start_decoding(prompts_BP, prompt_real_BP, group, most)
            append = decoding.append

            def appended(tokens_X: Tensor) -> None:
                assert torch.equal(policies.actor(batch), actors)
                append(tokens_X)

            decoding.append = appended  # pyright: ignore[reportAttributeAccessIssue]
            return decoding

    watched: FrozenPolicy = Watched()
    uniforms = torch.rand(3, 2, 6, dtype=torch.float64)
    rollout = generate(
        watched, batch.prompts_BP, batch.prompt_real_BP, group=2, most=6, least=0, end=None, uniforms_BGR=uniforms
    )
    assert policies.dpo is not None
    log_p_N = network.token_log_probs(policies.dpo(rollout.sequences), rollout.sequences.targets_N())
    assert torch.allclose(log_p_N, rollout.log_probs_BGR.flatten(), atol=1e-5)


def test_a_later_stage_goes_on_with_the_adapter_and_its_folder_is_the_whole_policy(tmp_path: Path) -> None:
    config, sft, dpo, policies = shared(tmp_path)
    folder = trained_folder(tmp_path / "ppo", policies.actor)
    assert network.load_weights(folder).keys() == network.load_weights(sft).keys() == network.load_weights(dpo).keys()
    batch = sequences()
    policy = network.read_policy(config, folder, VOCABULARY, CPU)
    assert torch.allclose(policy(batch), logits_of(merged(config, folder), batch), atol=1e-4)


def test_a_critic_with_adapters_starts_from_a_reward_model_with_adapters(tmp_path: Path) -> None:
    config = adapted(tmp_path / "model")
    scorer = network.make_reward_model(config, VOCABULARY, "last_token")
    folder = trained_folder(tmp_path / "rm", scorer)
    assert "head.weight" in network.load_weights(folder)
    critic = network.start_critic(config, VOCABULARY, folder, "reward_model")
    read = network.read_reward_model(config, folder, VOCABULARY, "last_token", CPU)
    batch = sequences()
    assert (critic(batch) == 0).all()
    critic.head.weight.data.copy_(read.model.head.weight)
    last_BG = critic(batch).gather(-1, batch.lengths_BG[..., None]).squeeze(-1)
    assert torch.allclose(last_BG, read.model(batch), atol=1e-6)


def test_frozen_networks_follow_the_actors_precision(tmp_path: Path) -> None:
    config, _ = saved(tmp_path / "model", llama())
    policies = policies_for(config.but(recompute=True), VOCABULARY, start_from=None, dpo=None, device=CPU)
    policies.actor.to(torch.bfloat16)
    policies.follow_actor()
    batch = sequences()
    assert torch.equal(policies.actor(batch), policies.reference(batch))


def test_adapters_of_another_rank_are_refused(tmp_path: Path) -> None:
    config, sft, _, _ = shared(tmp_path)
    with pytest.raises(ConfigError, match="do not fit"):
        network.read_policy(config.but(lora={"rank": 3}), sft, VOCABULARY, CPU)


# On the engines of two workers


STEPS = 3
ENGINES = {
    "torch": Cluster(name="t", workers=2, engine="torch"),
    "zero-0": Cluster(name="z", workers=2, zero_stage=0),
    "zero-2": Cluster(name="z", workers=2, zero_stage=2),
    "zero-3": Cluster(name="z", workers=2, zero_stage=3),
    "zero-2-bf16": Cluster(name="z", workers=2, zero_stage=2, precision="bf16"),
}


def _train_on(cluster: Cluster, config: HuggingFaceConfig, sft: Path, dpo: Path) -> dict[str, Any]:
    policies = policies_for(config, VOCABULARY, start_from=sft, dpo=dpo, device=CPU)
    assert policies.dpo is not None
    make = engine_factory(cluster, CPU)
    engine = make(policies.actor, lambda parameters: torch.optim.SGD(parameters, lr=0.1), clip_norm=1.0)
    policies.follow_actor()
    torch.manual_seed(5)
    batch = sequences()
    frozen = [policies.reference(batch).clone(), policies.dpo(batch).clone()]
    first = engine(batch).detach().clone()
    losses = []
    for _ in range(STEPS):
        logits_NV = engine(batch)
        policies.reference(batch)  # as in a step: between the actor's forward and backward pass
        loss = -network.token_log_probs(logits_NV, batch.targets_N()).mean()
        policies.dpo(batch)
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return {
        "agreed": torch.equal(first, frozen[0]),
        "stood": [torch.equal(frozen[0], policies.reference(batch)), torch.equal(frozen[1], policies.dpo(batch))],
        "losses": losses,
        "weights": engine.weights(),
    }


def _on_all_engines(rank: int, config: HuggingFaceConfig, sft: Path, dpo: Path) -> dict[str, Any]:
    return {name: _train_on(cluster, config, sft, dpo) for name, cluster in ENGINES.items()}


def test_adapters_are_trained_alike_on_every_engine_and_nothing_else_is(tmp_path: Path) -> None:
    config, sft, dpo, policies = shared(tmp_path)
    found = run_ranks(_on_all_engines, 2, config, sft, dpo)[0]
    names = {name for name, p in policies.actor.named_parameters() if p.requires_grad}
    for name, one in found.items():
        assert one["agreed"], name  # before the first step
        assert one["stood"] == [True, True], name
        assert one["losses"][-1] < one["losses"][0], name
        assert one["weights"].keys() == names, name
        exact = "bf16" not in name
        assert one["losses"] == pytest.approx(found["torch"]["losses"], rel=1e-4 if exact else 0.05), name
        for key in names if exact else ():
            assert torch.allclose(one["weights"][key], found["torch"]["weights"][key], atol=1e-5), (name, key)
