"""RTO's settings. Defaults are the paper's where it gives a number; `presets.py` holds what was run.

A `...Config` is what a person sets; the `...Stage` of the same name adds what it takes from the rest of the workload.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.contract import (
    Inputs,
    Learner,
    MapConfig,
    StageConfig,
    WorkerGroup,
    WorkloadConfig,
    World,
)
from models.common.optimizer_config import MicroBatch, OptimizerConfig
from models.rto.arms import ARMS, ArmName
from models.rto.contest_config import PromotionConfig, RtoContest
from models.rto.data_config import LengthTrapTask, PreferenceData
from models.rto.policy_config import DecoderConfig, PolicyConfig
from models.rto.ppo_config import PpoConfig
from models.rto.sft_config import BatchSize, SftConfig, SftStage, Steps


class RewardModelConfig(Config):
    """The score of a whole response, learnt from the pairs (Bradley-Terry)."""

    max_steps: int = Steps
    batch_size: int = BatchSize
    micro_batch: int | None = MicroBatch
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6)
    form: Literal["token_sum", "last_token", "mean"] = Field(
        default="token_sum",
        description="token_sum: a value of each token taken, summed as DPO's log-ratios are; or one value of the end",
    )
    centring: float = Field(default=0.02, ge=0.0, le=10.0, description="weight of mean(score^2); pairs fix no offset")


class RewardModelStage(RewardModelConfig, StageConfig):
    """The reward model on this network."""

    network: PolicyConfig = DecoderConfig()

    def build(self, world: World) -> Learner:
        from models.rto.reward_model import RewardModelLearner

        return RewardModelLearner(self, world)

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.rto.memory import reward_model_bytes

        return reward_model_bytes(self, group)

    def rehearse(self, folder: Path) -> Inputs:
        from models.rto.rehearsal import rehearse_preferences

        return rehearse_preferences(self.network, folder)


class DpoConfig(Config):
    """Direct preference optimisation and its relatives; the policy's log-ratios are RTO's token reward."""

    max_steps: int = Steps
    batch_size: int = Field(default=256, ge=1, le=1_000_000, description="pairs of a step")
    micro_batch: int | None = MicroBatch
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-7)
    loss: Literal["sigmoid", "ipo", "r_dpo", "simpo", "tdpo"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0.0, le=100.0, description="larger keeps the policy closer to the reference")
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5, description="cDPO: share of labels that are wrong")
    length_penalty: float = Field(default=0.001, ge=0.0, le=10.0, description="r_dpo's alpha, for each token more")
    margin: float = Field(default=0.5, ge=0.0, le=100.0, description="simpo's gamma")
    kl_weight: float = Field(default=0.2, ge=0.0, le=100.0, description="tdpo's alpha")
    reference: Literal["cached", "live"] = Field(
        default="cached", description="the reference's log-probabilities once for all pairs, or anew in each step"
    )

    @model_validator(mode="after")
    def _tdpo_compares_laws(self) -> Self:
        if self.loss == "tdpo" and self.reference == "cached":
            raise ValueError(
                "loss 'tdpo' compares whole laws at every token, of which none is kept; set reference='live'"
            )
        return self


class DpoStage(DpoConfig, StageConfig):
    """DPO of this policy; it begins with the reference's weights."""

    policy: PolicyConfig = DecoderConfig()

    def build(self, world: World) -> Learner:
        from models.rto.dpo import DpoLearner

        return DpoLearner(self, world)

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.rto.memory import dpo_bytes

        return dpo_bytes(self, group)

    def rehearse(self, folder: Path) -> Inputs:
        from models.rto.rehearsal import rehearse_dpo

        return rehearse_dpo(self, folder)


class PpoStage(PpoConfig, StageConfig):
    """PPO of this policy; a step is one update, and every `updates`-th step begins with a rollout.

    Inputs: preferences; reward_model where the score is its; dpo where beta1 is above 0. It starts from the reference.
    """

    max_steps: int = Steps
    policy: PolicyConfig = DecoderConfig()
    scorer: PolicyConfig = Field(default=DecoderConfig(), description="the network of critic and reward model")
    reward_model_form: Literal["token_sum", "last_token", "mean"] = "token_sum"

    def build(self, world: World) -> Learner:
        from models.rto.ppo import PpoLearner

        return PpoLearner(self, world)

    def save_every_steps(self) -> int:
        return self.save_every_iterations * self.updates

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.rto.memory import ppo_bytes

        return ppo_bytes(self, group)

    def rehearse(self, folder: Path) -> Inputs:
        from models.rto.rehearsal import rehearse_ppo

        return rehearse_ppo(self, folder)


