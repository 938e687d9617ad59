"""What was run: `tiny` tries the pipeline in seconds, `laptop` shows the effect in minutes."""

from pathlib import Path

from models.common.optimizer_config import OptimizerConfig
from models.rto.config import (
    DpoConfig,
    DpoGatesConfig,
    GatesConfig,
    RewardModelConfig,
    RtoConfig,
    SftConfig,
    StudyConfig,
)
from models.rto.data_config import (
    BigramTask,
    LengthTrapTask,
    PreferenceData,
    PreferenceFiles,
    TransductionTask,
)
from models.rto.policy_config import DecoderConfig, HuggingFaceConfig, LoraConfig
from models.rto.ppo_config import CriticConfig, PpoConfig
from models.rto.reward_config import ScoreConfig, TokenRewardConfig


def tiny() -> RtoConfig:
    """Every stage in seconds; too short to show the effect, so that its gates are open."""
    rate = OptimizerConfig(learning_rate=3e-3, schedule="constant")
    return RtoConfig(
        data=PreferenceData(task=BigramTask(length=12), pairs=256, held_out_pairs=64, demonstrations=256),
        policy=DecoderConfig(layers=1, width=32, heads=2, feed_forward_width=64, context=16),
        sft=SftConfig(max_steps=40, batch_size=32, optimizer=rate),
        reward_model=RewardModelConfig(max_steps=30, batch_size=32, optimizer=rate),
        dpo=DpoConfig(max_steps=30, batch_size=32, optimizer=rate.but(learning_rate=1e-3)),
        dpo_gates=DpoGatesConfig(least_accuracy=0.0, most_kl=1e3, samples=32),
        rto=_small_ppo(most_response=12, iterations=3, batch_size=8),
        baselines=("ppo",),
        study=StudyConfig(),
        gates=GatesConfig(samples=64, least_gain=-1e3, least_gain_over_dpo=-1e3, most_kl=1e3),
    )


