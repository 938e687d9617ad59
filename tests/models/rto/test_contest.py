"""Two policies' answers to the same prompts: by the true reward, by a function, and by both reward models."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.common.contest import HELD_OUT
from models.common.errors import ConfigError
from models.common.in_process import train_in_process
from models.rto.config import RtoConfig
from models.rto.contest import held_out_prompts
from models.rto.measurement import make_judge
from models.rto.network import read_policy
from models.rto.policy_config import DecoderConfig
from models.rto.preferences import Preferences
from models.rto.presets import tiny
from tests.fixtures.contests import damaged, entered, held, published
from tests.fixtures.worlds import world_of
from tests.models.rto.tokenizers import byte_tokenizer

CONFIG = tiny().with_overrides({"promotion.prompts": 400})
SMALL: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "feed_forward_width": 8, "context": 64}
STEPS = {"sft.max_steps": 3, "reward_model.max_steps": 3}


def version_of(config: RtoConfig, folder: Path, seed: int = 0) -> Path:
    """A version of the supervised start, which is a policy like others, with its reward model."""
    inputs = {"preferences": folder / "preferences"}
    inputs["preferences"].mkdir(parents=True)
    config.data.prepare(inputs["preferences"])
    world = world_of({}, seed=seed)
    assert config.sft_stage
    assert config.reward_model_stage
    policy = train_in_process(config.sft_stage, world, folder / "sft", inputs).folder
    scorer = train_in_process(config.reward_model_stage, world, folder / "scorer", inputs, policy).folder
    return published(folder / "version", config, policy, {"reward_model": scorer}, of=folder / "made_of")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version_of(CONFIG, tmp_path_factory.mktemp("rto-version"))


def brevity(prompts: list[str], responses: list[str]) -> list[float]:
    """A score that a person may have written."""
    assert all("question" in prompt for prompt in prompts)
    return [-float(len(response)) for response in responses]


def config_of_files(folder: Path, **changes: Any) -> RtoConfig:
    """A user's own pairs: 20 to learn from, 12 held out."""
    byte_tokenizer().save_pretrained(folder / "tokenizer")
    files = {}
    for name, count in (("train", 20), ("held_out", 12)):
        rows = [
            {"prompt": f"question {name} {row}:", "chosen": f"answer {row}", "rejected": "z" * (row + 1)}
            for row in range(count)
        ]
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "kind": "files", "train": [files["train"]], "held_out": [files["held_out"]], "most_response": 24,
        "tokenizer": str(folder / "tokenizer"), "most_prompt": 32,
    }  # fmt: skip
    values = {"data.task": task, "policy": DecoderConfig(**SMALL).model_dump(), "rto.most_response": 12}
    return tiny().with_overrides(values | STEPS | changes)


def test_a_version_gains_exactly_nothing_on_itself(version: Path, tmp_path: Path) -> None:
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    assert (contest.gain.value, contest.gain.error) == (0.0, 0.0)
    assert contest.candidate.error > 0


def test_a_damaged_copy_loses_as_the_paired_test_says(version: Path, tmp_path: Path) -> None:
    worse = damaged(version, tmp_path / "worse", noise=2.0)
    contest, (candidate_S, champion_S) = held(CONFIG.contest(), worse, version, tmp_path / "contest")
    expected = stats.ttest_rel(candidate_S, champion_S)
    assert contest.gain.value / contest.gain.error == pytest.approx(expected.statistic, rel=1e-9)
    assert contest.gain.value + 3 * contest.gain.error < 0
    assert contest.items == CONFIG.promotion.prompts
    assert contest.margin == pytest.approx(CONFIG.promotion.margin * champion_S.std(ddof=1))


def test_a_version_has_the_reward_that_its_own_evaluation_finds(version: Path, tmp_path: Path) -> None:
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    inputs = {"preferences": tmp_path / "contest" / HELD_OUT, "reward_model": version / "reward_model"}
    preferences = Preferences.read(inputs["preferences"])
    world = world_of(inputs)
    policy = read_policy(CONFIG.policy, version, preferences.vocabulary, world.device)
    means = make_judge(world, preferences, CONFIG.arms["rto"]).measure(policy, policy, 400).means()
    error = np.hypot(contest.candidate.error, means["reward_error"])
    assert abs(contest.candidate.value - means["reward"]) < 4 * error


