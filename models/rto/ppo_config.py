"""Settings of PPO: rollouts, rewards, updates, and what stops a run."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.optimizer_config import MicroBatch, OptimizerConfig
from models.rto.reward_config import ScoreConfig, TokenRewardConfig

WRITTEN_AT_ONCE = 8  # responses written at once for each that is trained on at once: writing keeps no activations


class GuardConfig(Config):
    """What stops a PPO run that has gone wrong; each is looked at after a rollout."""

    most_kl: float = Field(default=200.0, gt=0.0, le=1e6, description="nats a response, from the reference")
    least_entropy: float = Field(default=1e-3, ge=0.0, le=20.0, description="nats a token")
    most_score_drop: float = Field(
        default=4.0, gt=0.0, le=1e6, description="below the first rollouts' mean, in their standard deviations"
    )
    patience: int = Field(default=3, ge=1, le=1000, description="rollouts in a row before the run is stopped")


class CriticConfig(Config):
    """The critic of PPO: where it begins, and how it learns."""

    start: Literal["policy", "reward_model"] = Field(default="reward_model", description="whose weights; a head of 0")
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=9e-6)
    value_clip: float | None = Field(default=0.2, gt=0.0, le=100.0, description="of a value's move; None: no clip")
    warmup_iterations: int = Field(default=0, ge=0, le=10_000, description="first rollouts, from which only it learns")


class PpoConfig(Config):
    """Proximal policy optimisation on token rewards, or a critic-free relative of it on the same rewards."""

    algorithm: Literal["ppo", "reinforce", "group"] = Field(
        default="ppo", description="reinforce: REINFORCE++, returns and a global baseline; group: GRPO's, of one prompt"
    )
    reward: TokenRewardConfig = TokenRewardConfig()
    score: ScoreConfig = ScoreConfig()
    iterations: int = Field(default=60, ge=1, le=1_000_000, description="rollouts, each followed by its updates")
    batch_size: int = Field(default=128, ge=1, le=1_000_000, description="responses of an update")
    minibatches: int = Field(default=8, ge=1, le=1024, description="updates in one pass through a rollout")
    epochs: int = Field(default=1, ge=1, le=100, description="passes through a rollout")
    micro_batch: int | None = MicroBatch
    responses_per_prompt: int = Field(default=1, ge=1, le=1024)
    most_response: int = Field(default=1024, ge=1, le=131_072, description="tokens, after which a response is cut off")
    least_response: int = Field(default=1, ge=0, le=131_072, description="tokens before a response may end")
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-7)
    critic: CriticConfig = CriticConfig()
    discount: float = Field(default=1.0, gt=0.0, le=1.0, description="gamma")
    gae_lambda: float = Field(default=0.95, ge=0.0, le=1.0)
    clip: float = Field(default=0.2, gt=0.0, le=10.0, description="of the probability ratio")
    kl_loss_weight: float = Field(default=0.0, ge=0.0, le=100.0, description="of the k3 estimator, in the loss")
    entropy_weight: float = Field(default=0.0, ge=0.0, le=10.0)
    reduction: Literal["token", "sequence"] = Field(
        default="sequence", description="mean over all tokens, or over sequences of the mean over their tokens"
    )
    guards: GuardConfig = GuardConfig()
    save_every_iterations: int = Field(
        default=5, ge=1, le=1_000_000, description="a checkpoint after so many rollouts, if the guards are content"
    )

    @model_validator(mode="after")
    def _something_is_rewarded(self) -> Self:
        reward = self.reward
        if not (reward.weighs_dpo or reward.weighs_score):
            raise ValueError(
                f"nothing is rewarded: layout {reward.layout}, beta1 {reward.beta1:g}, beta3 {reward.beta3:g}; "
                "set reward.beta3 above 0, or reward.beta1 above 0 with another layout than ppo"
            )
        if self.algorithm != "ppo" and self.score.truncated == "bootstrap":
            raise ValueError(
                f"score.truncated is bootstrap, and algorithm '{self.algorithm}' has no critic that values where a "
                "response was cut off; take score.truncated=score or penalty, or algorithm=ppo"
            )
        return self

    @model_validator(mode="after")
    def _a_response_may_end(self) -> Self:
        if self.least_response > self.most_response:
            raise ValueError(
                f"least_response is {self.least_response} and most_response {self.most_response}; "
                f"try least_response={self.most_response} or less"
            )
        return self

    @model_validator(mode="after")
    def _rollouts_divide(self) -> Self:
        if self.rollouts % self.responses_per_prompt:
            raise ValueError(
                f"{self.rollouts} rollouts (batch_size x minibatches) do not divide into {self.responses_per_prompt} "
                "responses_per_prompt; make it a divisor"
            )
        if self.algorithm == "group" and self.responses_per_prompt < 2:
            raise ValueError(
                "algorithm 'group' compares responses of one prompt; set responses_per_prompt to 2 or more"
            )
        return self

    @property
    def rollouts(self) -> int:
        """Responses of an iteration."""
        return self.batch_size * self.minibatches

    @property
    def updates(self) -> int:
        """Of an iteration."""
        return self.minibatches * self.epochs
