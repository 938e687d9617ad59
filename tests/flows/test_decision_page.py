"""The page of a decision has every number that it stands on, and the rule that they were judged by."""

from infra.retraining import Record
from models.common.promotion import Situation, bounds, decide
from tasks.decision_page import as_page


def page(situation: Situation, *, carried_out: bool = True) -> str:
    told = Record(
        workload="nqs",
        preset="tiny",
        seed=0,
        run_key="nqs-tiny-retrain-0-v0.1.0",
        time="2026-11-21T09:30:00Z",
        decision=decide(situation),
        carried_out=carried_out,
    )
    return as_page(told)


BETTER = Situation(
    champion="nqs@v0.1.0",
    changed=("config: a | b", "lock: 1 -> 2"),
    candidate="nqs@v0.2.0",
    contest={
        "metric": "energy per site",
        "unit": " t",
        "higher_is_better": False,
        "items": 5120,
        "candidate": {"value": -0.5321, "error": 0.0004},
        "champion": {"value": -0.5301, "error": 0.0005},
        "gain": {"value": 0.002, "error": 0.00064},
        "margin": 0.0005,
    },
)


def test_a_promotion_is_shown_with_its_numbers() -> None:
    told = page(BETTER)
    assert BETTER.contest is not None
    lower, upper = 0.002 - 1.645 * 0.00064, 0.002 + 1.645 * 0.00064
    assert bounds(decide(BETTER).contest.gain) == (lower, upper)  # pyright: ignore[reportOptionalMemberAccess] there is one
    for number in ("-0.5321 ± 0.0004 t", "-0.5301 ± 0.0005 t", f"{lower:.4g} t", "0.0005 t", "5120"):
        assert number in told
    for words in ("nqs: promoted", "lower is better", "1.645 standard errors", "nqs@v0.2.0", "- lock: 1 -> 2"):
        assert words in told
    assert "a \\| b" in told, "a bar would end the table's cell"


def test_a_promotion_that_the_registry_refused_is_not_called_one() -> None:
    assert "the registry did not take the promotion" in page(BETTER, carried_out=False)


def test_a_skip_says_why_and_has_no_numbers() -> None:
    told = page(Situation(champion="nqs@v0.1.0"))
    assert "nqs: skipped" in told
    assert "nothing has changed since nqs@v0.1.0" in told
    assert "Contest" not in told
