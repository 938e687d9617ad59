"""The decision on promotion: every case that a retraining can meet, and a bound that errs as often as it says."""

import random
from statistics import NormalDist
from typing import Any

import pytest

from models.common.contest import Contest, Estimate, paired
from models.common.promotion import BOUND, Approval, Situation, after_asking, bounds, decide, judge


def a_contest(gain: float, error: float = 0.5, margin: float = 1.0) -> dict[str, Any]:
    """What a contest's job leaves: the candidate is better by so much."""
    return {
        "metric": "answers right",
        "unit": " points",
        "items": 400,
        "candidate": {"value": 60.0 + gain, "error": 2.0},
        "champion": {"value": 60.0, "error": 2.0},
        "gain": {"value": gain, "error": error},
        "margin": margin,
    }


CHANGED = Situation(champion="relay@v0.1.0", changed=("code: models/relay/teacher.py",))
TRAINED = CHANGED.but(candidate="relay@v0.2.0")
LACKING = {name: value for name, value in a_contest(3.0).items() if name != "candidate"}

CASES: dict[str, tuple[Situation, str, str]] = {
    "no champion yet, before": (Situation(), "run", "there is no champion yet"),
    "no champion yet, after": (Situation(candidate="relay@v0.1.0"), "promote", "there was no champion"),
    "unchanged": (Situation(champion="relay@v0.1.0"), "skip", "nothing has changed since relay@v0.1.0"),
    "changed": (CHANGED, "run", "changed since relay@v0.1.0: code: models/relay/teacher.py"),
    "changed and better": (
        TRAINED.but(contest=a_contest(3.0)),
        "promote",
        "a gain of 3 ± 0.5 points in answers right over relay@v0.1.0: 95 % lower bound 2.178 points reaches the margin",
    ),
    "changed and worse": (TRAINED.but(contest=a_contest(-3.0)), "keep", "95 % upper bound -2.178 points is below zero"),
    "within noise": (
        TRAINED.but(contest=a_contest(1.5)),
        "keep",
        "95 % lower bound 0.6775 points does not reach the margin of 1 points",
    ),
    "better, by less than the margin": (
        TRAINED.but(contest=a_contest(0.5, error=0.1)),
        "keep",
        "95 % upper bound 0.6645 points is below the margin of 1 points",
    ),
    "a tie without a margin": (TRAINED.but(contest=a_contest(0.0, 0.0, 0.0)), "keep", "a tie keeps the champion"),
    "exactly the margin without an error": (TRAINED.but(contest=a_contest(1.0, 0.0)), "promote", "reaches the margin"),
    "evaluation failed": (TRAINED.but(contest_fault="the job was lost"), "keep", "the job was lost"),
    "candidate missing a metric": (TRAINED.but(contest=LACKING), "keep", "candidate: found"),
    "candidate's metric is no number": (
        TRAINED.but(contest=a_contest(3.0) | {"candidate": {"value": float("nan"), "error": 1.0}}),
        "keep",
        "candidate.value: found nan",
    ),
    "the contest left nothing": (TRAINED.but(contest={}), "keep", "gain"),
    "candidate's run failed": (CHANGED.but(candidate_fault="GateFailed: 1 of 3"), "keep", "GateFailed: 1 of 3"),
    "registry unreachable": (Situation(registry_fault="no answer"), "refuse", "no answer"),
    "registry lost after the training": (CHANGED.but(candidate_fault="no answer"), "keep", "no answer"),
    "champion does not verify": (
        Situation(champion="relay@v0.1.0", champion_fault="weights were altered"),
        "refuse",
        "weights were altered",
    ),
    "versions not comparable": (CHANGED.but(not_comparable="another system"), "refuse", "another system"),
    "not comparable, but unchanged": (Situation(champion="relay@v0.1.0", not_comparable="other"), "skip", "nothing"),
    "the same was champion and was taken back": (
        CHANGED.but(taken_back="relay@v0.3.0"),
        "skip",
        "orchard promote relay@v0.3.0",
    ),
    "the same candidate has lost before": (CHANGED.but(judged_before="lost on Monday"), "skip", "lost on Monday"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_decision_is_right_where(name: str) -> None:
    situation, action, reason = CASES[name]
    decision = decide(situation)
    assert decision.action == action
    assert reason in decision.reason
    assert (decision.champion, decision.candidate) == (situation.champion, situation.candidate)


@pytest.mark.parametrize("name", CASES)
def test_only_a_candidate_that_exists_is_promoted_and_nothing_is_once_something_is_broken(name: str) -> None:
    situation, _, _ = CASES[name]
    for fault in ("registry_fault", "champion_fault", "contest_fault", "candidate_fault", "not_comparable"):
        decision = decide(situation.but(**{fault: "broken"}))
        assert decision.action != "promote" or (fault == "contest_fault" and not situation.champion)
    assert decide(situation.but(candidate="")).action != "promote"


def test_the_bound_is_that_of_a_normal_error() -> None:
    assert pytest.approx(NormalDist().inv_cdf(0.95), abs=5e-4) == BOUND
    lower, upper = bounds(Estimate(value=1.0, error=2.0))
    assert NormalDist(1.0, 2.0).cdf(lower) == pytest.approx(0.05, abs=1e-4)
    assert NormalDist(1.0, 2.0).cdf(upper) == pytest.approx(0.95, abs=1e-4)


def test_a_candidate_that_is_just_worth_the_margin_passes_in_one_case_of_twenty() -> None:
    draw = random.Random(3)
    passed = 0
    for _ in range(2000):
        champion = [draw.gauss(0.0, 1.0) for _ in range(100)]
        candidate = [one + draw.gauss(0.2, 0.5) for one in champion]
        scores = paired(candidate, champion)
        contest = Contest(metric="reward", items=100, margin=0.2, **scores._asdict())
        passed += judge(contest) == "better"
    assert passed / 2000 == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 2000) ** 0.5 + 0.005)


@pytest.mark.parametrize(
    ("approval", "action", "told"),
    [
        (Approval(promote=True, name="Ada", comment="looks right"), "promote", "approved by Ada: looks right"),
        (Approval(promote=False, name="Ada"), "keep", "denied by Ada"),
        (Approval(promote=False), "keep", "denied"),
        (None, "keep", "nobody answered in time; promote it by hand: orchard promote relay@v0.2.0"),
    ],
)
def test_a_person_who_is_asked_decides(approval: Approval | None, action: str, told: str) -> None:
    decision = after_asking(decide(TRAINED.but(contest=a_contest(3.0))), approval)
    assert decision.action == action
    assert told in decision.reason.splitlines()[-1]