class DpoGatesConfig(Config):
    """What the DPO policy has to reach before PPO starts."""

    least_accuracy: float = Field(default=0.55, ge=0.0, le=1.0, description="of the order of held-out pairs")
    most_kl: float = Field(default=50.0, gt=0.0, le=1e6, description="nats a response, from the reference")
    samples: int = Field(default=256, ge=2, le=1_000_000, description="responses that the KL is measured on")


class DpoEvaluation(DpoGatesConfig, MapConfig):
    """The stage that judges DPO policy and reward model on held-out pairs.

    Inputs: preferences, dpo, and sft and reward_model where there are any.
    """

    dpo: DpoStage
    reward_model: RewardModelStage | None
    most_response: int

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.rto import dpo_evaluation

        return dpo_evaluation.shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.rto import dpo_evaluation

        return dpo_evaluation.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.rto import dpo_evaluation

        dpo_evaluation.collect(self, parts, inputs, folder)


class StudyConfig(Config):
    """The whole pipeline again in small, on problems of their own: what intervals and the length trap are made of."""

    seeds: int = Field(default=0, ge=0, le=100, description="further seeds of all arms, each with data of its own")
    length_trap_seeds: int = Field(default=0, ge=0, le=100, description="seeds of the length trap; 0 leaves it out")
    length_trap: LengthTrapTask = LengthTrapTask()
    length_trap_iterations: int = Field(default=12, ge=1, le=10_000)

    @property
    def is_wanted(self) -> bool:
        return bool(self.seeds or self.length_trap_seeds)


class StudyStage(StudyConfig, MapConfig):
    """The stage that repeats the pipeline over seeds; one shard is one seed, worked off in one slot."""

    data: PreferenceData
    sft: SftStage | None
    reward_model: RewardModelStage | None
    dpo: DpoStage
    arms: dict[str, PpoStage]
    samples: int

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.rto import study

        return study.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.rto import study

        return study.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.rto import study

        study.collect(self, parts, folder)


class GatesConfig(Config):
    """How the policies are judged in the end, and what has to be reached to publish."""

    samples: int = Field(default=1024, ge=2, le=1_000_000, description="responses of each policy, held-out prompts")
    least_gain: float = Field(default=0.0, ge=-1e6, le=1e6, description="of the reward, RTO above the start")
    least_gain_over_dpo: float = Field(default=0.0, ge=-1e6, le=1e6, description="of the reward, RTO above DPO")
    most_kl: float = Field(default=200.0, gt=0.0, le=1e6, description="nats a response, from the reference")


class EvaluationStage(GatesConfig, MapConfig):
    """The stage that samples every policy and writes the report.

    Inputs: preferences, dpo, dpo_evaluation and an `arm_NAME` for each arm; sft, reward_model and study where there
    are any.
    """

    arms: dict[str, PpoStage]
    dpo: DpoStage

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.rto import evaluate

        return evaluate.shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.rto import evaluate

        return evaluate.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.rto import evaluate

        evaluate.collect(self, parts, inputs, folder)


