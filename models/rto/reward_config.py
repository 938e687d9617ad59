"""Which reward each token gets, and where the score of a whole response comes from."""

from typing import Literal

from pydantic import Field

from models.common.config import Config

Layout = Literal["ppo", "rto", "semi_rto", "ddpo", "rs_ppo"]


class TokenRewardConfig(Config):
    """The token reward of eq. 4.7 and its relatives. A coefficient of 0 switches its part off."""

    layout: Layout = Field(default="rto", description="where the DPO part stands: see token_reward.py")
    beta1: float = Field(default=0.05, ge=0.0, le=100.0, description="of log pi_dpo / pi_ref")
    beta2: float = Field(default=0.01, ge=0.0, le=100.0, description="of log pi / pi_ref, subtracted")
    beta3: float = Field(default=1.0, ge=0.0, le=100.0, description="of the score of the whole response")
    log_ratio_clip: float | None = Field(
        default=1.0, gt=0.0, le=100.0, description="bound of |log pi_dpo / pi_ref| at a token; None: no bound"
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field(default="k1", description="of the KL part at a token")
    delimiters: tuple[int, ...] = Field(default=(), description="semi_rto: tokens that end a sentence")
    sentence: int | None = Field(default=None, ge=1, description="semi_rto: or every so many tokens")

    @property
    def weighs_dpo(self) -> bool:
        """Whether the DPO policy's log-probabilities are part of the reward."""
        return self.beta1 > 0 and self.layout != "ppo"

    @property
    def weighs_score(self) -> bool:
        """Whether a score of the whole response is part of the reward."""
        return self.beta3 > 0


class ScoreConfig(Config):
    """Where the score of a whole response comes from, and what is done to it."""

    source: Literal["model", "function", "text_model"] = Field(
        default="model",
        description="model: the reward model trained here; function: of the texts; text_model: any tokenizer",
    )
    function: str = Field(default="", description="module:function of prompts and responses, for source=function")
    text_model: str = Field(default="", description="a sequence classifier, folder or Hub name, for source=text_model")
    normalise: Literal["none", "overall", "within_prompt"] = Field(
        default="within_prompt", description="by mean and standard deviation, as measured on the held-out pairs"
    )
    most: float = Field(default=10.0, gt=0.0, le=1e6, description="scores are cut off at plus and minus this")
    truncated: Literal["score", "bootstrap", "penalty"] = Field(
        default="score", description="a response cut off by the length: as any other, value instead of end, or penalty"
    )
    truncation_penalty: float = Field(default=1.0, ge=0.0, le=1000.0, description="for truncated=penalty")
