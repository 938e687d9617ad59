"""Which arms a study trains beside RELAY's student, and over how many seeds."""

from typing import Literal

from pydantic import Field

from models.common.config import Config

Arm = Literal[
    "equal_tokens", "truth", "filtered", "iterated", "self_answer", "self_vote", "alibi", "nope", "vanilla_loop"
]


class StudyConfig(Config):
    """Seeds beyond the run's own, and arms beyond RELAY's student and its control, which every seed has.

    equal_tokens: the control, with as many tokens as fine-tuning instead of as many steps.
    truth: fine-tuned on the solver's chains: what perfect labels would give.
    filtered: fine-tuned on labels whose last round agrees with the answer, and that the teacher was sure of.
    iterated: RELAY again with the label lengths in parts: each time the teacher is trained on, with its own labels.
    self_answer: the student labels the next lengths itself; kept where the answer is right (section 4.3, table 4).
    self_vote: the same, kept by length and majority vote (Lee et al., arXiv 2502.01612).
    alibi, nope: a student of other positions, trained as long as the control, without labels.
    vanilla_loop: the looped model trained on answers alone; its answers only.
    """

    seeds: int = Field(default=0, ge=0, le=100)
    arms: tuple[Arm, ...] = Field(default=(), max_length=9)
    phases: int = Field(
        default=3, ge=1, le=100, description="parts into which iterated and self-training cut the lengths"
    )
    teacher_share: float = Field(
        default=0.25, gt=0.0, le=10.0, description="of its steps, how many iterated trains the teacher on in each phase"
    )