def test_the_seed_says_which_prompts_and_both_policies_get_the_same(version: Path, tmp_path: Path) -> None:
    world = entered(CONFIG.contest(), version, version, tmp_path / "contest")
    rewards = [
        CONFIG.contest().but(seed=seed).process({"side": side}, world)
        for seed, side in ((0, "candidate"), (0, "champion"), (1, "candidate"))
    ]
    np.testing.assert_array_equal(rewards[0], rewards[1])
    assert not np.array_equal(rewards[0], rewards[2])


def test_prompts_of_a_made_up_task_are_of_its_held_out_part(tmp_path: Path) -> None:
    task = {"kind": "transduction", "symbols": 3, "shortest": 2, "longest": 4}
    config = CONFIG.with_overrides({"data.task": task, "policy.context": 32, "promotion.prompts": 64})
    config.data.prepare(tmp_path)
    preferences = Preferences.read(tmp_path)
    prompts = held_out_prompts(config.contest(), preferences, np.random.default_rng(5))
    trained_on = {
        row.tobytes() for part in (preferences.train.prompts, preferences.demonstration_prompts) for row in part
    }
    assert len(prompts) == 64
    assert not {row.tobytes() for row in prompts} & trained_on


def test_files_are_judged_by_both_reward_models_and_sides_may_be_swapped(tmp_path: Path) -> None:
    config = config_of_files(tmp_path)
    one, other = (version_of(config, tmp_path / f"v{seed}", seed) for seed in (0, 1))
    contest, (candidate_S, _) = held(config.contest(), one, other, tmp_path / "contest")
    swapped, _ = held(config.contest(), other, one, tmp_path / "swapped")
    assert contest.items == len(candidate_S) == 12, "each held-out prompt once"
    assert contest.gain.value == pytest.approx(-swapped.gain.value, rel=1e-6)
    assert contest.gain.error == pytest.approx(swapped.gain.error, rel=1e-6)
    assert contest.candidate.value == pytest.approx(swapped.champion.value, rel=1e-6)
    assert contest.metric == "mean score of both reward models"

    shutil.rmtree(other / "reward_model")
    with pytest.raises(ConfigError, match="the champion was published without its reward model"):
        config.contest().shards({"candidate": one, "champion": other})


def test_files_may_be_judged_by_a_function_of_the_texts(tmp_path: Path) -> None:
    score = {"source": "function", "function": f"{__name__}:brevity", "normalise": "none", "most": 1e6}
    config = config_of_files(tmp_path, **{"rto.score": score})
    version = version_of(config, tmp_path / "version")
    contest, parts = held(config.contest(), version, version, tmp_path / "contest")
    assert contest.metric == "score of function"
    assert set(parts[0]) <= {-float(length) for length in range(13 * 4)}
    assert contest.gain.value == 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data.seed": 1}, "the task"),
        ({"data.task": {"kind": "bigram", "length": 12, "symbols": 7}}, "the task"),
        ({"rto.most_response": 11}, "rto.most_response"),
    ],
)
def test_policies_of_other_tasks_are_refused(change: dict[str, Any], told: str) -> None:
    champion = CONFIG.with_overrides(change).model_dump(mode="json")
    with pytest.raises(ConfigError, match=rf"the candidate has {told} .* no items to score both on"):
        CONFIG.contest().check_versions(CONFIG.model_dump(mode="json"), champion)


def test_what_the_pairs_are_drawn_from_may_change(tmp_path: Path) -> None:
    config = config_of_files(tmp_path)
    other_files = config.model_dump(mode="json")
    other_files["data"]["task"]["train"] = ["more.jsonl"]
    config.contest().check_versions(config.model_dump(mode="json"), other_files)
