"""Differences between arms beside scipy's tests and brute force."""

import json
import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from models.relay.comparison import (
    ArmResult,
    Outcomes,
    Seed,
    difference,
    discordance,
    group_of,
    mean_share,
    share,
    sign_test,
    token_accuracy,
)
from models.relay.problems import Group

SHORT, LONG = Group("sums", 6), Group("sums", 12)
CHAINS, ANSWERS = "chain_exact_match", "answer_accuracy"


def arm(short: str, long: str, answers: bool = False) -> ArmResult:
    """An arm that got these chains right, and the same answers; or answers alone."""
    chains = {SHORT: "" if answers else short, LONG: "" if answers else long}
    return ArmResult(
        {SHORT: Outcomes(short, chains[SHORT], 3, 4), LONG: Outcomes(long, chains[LONG], 1, 8)},
    )


def drawn(seed: int, size: int, share_right: float) -> str:
    right = np.random.default_rng(seed).random(size) < share_right
    return "".join("1" if each else "0" for each in right)


def bits(text: str) -> np.ndarray:
    return np.array([int(digit) for digit in text])


def test_lengths_count_alike_however_many_tests_they_have() -> None:
    result = arm("1111", "10000000")
    assert share(result, LONG, CHAINS) == pytest.approx(1 / 8)
    assert mean_share(result, [SHORT, LONG], CHAINS) == pytest.approx((1 + 1 / 8) / 2)
    assert token_accuracy(result, SHORT) == 0.75


def test_the_interval_over_seeds_is_scipys_paired_t_test() -> None:
    seeds = [
        Seed(
            number,
            {"relay": arm(drawn(number, 50, 0.8), drawn(number + 9, 20, 0.6)), "control": arm("01" * 25, "0" * 20)},
        )
        for number in range(5)
    ]
    found = difference(seeds, "relay", "control", [SHORT, LONG], CHAINS)
    assert found is not None
    first, second = (
        [
            (bits(s.arms[name].outcomes[SHORT].chains).mean() + bits(s.arms[name].outcomes[LONG].chains).mean()) / 2
            for s in seeds
        ]
        for name in ("relay", "control")
    )
    interval = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found.over == "seeds"
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert list(found.by_seed.values()) == pytest.approx(np.subtract(first, second))


def test_the_interval_of_one_seed_is_the_normal_one_of_paired_differences() -> None:
    one, other = drawn(1, 400, 0.7), drawn(2, 400, 0.5)
    seed = Seed(0, {"relay": arm(one, one), "control": arm(other, other)})
    found = difference([seed], "relay", "control", [SHORT], CHAINS)
    assert found is not None
    differences = bits(one) - bits(other)
    low, high = stats.norm.interval(0.95, loc=differences.mean(), scale=stats.sem(differences))
    assert found.over == "problems"
    assert (found.mean, found.low, found.high) == (
        pytest.approx(differences.mean()),
        pytest.approx(low),
        pytest.approx(high),
    )


def test_the_interval_over_two_lengths_holds_the_true_difference_in_95_of_100_samples() -> None:
    # The standard error of a mean of two independent means; checked by drawing again and again.
    rng = np.random.default_rng(4)
    held, trials = 0, 600

    def some(share_right: float) -> ArmResult:
        short, long = ("".join("01"[int(x)] for x in rng.random(size) < share_right) for size in (60, 200))
        return arm(short, long)

    for _ in range(trials):
        seed = Seed(0, {"relay": some(0.7), "control": some(0.4)})
        found = difference([seed], "relay", "control", [SHORT, LONG], CHAINS)
        assert found is not None
        held += found.low <= 0.3 <= found.high
    assert stats.binomtest(held, trials, 0.95).pvalue > 0.001


def test_a_single_problem_tells_nothing() -> None:
    seed = Seed(0, {"relay": arm("1", "1"), "control": arm("0", "0")})
    found = difference([seed], "relay", "control", [SHORT], CHAINS)
    assert found is not None
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low < 0.0