class RtoConfig(WorkloadConfig):
    """Reinforced Token Optimization: supervised start, reward model, DPO, then PPO on DPO's token rewards.

    Data, policy and the network of the scores stand here once; the stages take them from here.
    """

    name: Literal["rto"] = "rto"  # pyright: ignore[reportIncompatibleVariableOverride]
    data: PreferenceData = PreferenceData()
    policy: PolicyConfig = DecoderConfig()
    scorer: PolicyConfig | None = Field(default=None, description="of reward model and critic; None: the policy's")
    sft: SftConfig | None = Field(default=SftConfig(), description="None: a pretrained policy is the start")
    reward_model: RewardModelConfig | None = Field(default=RewardModelConfig(), description="None: no model scores")
    dpo: DpoConfig = DpoConfig()
    dpo_gates: DpoGatesConfig = DpoGatesConfig()
    rto: PpoConfig = PpoConfig()
    baselines: tuple[ArmName, ...] = Field(default=("ppo",), description="trained beside, all else equal")
    study: StudyConfig = StudyConfig()
    gates: GatesConfig = GatesConfig()
    promotion: PromotionConfig = PromotionConfig()

    @model_validator(mode="after")
    def _there_is_a_start(self) -> Self:
        if self.sft is None and self.policy.kind == "decoder":
            raise ValueError(
                "sft is None, and the project's own decoder has no pretrained weights to start from; set sft, or a "
                "policy of kind 'huggingface'"
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_reward_model_where_one_is_read(self) -> Self:
        if self.reward_model is None and self.rto.algorithm == "ppo" and self.rto.critic.start == "reward_model":
            raise ValueError("critic.start is reward_model and reward_model is None; set rto.critic.start='policy'")
        if self.reward_model is None and self.rto.score.source == "model":
            arms = [name for name, arm in self.arms.items() if arm.reward.weighs_score]
            if arms:
                raise ValueError(
                    f"{', '.join(arms)} weigh a score (reward.beta3 above 0) of source 'model', and reward_model is "
                    "None; set reward_model, or rto.score.source, or rto.reward.beta3=0 and no baselines that need a "
                    "score"
                )
        return self

    @model_validator(mode="after")
    def _prompt_and_response_fit(self) -> Self:
        longest = self.data.task.longest_prompt + self.rto.most_response
        for name, network in (("policy", self.policy), ("scorer", self.score_network)):
            if longest > network.context:
                raise ValueError(
                    f"a prompt of {self.data.task.longest_prompt} tokens and a response of {self.rto.most_response} do "
                    f"not fit into {name}.context={network.context}; try {longest}, or a smaller rto.most_response"
                )
        return self

    @property
    def score_network(self) -> PolicyConfig:
        return self.scorer or self.policy

    @property
    def sft_stage(self) -> SftStage | None:
        return None if self.sft is None else SftStage(policy=self.policy, **dict(self.sft))

    @property
    def reward_model_stage(self) -> RewardModelStage | None:
        if self.reward_model is None:
            return None
        return RewardModelStage(network=self.score_network, **dict(self.reward_model))

    @property
    def dpo_stage(self) -> DpoStage:
        return DpoStage(policy=self.policy, **dict(self.dpo))

    @property
    def arms(self) -> dict[str, PpoStage]:
        """RTO and the baselines: one set of settings, of which each arm changes what its name says."""
        stage = PpoStage(
            policy=self.policy,
            scorer=self.score_network,
            reward_model_form="token_sum" if self.reward_model is None else self.reward_model.form,
            max_steps=self.rto.iterations * self.rto.updates,
            **dict(self.rto),
        )
        return {name: stage.with_overrides(ARMS[name]) for name in ("rto", *self.baselines)}

    @property
    def dpo_evaluation(self) -> DpoEvaluation:
        return DpoEvaluation(
            dpo=self.dpo_stage,
            reward_model=self.reward_model_stage,
            most_response=self.rto.most_response,
            **dict(self.dpo_gates),
        )

    @property
    def study_stage(self) -> StudyStage:
        return StudyStage(
            data=self.data,
            sft=self.sft_stage,
            reward_model=self.reward_model_stage,
            dpo=self.dpo_stage,
            arms=self.arms,
            samples=self.gates.samples,
            **dict(self.study),
        )

    @property
    def evaluation(self) -> EvaluationStage:
        return EvaluationStage(arms=self.arms, dpo=self.dpo_stage, **dict(self.gates))

    def contest(self) -> RtoContest:
        return RtoContest(data=self.data, score=self.rto.score, **dict(self.promotion))

    def trained_stages(self) -> dict[str, StageConfig]:
        before = {"sft": self.sft_stage, "reward_model": self.reward_model_stage, "dpo": self.dpo_stage}
        return {name: stage for name, stage in (before | self.arms).items() if stage is not None}

    def check_here(self) -> None:
        if self.rto.score.source == "function" and any(arm.reward.weighs_score for arm in self.arms.values()):
            from models.rto.text_score import load_function

            load_function(self.rto.score.function)
