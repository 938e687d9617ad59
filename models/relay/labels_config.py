"""How a looped teacher is run and read, and which of the labels are kept."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.relay.network_config import Share

Source = Literal["teacher", "student", "solver"]
Filter = Literal["last_round", "confidence", "votes", "length", "right_answer"]


class ReadingConfig(Config):
    """How often the loop runs: T times as the problem's length says, or until it says itself that it is done."""

    halting: Literal["given", "last_round", "confidence"] = Field(
        default="given",
        description="given: T; last_round: the first round that shows itself to be the last; confidence: the iteration "
        "at which the answer's head is surest (Fan et al., arXiv 2409.15647). The latter two look no further than the "
        "most loops of any length of the data",
    )
    more_loops: int = Field(default=0, ge=-100, le=100, description="with halting=given: T + k loops")

    @model_validator(mode="after")
    def _more_than_what_is_given(self) -> Self:
        if self.more_loops and self.halting != "given":
            raise ValueError(f"more_loops={self.more_loops} is added to T, which halting={self.halting} does not use")
        return self


class FilterConfig(Config):
    """Which labels are kept: those that pass all of these; none of them in the paper, so that all are kept.

    Where tasks are trained jointly, a chain with a token of another task is dropped in any case.

    last_round: the answer's head says what the rounds' head shows as the last round, or at the end of it. Passed by
        tasks whose last round does not tell the answer.
    confidence: no token of the label was less probable than `least_confidence`.
    votes: the chain that most of `voters` passes wrote takes the label's place, if `least_votes` of them wrote it.
    length: as many rounds as the problem's length asks for (Lee et al., arXiv 2502.01612, filter by length).
    right_answer: the answer is the solver's; a control, since it takes what the method does without.
    """

    kept: tuple[Filter, ...] = Field(default=(), max_length=5)
    least_confidence: Share = 0.5
    voters: int = Field(default=5, ge=2, le=64, description="passes that vote")
    least_votes: Share = Field(default=0.7, description="share of the voters")
    vote_dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="in the passes of a teacher that votes")
    vote_temperature: float = Field(default=1.0, gt=0.0, le=10.0, description="at which a student that votes writes")

    def misfit(self, source: Source) -> str:
        """What is wrong where these filters are to judge labels of this source; empty where nothing is."""
        unknown_to: dict[Source, tuple[Filter, ...]] = {
            "teacher": (),
            "student": ("last_round",),
            "solver": ("last_round", "confidence", "votes"),
        }
        cannot = [name for name in self.kept if name in unknown_to[source]]
        if not cannot:
            return ""
        return f"filters {', '.join(cannot)} cannot judge labels of the {source}; leave them out, or take the teacher's"
