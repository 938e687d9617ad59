"""Scores: their scale, their bounds, and what a response that was cut off earns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.common.errors import ConfigError, DataError
from models.rto.network import read_reward_model
from models.rto.preferences import Preferences, pair_sequences
from models.rto.ragged import Ragged
from models.rto.reward_config import ScoreConfig
from models.rto.score_scale import measure_scores, score_weights
from models.rto.scoring import Scoring, make_scoring
from models.rto.sequences import Sequences
from tests.models.rto.ppo_worlds import NETWORK, write_inputs

CPU = torch.device("cpu")


def different_words(prompts: list[str], responses: list[str]) -> list[float]:
    """How many different words a response has."""
    return [float(len(set(response.split()))) for response in responses]


def too_few(prompts: list[str], responses: list[str]) -> list[float]:
    return [0.0]


def always_the_same(prompts: list[str], responses: list[str]) -> list[float]:
    return [1.0 for _ in responses]


def _make(config: ScoreConfig, folder: Path, reward_model: Path | None = None) -> tuple[Scoring, Sequences]:
    preferences = Preferences.read(folder / "preferences")
    scoring = make_scoring(config, preferences, network=NETWORK, form="token_sum", folder=reward_model, device=CPU)
    return scoring, pair_sequences(preferences.held_out)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def _function(name: str, **more: object) -> ScoreConfig:
    return ScoreConfig(source="function", function=f"{__name__}:{name}").but(**more)


@pytest.mark.parametrize(("normalise", "scale"), [("overall", 2.0), ("within_prompt", 1.5), ("none", None)])
def test_a_reward_model_s_scores_are_put_on_the_scale_that_was_published_with_it(
    normalise: str, scale: float | None, folder: Path
) -> None:
    place = folder / "reward_model"
    scoring, batch = _make(ScoreConfig().but(normalise=normalise, most=1e6), folder, place)
    vocabulary = Preferences.read(folder / "preferences").vocabulary
    raw = read_reward_model(NETWORK, place, vocabulary, "token_sum", CPU).model(batch).detach()
    expected = raw if scale is None else (raw - 0.5) / scale
    assert torch.allclose(scoring(batch), expected)


def test_scores_are_cut_off_on_both_sides_after_they_are_normalised() -> None:
    raw = torch.tensor([[-100.0, 0.0, 3.0, 100.0]])
    scoring = Scoring(ScoreConfig(normalise="overall", most=2.0), lambda _: raw, {"mean": 1.0, "scale": 2.0})
    nothing = Sequences(*(torch.zeros(1, 1, dtype=torch.bool) for _ in range(4)))
    assert scoring(nothing).tolist() == [[-2.0, -0.5, 1.0, 2.0]]


@pytest.mark.parametrize(
    ("choice", "expected"), [("score", [1.0, 2.0]), ("bootstrap", [1.0, 0.0]), ("penalty", [1.0, -1.0])]
)
def test_a_response_that_was_cut_off_earns_what_the_settings_say(choice: str, expected: list[float]) -> None:
    config = ScoreConfig(normalise="none", truncation_penalty=3.0).but(truncated=choice)
    scoring = Scoring(config, lambda _: torch.zeros(()), {})
    assert scoring.rewarded(torch.tensor([[1.0, 2.0]]), torch.tensor([[False, True]])).tolist() == [expected]


@pytest.mark.parametrize(("normalise", "scale"), [("overall", "scale"), ("within_prompt", "scale_within_prompt")])
def test_the_scores_of_a_function_are_normalised_by_those_of_the_held_out_pairs(
    normalise: str, scale: str, folder: Path
) -> None:
    scoring, batch = _make(_function("different_words", normalise=normalise), folder)
    raw_B2 = torch.tensor([[float(len(set(response.tolist()))) for response in pair] for pair in batch.responses_BGR])
    assert torch.equal(scoring.raw(batch), raw_B2)
    measured = measure_scores(raw_B2, Preferences.read(folder / "preferences").held_out.prompts)
    assert torch.allclose(scoring(batch), (raw_B2 - raw_B2.mean()) / measured[scale])


def test_the_scale_within_a_prompt_takes_all_scores_of_a_prompt_together() -> None:
    prompts = Ragged.of([[1], [2, 1], [1], [5]])
    scores = np.array([[1.0, 2.0], [10.0, 14.0], [3.0, 6.0], [-5.0, -5.0]])
    groups = [[1.0, 2.0, 3.0, 6.0], [10.0, 14.0], [-5.0, -5.0]]
    pooled = sum(((np.array(group) - np.mean(group)) ** 2).sum() for group in groups) / (8 - 3)
    measured = measure_scores(torch.from_numpy(scores), prompts)
    assert measured == pytest.approx(
        {"mean": scores.mean(), "scale": scores.std(), "scale_within_prompt": np.sqrt(pooled)}
    )
    published = score_weights(measured)
    assert {name: float(value) for name, value in published.items()} == pytest.approx(
        {f"score.{name}": value for name, value in measured.items()}
    )


def test_an_offset_of_each_prompt_leaves_the_scale_within_prompts_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_B2 = torch.randn((400, 2), generator=generator, dtype=torch.float64)
    offset_B = torch.arange(400) % 4 * 10.0
    prompts = Ragged.of([[row % 4] for row in range(400)])
    plain, moved = measure_scores(scores_B2, prompts), measure_scores(scores_B2 + offset_B[:, None], prompts)
    assert moved["scale_within_prompt"] == pytest.approx(plain["scale_within_prompt"])
    assert moved["scale"] > 5 * plain["scale"]


def _scores_of(config: ScoreConfig, folder: Path) -> Tensor:
    scoring, batch = _make(config, folder)
    return scoring(batch)


def test_what_cannot_score_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no input 'reward_model'"):
        _make(ScoreConfig(), folder)
    with pytest.raises(ConfigError, match="standard deviation of 0\nfits: a source whose scores differ"):
        _make(_function("always_the_same"), folder)
    with pytest.raises(ConfigError, match=r"score.text_model names none"):
        _make(ScoreConfig(source="text_model"), folder)
    with pytest.raises(ConfigError, match=r"score.function is 'nowhere:f'"):
        _make(ScoreConfig(source="function", function="nowhere:f"), folder)
    with pytest.raises(DataError, match=r"score.function .*:too_few, called with 16 .* returned 1 scores"):
        _scores_of(_function("too_few", normalise="none"), folder)
