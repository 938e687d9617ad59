"""Whether a retrained version becomes champion: a pure function of what was found out.

Asked twice in a retraining: before anything is trained, when it says whether to go on, and when the candidate is there.
"""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import ValidationError

from models.common.config import Config, explain_validation
from models.common.contest import Contest, Estimate

BOUND = 1.645  # standard errors: 95 % of normal errors leave the truth above a bound so far below the estimate

Case = Literal[
    "registry unreachable",
    "champion damaged",
    "unchanged",
    "not comparable",
    "taken back",
    "judged before",
    "changed",
    "candidate failed",
    "no champion yet",
    "contest failed",
    "metric missing",
    "better",
    "worse",
    "too small a gain",
    "within noise",
    "denied",
    "not answered",
]
Action = Literal["refuse", "skip", "run", "keep", "promote"]


class Situation(Config):
    """What is known when a decision is due; what was not reached, or did not happen, is empty.

    Versions are written as NAME@VERSION; a fault is the text of its error.
    """

    registry_fault: str = ""
    champion: str = ""
    champion_fault: str = ""  # why its bytes or its lineage are not to be trusted
    changed: tuple[str, ...] = ()  # what differs from the champion's lineage
    not_comparable: str = ""  # why candidate and champion cannot be scored on the same items
    taken_back: str = ""  # a version of the same fingerprint that was champion until somebody took it back
    judged_before: str = ""  # why the same candidate lost to the same champion before
    candidate: str = ""
    candidate_fault: str = ""  # why its run left no version
    contest: dict[str, Any] | None = None  # what the job that scored both has left: a Contest, if all is well
    contest_fault: str = ""


class Decision(Config):
    """What is to be done, why, and on which numbers.

    refuse: nothing was started, and somebody has to look. skip: nothing was started, as nothing is to be won. run:
    train a candidate. keep: the champion stays. promote: the candidate becomes champion.
    """

    action: Action
    case: Case
    reason: str
    champion: str = ""
    candidate: str = ""
    changed: tuple[str, ...] = ()
    contest: Contest | None = None

    @property
    def is_a_fault(self) -> bool:
        """Whether something is broken, and the retraining ends as failed."""
        return self.case in _FAULTS


class Approval(Config):
    """What a person answered who was asked whether a candidate becomes champion."""

    promote: bool
    name: str = ""
    comment: str = ""


_FAULTS: tuple[Case, ...] = (
    "registry unreachable",
    "champion damaged",
    "not comparable",
    "candidate failed",
    "contest failed",
    "metric missing",
)


def decide(situation: Situation) -> Decision:
    """The decision in this situation: the first case that applies."""
    found = situation
    known = {"champion": found.champion, "candidate": found.candidate, "changed": found.changed}
    cases: tuple[tuple[Any, Action, Case, Callable[[], str]], ...] = (
        (found.registry_fault, "refuse", "registry unreachable", lambda: found.registry_fault),
        (found.champion_fault, "refuse", "champion damaged", lambda: found.champion_fault),
        (found.champion and not found.changed, "skip", "unchanged", lambda: _unchanged(found)),
        (found.not_comparable, "refuse", "not comparable", lambda: found.not_comparable),
        (found.taken_back, "skip", "taken back", lambda: _taken_back(found)),
        (found.judged_before, "skip", "judged before", lambda: found.judged_before),
        (found.candidate_fault, "keep", "candidate failed", lambda: found.candidate_fault),
        (not found.candidate, "run", "changed", lambda: _changed(found)),
        (not found.champion, "promote", "no champion yet", lambda: _first(found)),
        (found.contest_fault, "keep", "contest failed", lambda: found.contest_fault),
    )
    for applies, action, case, tell in cases:
        if applies:
            return Decision(action=action, case=case, reason=tell(), **known)
    try:
        contest = Contest.model_validate(found.contest or {})
    except ValidationError as fault:
        reason = explain_validation(fault, f"the contest of {found.candidate} and {found.champion}")
        return Decision(action="keep", case="metric missing", reason=reason, **known)
    case = judge(contest)
    action = "promote" if case == "better" else "keep"
    return Decision(action=action, case=case, reason=_told(found, contest, case), contest=contest, **known)


def judge(contest: Contest) -> Case:
    """How the candidate fared: better only where the lower bound of its gain is positive and reaches the margin."""
    lower, upper = bounds(contest.gain)
    if lower > 0 and lower >= contest.margin:
        return "better"
    if upper < 0:
        return "worse"
    if upper < contest.margin:
        return "too small a gain"
    return "within noise"


def bounds(gain: Estimate) -> tuple[float, float]:
    """The lower and the upper 95 % bound, each one-sided: the truth is beyond either in one case of twenty.

    b = gain -+ 1.645 error
    """
    return gain.value - BOUND * gain.error, gain.value + BOUND * gain.error


def after_asking(decision: Decision, approval: Approval | None) -> Decision:
    """The decision once a person was asked: as it was where promoted; None is no answer in time."""
    if approval is None:
        reason = f"{decision.reason}\nnobody answered in time; promote it by hand: orchard promote {decision.candidate}"
        return decision.but(action="keep", case="not answered", reason=reason)
    who = (f" by {approval.name}" if approval.name else "") + (f": {approval.comment}" if approval.comment else "")
    if approval.promote:
        return decision.but(reason=f"{decision.reason}\napproved{who}")
    return decision.but(action="keep", case="denied", reason=f"{decision.reason}\ndenied{who}")


def _unchanged(found: Situation) -> str:
    return f"nothing has changed since {found.champion}: code, lock, data, config and seed are those of its lineage"


def _taken_back(found: Situation) -> str:
    return (
        f"{found.taken_back} was made from the same code, lock, data, config and seed, was champion, and was taken "
        f"back\nwhere it is to be champion after all: orchard promote {found.taken_back}"
    )


def _changed(found: Situation) -> str:
    if not found.champion:
        return "there is no champion yet"
    return f"changed since {found.champion}: {'; '.join(found.changed)}"


def _first(found: Situation) -> str:
    return f"{found.candidate} passed its gates, and there was no champion"


def _told(found: Situation, contest: Contest, case: Case) -> str:
    """The numbers of a contest as a sentence."""
    (lower, upper), unit, margin = bounds(contest.gain), contest.unit, contest.margin
    gain = f"a gain of {contest.gain.value:.4g} ± {contest.gain.error:.2g}{unit} in {contest.metric}"
    against = f"{found.candidate} has {gain} over {found.champion}"
    lower_bound, upper_bound = f"95 % lower bound {lower:.4g}{unit}", f"95 % upper bound {upper:.4g}{unit}"
    told = {
        "better": f"{lower_bound} reaches the margin of {margin:g}{unit}",
        "worse": f"{upper_bound} is below zero",
        "too small a gain": f"{upper_bound} is below the margin of {margin:g}{unit}",
        "within noise": f"{lower_bound} does not reach the margin of {margin:g}{unit}",
    }
    if case == "within noise" and lower >= margin:
        return f"{against}: no more than nothing, and a tie keeps the champion"
    return f"{against}: {told[case]}"