def laptop() -> RtoConfig:
    """The effect in minutes on two cores: bigram scores over 64 tokens, RTO beside PPO and its relatives."""
    return RtoConfig(
        data=PreferenceData(task=BigramTask(), pairs=2000, held_out_pairs=512, demonstrations=8192),
        policy=DecoderConfig(layers=2, width=64, heads=4, feed_forward_width=172, context=72),
        sft=SftConfig(max_steps=150, batch_size=64, optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine")),
        reward_model=RewardModelConfig(
            max_steps=94, batch_size=64, optimizer=OptimizerConfig(learning_rate=5e-4, schedule="constant")
        ),
        dpo=DpoConfig(max_steps=94, batch_size=64, optimizer=OptimizerConfig(learning_rate=5e-4, schedule="constant")),
        rto=_small_ppo(most_response=64, iterations=8, batch_size=16),
        baselines=("ppo", "ppo_lambda1", "ddpo", "rs_ppo"),
        study=StudyConfig(
            seeds=4, length_trap_seeds=1, length_trap=LengthTrapTask(longest=64), length_trap_iterations=8
        ),
    )


def gpu() -> RtoConfig:
    """Half an hour on one large GPU: strings are copied, reversed and sorted by a decoder of 30 million parameters."""
    rate = OptimizerConfig(learning_rate=3e-4)
    return RtoConfig(
        data=PreferenceData(
            task=TransductionTask(shortest=64, longest=240, symbols=64),
            pairs=50_000,
            held_out_pairs=2048,
            demonstrations=200_000,
        ),
        policy=DecoderConfig(layers=8, width=512, heads=8, feed_forward_width=1376, context=512),
        sft=SftConfig(max_steps=3000, batch_size=256, optimizer=rate),
        reward_model=RewardModelConfig(max_steps=600, batch_size=256, optimizer=rate.but(learning_rate=1e-4)),
        dpo=DpoConfig(max_steps=600, batch_size=256, optimizer=rate.but(learning_rate=5e-5)),
        rto=_small_ppo(most_response=256, iterations=150, batch_size=128).but(
            optimizer=rate.but(learning_rate=3e-5), critic=CriticConfig(optimizer=rate.but(learning_rate=1e-4))
        ),
        baselines=("ppo", "ppo_lambda1", "ddpo", "rs_ppo"),
    )


def gpu_lora() -> RtoConfig:
    """Llama-3-8B on UltraFeedback with adapters on one frozen base: policy, reference and DPO fit one 80 GB GPU."""
    config = paper()
    assert isinstance(config.policy, HuggingFaceConfig)
    rate = OptimizerConfig(learning_rate=1e-5)
    return config.but(
        policy=config.policy.but(lora=LoraConfig(rank=32, alpha=64.0), recompute=True),
        dpo=config.dpo.but(optimizer=rate, micro_batch=2),
        rto=config.rto.but(optimizer=rate, micro_batch=2),
    )


def paper() -> RtoConfig:
    """The paper's main experiment (table 1, appendix F): Llama-3-8B, UltraFeedback, a reward model and critic of 1B."""
    return RtoConfig(
        data=PreferenceData(task=_ultrafeedback(), pairs=61_135, held_out_pairs=2000, demonstrations=61_135),
        policy=HuggingFaceConfig(model="OpenRLHF/Llama-3-8b-sft-mixture", recompute=True),
        scorer=HuggingFaceConfig(model="meta-llama/Llama-3.2-1B-Instruct", recompute=True),
        sft=None,
        reward_model=RewardModelConfig(max_steps=477, batch_size=128, form="last_token", centring=0.0, micro_batch=4),
        dpo=DpoConfig(max_steps=238, batch_size=256, micro_batch=2),
        rto=PpoConfig(micro_batch=4, score=ScoreConfig(normalise="overall")),
        baselines=("ppo",),
    )


def paper_tldr() -> RtoConfig:
    """The paper's cheapest experiment (appendix F): Pythia-2.8B, TL;DR summaries.

    The paper's tables name no reward model for RTO here, which is the arm `rto_without_score`.
    """
    rate = OptimizerConfig(learning_rate=3e-6)
    return RtoConfig(
        data=PreferenceData(
            task=PreferenceFiles(
                train=(Path("data/tldr/train.jsonl"),),
                held_out=(Path("data/tldr/validation.jsonl"),),
                tokenizer="EleutherAI/pythia-2.8b",
                most_prompt=512,
                most_response=128,
            ),
            pairs=92_858,
            held_out_pairs=2000,
            demonstrations=92_858,
        ),
        policy=HuggingFaceConfig(model="EleutherAI/pythia-2.8b", recompute=True),
        sft=SftConfig(max_steps=2900, batch_size=32, micro_batch=4, optimizer=rate.but(learning_rate=1e-5)),
        reward_model=RewardModelConfig(max_steps=725, batch_size=128, micro_batch=4, optimizer=rate, form="last_token"),
        dpo=DpoConfig(max_steps=2900, batch_size=32, micro_batch=4, optimizer=rate.but(learning_rate=5e-6)),
        rto=PpoConfig(
            iterations=360,
            batch_size=16,
            minibatches=16,
            epochs=2,
            micro_batch=4,
            most_response=128,
            optimizer=rate,
            critic=CriticConfig(optimizer=rate),
            reward=TokenRewardConfig(beta1=0.1, beta2=0.05),
        ),
        baselines=("ppo", "ddpo", "rto_without_score"),
    )


def _ultrafeedback() -> PreferenceFiles:
    return PreferenceFiles(
        train=(Path("data/ultrafeedback_binarized/train_prefs.parquet"),),
        held_out=(Path("data/ultrafeedback_binarized/test_prefs.parquet"),),
        tokenizer="OpenRLHF/Llama-3-8b-sft-mixture",
        most_prompt=1024,
        most_response=1024,
    )


def _small_ppo(*, most_response: int, iterations: int, batch_size: int) -> PpoConfig:
    """PPO for a network of a tenth of a million parameters, with a critic that begins as the policy did."""
    rate = OptimizerConfig(learning_rate=3e-4, schedule="constant", warmup_share=0.0)
    return PpoConfig(
        iterations=iterations,
        batch_size=batch_size,
        minibatches=4,
        epochs=2,
        most_response=most_response,
        optimizer=rate,
        critic=CriticConfig(start="policy", optimizer=rate.but(learning_rate=2e-3)),
        reduction="token",
        save_every_iterations=1,
        reward=TokenRewardConfig(beta1=0.2, beta2=0.01, beta3=1.0, log_ratio_clip=1.0),
    )
