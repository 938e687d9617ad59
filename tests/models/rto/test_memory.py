"""What a stage needs, held against real modules, published counts and sums by hand."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.common.contract import WorkerGroup
from models.common.errors import ConfigError
from models.rto import network
from models.rto.config import DpoStage, PpoStage, RewardModelStage, SftStage
from models.rto.memory import TASK_VOCABULARY, policy_shape
from models.rto.policy_config import DecoderConfig, HuggingFaceConfig, LoraConfig, PolicyConfig
from models.rto.reward_config import ScoreConfig, TokenRewardConfig

transformers: Any = importlib.import_module("transformers")

GIB = 2**30
LLAMA_8B = HuggingFaceConfig(model="OpenRLHF/Llama-3-8b-sft-mixture", recompute=True)
ALONE = WorkerGroup(workers=1)


def count(module: nn.Module, *, trained: bool = False) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not trained)


def folder_of(shape: Any, folder: Path) -> HuggingFaceConfig:
    """A folder with this config and no weights."""
    shape.save_pretrained(folder)
    return HuggingFaceConfig(model=str(folder), context=64, weights="random")


def small_llama(folder: Path, **changes: Any) -> HuggingFaceConfig:
    options = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 29} | changes
    return folder_of(transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **options), folder)


@pytest.mark.parametrize("tied", [False, True])
def test_a_decoder_has_as_many_parameters_as_the_formula_says(tied: bool) -> None:
    config = DecoderConfig(layers=3, width=24, heads=3, feed_forward_width=40, tied=tied)
    shape = policy_shape(config)
    assert shape is not None
    assert shape.parameters == shape.trained == count(network.make_policy(config, TASK_VOCABULARY))
    assert shape.without_head(1).parameters == count(network.make_critic(config, TASK_VOCABULARY))
    scorer = network.make_reward_model(config, TASK_VOCABULARY, "token_sum")
    assert shape.without_head(TASK_VOCABULARY).parameters == count(scorer)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=3), LoraConfig(rank=2, targets=("q_proj", "down_proj"))])
@pytest.mark.parametrize("tied", [False, True])
def test_a_hugging_face_model_is_counted_without_its_weights(
    tied: bool, lora: LoraConfig | None, tmp_path: Path
) -> None:
    config = small_llama(tmp_path, tie_word_embeddings=tied).but(lora=None if lora is None else lora.model_dump())
    shape = policy_shape(config)
    assert shape is not None
    policy, critic = network.make_policy(config, 29), network.make_critic(config, 29)
    assert (shape.parameters, shape.trained) == (count(policy), count(policy, trained=True))
    headless = shape.without_head(1)
    assert (headless.parameters, headless.trained) == (count(critic), count(critic, trained=True))


def test_the_published_counts_of_the_papers_models_are_reproduced(tmp_path: Path) -> None:
    llama = transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    pythia = transformers.GPTNeoXConfig(
        vocab_size=50_304, hidden_size=2560, intermediate_size=10_240, num_hidden_layers=32, num_attention_heads=32
    )
    found = [
        policy_shape(folder_of(llama, tmp_path / "llama")),
        policy_shape(folder_of(pythia, tmp_path / "pythia")),
        policy_shape(LLAMA_8B),  # names that need neither a folder nor the Hub
        policy_shape(HuggingFaceConfig(model="EleutherAI/pythia-2.8b")),
        policy_shape(HuggingFaceConfig(model="meta-llama/Llama-3.2-1B-Instruct")),
    ]
    parameters = [shape.parameters for shape in found if shape is not None]
    assert parameters == [8_030_261_248, 2_775_208_960, 8_030_261_248, 2_775_208_960, 1_235_814_400]


def test_a_model_that_is_not_at_hand_cannot_be_told() -> None:
    elsewhere = HuggingFaceConfig(model="nobody/has-this-model")
    stages = (SftStage(policy=elsewhere), RewardModelStage(network=elsewhere), DpoStage(policy=elsewhere))
    assert [stage.bytes_per_worker(ALONE) for stage in (*stages, PpoStage(scorer=elsewhere))] == [0, 0, 0, 0]


def test_a_context_beyond_the_models_positions_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="8192 positions"):
        SftStage(policy=LLAMA_8B.but(context=8193)).bytes_per_worker(ALONE)


def test_what_zero_splits_is_what_rajbhandari_and_others_count() -> None:
    """Their section 3.1 and figure 1: 16 bytes a parameter, of which 12, 14 and 16 are split."""
    stage = SftStage(policy=LLAMA_8B, batch_size=64, micro_batch=1)
    needs = {
        (workers, zero): stage.bytes_per_worker(WorkerGroup(workers, zero, "bf16"))
        for workers in (1, 64)
        for zero in (1, 2, 3)
    }
    saved = {zero: (needs[1, zero] - needs[64, zero]) / 8_030_261_248 for zero in (1, 2, 3)}
    assert saved == pytest.approx({1: 12 * 63 / 64, 2: 14 * 63 / 64, 3: 16 * 63 / 64}, rel=1e-6)


@pytest.mark.parametrize("policy", [DecoderConfig(layers=2, width=64, heads=4, feed_forward_width=172, context=128)])
def test_activations_are_at_least_what_autograd_keeps_and_at_most_twice_that(policy: PolicyConfig) -> None:
    from models.rto.sequences import Sequences

    rows, prompt, response = 8, 28, 100
    assert isinstance(policy, DecoderConfig)
    actor = network.make_policy(policy, TASK_VOCABULARY)
    batch = Sequences(
        torch.zeros(rows, prompt, dtype=torch.long),
        torch.ones(rows, prompt, dtype=torch.bool),
        torch.zeros(rows, 1, response, dtype=torch.long),
        torch.ones(rows, 1, response, dtype=torch.bool),
    )
    weights = {parameter.data_ptr() for parameter in actor.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = network.token_log_probs(actor(batch), batch.targets_N()).sum()
    stage = SftStage(policy=policy, batch_size=rows)
    comes = stage.bytes_per_worker(ALONE) - 16 * count(actor)
    assert loss.requires_grad
    assert sum(kept.values()) < comes < 2.5 * sum(kept.values())


def test_a_smaller_micro_batch_and_recomputed_activations_need_less() -> None:
    whole = DpoStage(policy=LLAMA_8B.but(recompute=False), batch_size=16)
    half = whole.but(micro_batch=8)
    recomputed = DpoStage(policy=LLAMA_8B, batch_size=16)
    needs = [stage.bytes_per_worker(WorkerGroup(1, 3, "bf16")) for stage in (recomputed, half, whole)]
    assert needs[1] < needs[2]
    assert needs[0] < needs[2]


def test_a_live_reference_is_one_more_copy_of_the_policy() -> None:
    group = WorkerGroup(8, 2, "bf16")
    stage = DpoStage(policy=LLAMA_8B, reference="live")
    cached = stage.but(reference="cached").bytes_per_worker(group)
    assert stage.bytes_per_worker(group) - cached == 2 * 8_030_261_248
    assert stage.but(loss="simpo").bytes_per_worker(group) == cached


def test_each_network_of_ppo_is_counted_only_where_it_is_used() -> None:
    group = WorkerGroup(8, 2, "bf16")
    scorer = HuggingFaceConfig(model="meta-llama/Llama-3.2-1B-Instruct", recompute=True)
    stage = PpoStage(policy=LLAMA_8B, scorer=scorer, reward_model_form="last_token", micro_batch=1)
    whole = stage.bytes_per_worker(group)
    actor, headless = 8_030_261_248, 1_235_814_400 + 2048
    without_dpo = stage.but(reward=TokenRewardConfig(beta1=0.0).model_dump()).bytes_per_worker(group)
    assert whole - without_dpo == 2 * actor
    assert stage.but(reward=TokenRewardConfig(layout="ppo").model_dump()).bytes_per_worker(group) == without_dpo
    without_model = stage.but(score=ScoreConfig(source="function").model_dump()).bytes_per_worker(group)
    assert whole - without_model == 2 * headless
    without_critic = stage.but(algorithm="reinforce").bytes_per_worker(group)
    assert whole - without_critic == pytest.approx((2 + 14 / 8) * headless, rel=1e-6)


def test_adapters_on_one_base_fit_where_three_copies_do_not() -> None:
    group = WorkerGroup(1, 1, "bf16")
    scorer = HuggingFaceConfig(model="meta-llama/Llama-3.2-1B-Instruct", recompute=True)
    stage = PpoStage(policy=LLAMA_8B, scorer=scorer, reward_model_form="last_token", micro_batch=1, batch_size=16)
    lora = LLAMA_8B.but(lora={"rank": 32, "alpha": 64.0})
    assert stage.bytes_per_worker(group) > 150 * GIB
    assert stage.but(policy=lora.model_dump(), scorer=scorer.model_dump()).bytes_per_worker(group) < 80 * GIB


def test_a_decoder_is_told_without_torch() -> None:
    code = (
        "import sys; from models.rto.config import PpoStage; from models.common.contract import WorkerGroup\n"
        "assert PpoStage().bytes_per_worker(WorkerGroup(2)) > 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_rollout_needs_the_keys_and_values_of_what_is_written_at_once() -> None:
    """Llama-3-8B: 2 x 32 layers x 8 heads x 128 numbers of 2 bytes, 128 KiB a token."""
    group = WorkerGroup(1, 1, "bf16")
    score = ScoreConfig(source="function")
    stage = PpoStage(policy=LLAMA_8B, algorithm="reinforce", score=score, batch_size=64, most_response=16)
    some, more = (stage.but(micro_batch=n, minibatches=16).bytes_per_worker(group) for n in (4, 8))
    step = 128_256 * (2 + 8 + 8)
    assert more - some == 32 * (2048 * 131_072 * 33 / 32 + step)
    few = stage.but(micro_batch=8, minibatches=2, batch_size=16).bytes_per_worker(group)  # not more than there are
    assert more - few == 32 * (2048 * 131_072 * 33 / 32 + step)