def test_seeds_without_one_of_the_arms_are_left_out() -> None:
    whole = {"relay": arm("11", "10"), "control": arm("00", "00")}
    seeds = [Seed(0, whole), Seed(1, {"relay": arm("11", "11")}), Seed(2, whole)]
    found = difference(seeds, "relay", "control", [SHORT, LONG], CHAINS)
    assert found is not None
    assert list(found.by_seed) == [0, 2]
    assert difference(seeds, "relay", "truth", [SHORT], CHAINS) is None


def test_an_arm_without_chains_is_compared_by_its_answers() -> None:
    seed = Seed(0, {"relay": arm("1110", "11"), "vanilla_loop": arm("1000", "11", answers=True)})
    assert difference([seed], "relay", "vanilla_loop", [SHORT], CHAINS) is None
    assert discordance(seed, "relay", "vanilla_loop", [SHORT], CHAINS) is None
    found = difference([seed], "relay", "vanilla_loop", [SHORT], ANSWERS)
    assert found is not None
    assert found.mean == 0.5


def test_signs_say_which_arm_is_better_at_each_seed() -> None:
    shares = [("11", "10"), ("10", "11"), ("10", "10"), ("11", "00"), ("11", "00")]
    seeds = [
        Seed(number, {"relay": arm(one, one), "control": arm(other, other)})
        for number, (one, other) in enumerate(shares)
    ]
    found = difference(seeds, "relay", "control", [SHORT], CHAINS)
    assert found is not None
    assert found.signs == {0: 1, 1: -1, 2: 0, 3: 1, 4: 1}
    assert found.p_value_of_signs == pytest.approx(stats.binomtest(3, 4, 0.5).pvalue)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (3, 3), (2, 9), (40, 17), (700, 800), (2600, 3)])
def test_the_sign_test_is_scipys_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_the_sign_test_is_what_counting_all_outcomes_gives() -> None:
    wins, losses = 7, 2
    outcomes = [sum(outcome) for outcome in product((0, 1), repeat=9)]
    as_uneven = [count for count in outcomes if min(count, 9 - count) <= 2]
    assert sign_test(wins, losses) == pytest.approx(len(as_uneven) / 2**9)


def test_mcnemar_counts_the_problems_that_only_one_arm_solved() -> None:
    seed = Seed(0, {"relay": arm("1111100", "110"), "control": arm("1000010", "011")})
    found = discordance(seed, "relay", "control", [SHORT, LONG], CHAINS)
    assert found is not None
    assert (found.only_first, found.only_second) == (5, 2)
    assert found.p_value == pytest.approx(stats.binomtest(5, 7, 0.5).pvalue)


def test_mcnemars_exact_test_comes_close_to_its_normal_one_for_many_problems() -> None:
    one, other = drawn(5, 4000, 0.52), drawn(6, 4000, 0.5)
    found = discordance(Seed(0, {"a": arm(one, one), "b": arm(other, other)}), "a", "b", [SHORT], CHAINS)
    assert found is not None
    b, c = found.only_first, found.only_second
    chi_square = (abs(b - c) - 1) ** 2 / (b + c)  # McNemar 1947, with Edwards' correction
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(chi_square / 2)), rel=0.02)


def test_a_seed_is_read_back_as_it_was_written() -> None:
    result = ArmResult({SHORT: Outcomes("10", "00", 3, 8)}, {"tokens": 12.5}, {LONG: {"labels": 3}}, "no label passed")
    seed = Seed(3, {"filtered": result})
    assert Seed.from_json(json.loads(json.dumps(seed.as_json()))) == seed


@pytest.mark.parametrize("group", [Group("edit_distance", 40), Group("a_b_c", 1000), Group("sums", 7)])
def test_a_group_is_found_again_by_its_name(group: Group) -> None:
    assert group_of(str(group)) == group
