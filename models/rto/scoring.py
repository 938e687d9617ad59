"""The score of a whole response: by the reward model, by a function of its text, or by a model with its own tokens."""

# B prompts   G responses of each

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.common.errors import ConfigError
from models.rto.network import RewardForm, read_reward_model
from models.rto.policy_config import PolicyConfig
from models.rto.preferences import Preferences, pair_sequences, unpadded
from models.rto.reward_config import ScoreConfig
from models.rto.score_scale import measure_scores
from models.rto.sequences import Sequences
from models.rto.text_score import Score, TextModel, checked, load_function

PAIRS_AT_ONCE = 64  # of the held-out pairs that a text-level score is measured on


class Scoring:
    """Scores of responses, on the scale that the settings ask for.

    raw: the scores [B, G] as their source gives them.
    measured: 'mean', 'scale' and 'scale_within_prompt' of such scores on held-out pairs; unused where not normalised.
    """

    def __init__(self, config: ScoreConfig, raw: Callable[[Sequences], Tensor], measured: Mapping[str, float]) -> None:
        self.config = config
        self.raw = raw
        name = {"overall": "scale", "within_prompt": "scale_within_prompt"}.get(config.normalise)
        self.mean = 0.0 if name is None else measured["mean"]
        self.scale = 1.0 if name is None else measured[name]
        if not 0.0 < self.scale < math.inf:
            raise ConfigError(
                f"score.normalise is {config.normalise}, and the scores of the held-out pairs have a standard "
                f"deviation of {self.scale:g}\n"
                "fits: a source whose scores differ and are finite; or score.normalise=none"
            )

    @torch.no_grad()
    def __call__(self, batch: Sequences) -> Tensor:
        """The score of each response [B, G], normalised and cut off.

        Unlike RTO's code, which cuts scores off before it normalises them: the bound then has the same meaning for
        every source.
        """
        bound = self.config.most
        return ((self.raw(batch) - self.mean) / self.scale).clamp(-bound, bound)

    def rewarded(self, score_BG: Tensor, truncated_BG: Tensor) -> Tensor:
        """What a response earns at its last token, where some were cut off by the length.

        bootstrap: nothing, as it did not come to its end; the critic's value stands for what would have followed.
        """
        match self.config.truncated:
            case "score":
                return score_BG
            case "bootstrap":
                return score_BG.masked_fill(truncated_BG, 0.0)
            case "penalty":
                return score_BG - self.config.truncation_penalty * truncated_BG


def make_scoring(
    config: ScoreConfig,
    preferences: Preferences,
    *,
    network: PolicyConfig,
    form: RewardForm,
    folder: Path | None,
    device: torch.device,
) -> Scoring:
    """The scoring that the settings ask for. folder: the reward model's, read where it is the source."""
    if config.source == "model":
        return _model_scoring(config, preferences, network=network, form=form, folder=folder, device=device)
    if config.source == "function":
        source, score = f"score.function {config.function}", load_function(config.function)
    else:
        if not config.text_model:
            raise ConfigError(
                "score.source is text_model, and score.text_model names none\n"
                "fits: a folder with a sequence classifier and its tokenizer, or its name on the Hub"
            )
        source, score = f"score.text_model {config.text_model}", TextModel(config.text_model, device)

    def raw(batch: Sequences) -> Tensor:
        return score_texts(score, preferences, batch, source=source)

    return Scoring(config, raw, {} if config.normalise == "none" else _measure_on_held_out(raw, preferences))


def _model_scoring(
    config: ScoreConfig,
    preferences: Preferences,
    *,
    network: PolicyConfig,
    form: RewardForm,
    folder: Path | None,
    device: torch.device,
) -> Scoring:
    if folder is None:
        raise ConfigError(
            "reward.beta3 is above 0 and score.source is model, but the stage was given no input 'reward_model'\n"
            "fits: the folder of a reward model stage, score.source=function or text_model, or reward.beta3=0"
        )
    trained = read_reward_model(network, folder, preferences.vocabulary, form, device)
    model = trained.model.requires_grad_(requires_grad=False).eval()
    return Scoring(config, model, {name: float(value) for name, value in trained.measured.items()})


def score_texts(score: Score, preferences: Preferences, batch: Sequences, *, source: str) -> Tensor:
    """The scores [B, G] of the batch's responses as text; raises DataError where one is no finite number."""
    prompts, responses = unpadded(batch)
    texts = [preferences.text(response) for response in responses]
    scores = checked(score([preferences.text(prompt) for prompt in prompts], texts), texts, source=source)
    device = batch.responses_BGR.device
    return torch.tensor(scores, device=device).view(batch.responses_BGR.shape[:2])


def _measure_on_held_out(raw: Callable[[Sequences], Tensor], preferences: Preferences) -> dict[str, float]:
    rows = range(len(preferences.held_out))
    pieces = [rows[start : start + PAIRS_AT_ONCE] for start in range(0, len(rows), PAIRS_AT_ONCE)]
    scores_B2 = torch.cat([raw(pair_sequences(preferences.held_out, list(piece))).cpu() for piece in pieces])
    return measure_scores(scores_B2, preferences.held_out.prompts)
