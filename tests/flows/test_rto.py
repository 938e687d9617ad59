"""The RTO pipeline from the command line, on real parts."""

import json
import math
import re
from pathlib import Path

import pytest

from tests.fixtures.commands import orchard, orchard_json

pytestmark = pytest.mark.slow
TINY = ("run", "rto", "--preset", "tiny")


@pytest.mark.usefixtures("ray", "prefect")
def test_a_policy_is_trained_on_token_rewards_compared_and_published_with_its_parents(
    home: Path, tmp_path: Path
) -> None:
    result = orchard_json(*TINY, "--run-key", "first")
    assert (result["artifact"], result["version"]) == ("rto", "v0.1.0")
    metrics = result["metrics"]
    arms = metrics["arms"]
    assert arms.keys() == {"rto", "ppo"}
    for arm in arms.values():
        assert [rollouts for rollouts, _ in arm["curve"]] == [0, 32, 64, 96]
        assert arm["curve"][-1] == [arm["rollouts"], arm["true_reward"]]
        assert all(math.isfinite(reward) for _, reward in arm["curve"])
        assert arm["kl"] > 0
    assert arms["rto"]["curve"][0] == arms["ppo"]["curve"][0], "paired: the same start, prompts and random numbers"
    assert metrics["dpo"].keys() >= {"preference_accuracy", "true_reward", "kl"}
    assert "rollouts_to_ppo_final" in metrics

    page = Path(result["report"]).read_text()
    for title in ("True reward against rollouts", "KL from the start", "Reward at equal KL"):
        assert title in page
    assert re.findall(r"""(?:src|href)=["']?(?!#|data:)[^"'> ]+""", page) == [], "no outside address"

    out = tmp_path / "pulled"
    assert orchard("pull", "rto", "--out", str(out)).returncode == 0
    assert json.loads((out / "lineage.json").read_text())["parents"].keys() >= {"sft", "reward_model", "dpo"}
    assert (home / "runs" / "first" / "rto" / "result" / "parents.json").exists()


@pytest.mark.usefixtures("ray", "prefect")
def test_a_dpo_policy_that_learnt_nothing_is_not_gone_on_with(home: Path) -> None:
    done = orchard(*TINY, "--run-key", "gated", "--set", "dpo_gates.least_accuracy=0.99", "--set", "sft.max_steps=2")
    assert done.returncode == 3, done.stderr
    assert re.search(r"GateFailed: 1 of \d gates failed\n.*order of their labels", done.stderr), done.stderr
    assert "report.html" in done.stderr
    assert not (home / "runs" / "gated" / "rto").exists(), "PPO did not start"
    assert (home / "runs" / "gated" / "report.html").exists()
    assert orchard("list", "rto", "--json").stdout == ""


def test_what_cannot_work_is_refused_before_anything_starts(home: Path) -> None:
    refused = orchard(*TINY, "--set", "rto.reward.beta3=0", "--set", "rto.reward.layout=ppo")
    assert refused.returncode == 2
    assert "nothing is rewarded" in refused.stderr
    files = {
        "kind": "files",
        "train": ["gone.jsonl"],
        "held_out": ["gone.jsonl"],
        "tokenizer": "none",
        "most_prompt": 2,
    }
    missing = orchard(*TINY, "--set", f"data.task={json.dumps(files)}")
    assert missing.returncode == 2
    assert "gone.jsonl is no file" in missing.stderr
    function = ("--set", "reward_model=null", "--set", "rto.critic.start=policy", "--set", "rto.score.source=function")
    unknown = orchard(*TINY, *function, "--set", "rto.score.function=no_such_module:score")
    assert unknown.returncode == 2
    assert "cannot be imported: No module named 'no_such_module'" in unknown.stderr
    assert not (home / "runs").exists()
