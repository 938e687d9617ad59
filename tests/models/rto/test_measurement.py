"""What is measured on responses, against brute-force sums over all responses that a small policy can write."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from models.rto.measurement import Judge, Measured, response_log_probs
from models.rto.preferences import Preferences, sequences
from tests.models.rto.made_up import TablePolicy, small_preferences, table_policy

CPU = torch.device("cpu")


def _judge(preferences: Preferences, most: int = 4, least: int = 0, seed: int = 0) -> Judge:
    return Judge(preferences, most, least, None, seed, CPU)


def _law(policy: TablePolicy) -> np.ndarray:
    return torch.softmax(policy.logits_VV, dim=-1).numpy()


def _exact_kl(policy: TablePolicy, reference: TablePolicy, prompt: int, length: int) -> float:
    """Sum over all responses of p log p/q."""
    p, q = _law(policy), _law(reference)
    total = 0.0
    for response in itertools.product(range(policy.vocabulary), repeat=length):
        steps = list(itertools.pairwise((prompt, *response)))
        p_whole, q_whole = (np.prod([law[step] for step in steps]) for law in (p, q))
        total += p_whole * np.log(p_whole / q_whole)
    return total


def test_both_estimates_of_the_kl_agree_with_the_sum_over_all_responses(tmp_path: Path) -> None:
    preferences = small_preferences(tmp_path)
    policy, reference = table_policy(1, preferences.vocabulary), table_policy(2, preferences.vocabulary)
    samples = 4000
    means = _judge(preferences).measure(policy, reference, samples).means()
    prompts = preferences.held_out.prompts
    of_prompt = {prompt: _exact_kl(policy, reference, prompt, 4) for prompt in {int(row[0]) for row in prompts}}
    exact = np.mean([of_prompt[int(prompts[n % len(prompts)][0])] for n in range(samples)])
    assert abs(means["kl"] - exact) < 4 * means["kl_error"]
    assert abs(means["log_ratio"] - exact) < 4 * means["log_ratio_error"]
    assert means["kl_error"] < 0.5 * means["log_ratio_error"], "the exact sum at each state leaves less to chance"


def test_a_policy_is_nowhere_from_itself(tmp_path: Path) -> None:
    preferences = small_preferences(tmp_path)
    policy = table_policy(1, preferences.vocabulary)
    columns = _judge(preferences).measure(policy, policy, 8).columns_S
    assert (columns["kl"] == 0).all()
    assert (columns["log_ratio"] == 0).all()


def test_the_reward_is_the_tasks_own(tmp_path: Path) -> None:
    preferences = small_preferences(tmp_path)
    policy = table_policy(1, preferences.vocabulary)
    judge = _judge(preferences)
    (batch,) = list(judge.responses(policy, 6))
    truth = preferences.truth()
    assert truth is not None
    prompts, responses = ([row.numpy() for row in rows] for rows in (batch[0].prompts_BP, batch[0].responses_BGR[:, 0]))
    found = judge.measure_batch(policy, policy, *batch).columns_S["reward"]
    np.testing.assert_allclose(found, truth.score(prompts, responses))


def test_all_policies_get_the_same_prompts_and_the_same_luck(tmp_path: Path) -> None:
    preferences = small_preferences(tmp_path)
    policy, other = table_policy(1, preferences.vocabulary), table_policy(2, preferences.vocabulary)
    judge = _judge(preferences)
    (first, _), (again, _), (others, _) = (next(judge.responses(each, 10)) for each in (policy, policy, other))
    assert torch.equal(first.responses_BGR, again.responses_BGR)
    assert torch.equal(first.prompts_BP, others.prompts_BP)
    other_seed, _ = next(_judge(preferences, seed=1).responses(policy, 10))
    assert not torch.equal(first.responses_BGR, other_seed.responses_BGR)


def test_prompts_come_again_where_more_samples_are_asked_for(tmp_path: Path) -> None:
    preferences = small_preferences(tmp_path)
    policy = table_policy(1, preferences.vocabulary)
    batch = next(_judge(preferences).responses(policy, 20))[0]
    assert torch.equal(batch.prompts_BP[16:], batch.prompts_BP[:4])


def test_small_batches_measure_what_a_large_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preferences = small_preferences(tmp_path)
    policy, reference = table_policy(1, preferences.vocabulary), table_policy(2, preferences.vocabulary)
    whole = _judge(preferences).measure(policy, reference, 11)
    monkeypatch.setattr("models.rto.measurement._MOST_ROWS", 3)
    pieces = _judge(preferences).measure(policy, reference, 11)
    for name, values_S in whole.columns_S.items():
        np.testing.assert_allclose(pieces.columns_S[name], values_S, rtol=1e-12)


def test_an_end_that_may_not_come_yet_counts_for_nothing(tmp_path: Path) -> None:
    preferences = small_preferences(tmp_path, task={"kind": "length_trap", "classes": 2, "symbols": 2, "longest": 6})
    assert preferences.end is not None
    policy, reference = table_policy(1, preferences.vocabulary), table_policy(2, preferences.vocabulary)
    reference.logits_VV[:, preferences.end] = -50.0  # hardly ever ends
    judge = _judge(preferences, most=2, least=2)
    columns = judge.measure(policy, reference, 50).columns_S
    assert (columns["kl"] < 20).all(), "in two tokens neither may end"
    assert (columns["truncated"] == 1).all()
    assert (columns["length"] == 2).all()


def test_log_probs_stand_at_their_places_and_padding_at_none() -> None:
    policy = table_policy(1, 4)
    batch = sequences([[3], [2]], [[[0, 1, 2]], [[1]]])
    log_p = torch.log_softmax(policy.logits_VV, dim=-1)
    found = response_log_probs(policy, batch)[:, 0]
    expected = [[log_p[3, 0], log_p[0, 1], log_p[1, 2]], [log_p[2, 1], 0.0, 0.0]]
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_standard_errors_are_those_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    means = Measured({"kl": values}).means()
    assert means["kl"] == 4.0
    assert means["kl_error"] == pytest.approx(np.sqrt(((values - 4) ** 2).sum() / 3 / 4))
