"""The training loop, on a learner whose every step is known."""

import math
from collections.abc import Container
from dataclasses import replace

import pytest

from models.common.contract import LearnerState, Metrics
from models.common.errors import TrainingError
from models.common.loop import CURVE_POINTS, Progress, train


class Counter:
    """Step n has the loss 1/n, is not finite at `breaks_at`, and stops at `stops_at`; doubtful ones are not sound."""

    def __init__(
        self,
        ends_at: int = 10**9,
        breaks_at: int = 10**9,
        stops_at: int = 10**9,
        doubtful: Container[int] = (),
    ) -> None:
        self.n = 0
        self.ends_at, self.breaks_at, self.stops_at, self.doubtful = ends_at, breaks_at, stops_at, doubtful
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        self.n += 1
        if self.n == self.stops_at:
            raise TrainingError("the chains are frozen")
        self.finished = self.n >= self.ends_at
        self.sound = self.n not in self.doubtful
        return {"loss": math.nan if self.n == self.breaks_at else 1 / self.n, "n": float(self.n)}

    def state_dict(self) -> LearnerState:
        return LearnerState(shared={"n": self.n})

    def load_state_dict(self, state: LearnerState) -> None:
        self.n = state.shared["n"]

    def weights(self) -> dict:
        return {}


class Memory:
    """Recorder and saver that keep everything."""

    def __init__(self) -> None:
        self.saves: list[tuple[Progress, LearnerState]] = []
        self.told: list[tuple[str, int]] = []
        self.notices: set[int] = set()

    def newest(self) -> tuple[Progress, LearnerState] | None:
        return self.saves[-1] if self.saves else None

    def save(self, progress: Progress, state: LearnerState) -> None:
        kept = {name: list(values) for name, values in progress.curve.items()}
        self.saves.append((replace(progress, curve=kept), state))

    def wanted(self, step: int) -> bool:
        return step in self.notices

    def started(self, step: int) -> None:
        self.told.append(("started", step))

    def stepped(self, step: int, metrics: Metrics) -> None:
        self.told.append(("stepped", step))

    def finished(self, step: int) -> None:
        self.told.append(("finished", step))


def _train(learner: Counter, memory: Memory, max_steps: int = 25, save_every: int = 10) -> Progress:
    return train(learner, max_steps=max_steps, save_every=save_every, recorder=memory, saver=memory)


def test_it_saves_out_of_turn_where_a_checkpoint_is_wanted() -> None:
    memory = Memory()
    memory.notices = {13}
    _train(Counter(), memory)
    assert [progress.step for progress, _ in memory.saves] == [10, 13, 20, 25]


def test_it_saves_on_schedule_and_at_the_end() -> None:
    memory = Memory()
    progress = _train(Counter(), memory)
    assert [saved.step for saved, _ in memory.saves] == [10, 20, 25]
    assert [state.shared["n"] for _, state in memory.saves] == [10, 20, 25]
    assert progress.curve["n"] == [float(n) for n in range(1, 26)]
    assert memory.told == [("started", 0), *(("stepped", n) for n in range(1, 26)), ("finished", 25)]


def test_it_goes_on_from_the_newest_with_its_curve() -> None:
    whole, broken = Memory(), Memory()
    expected = _train(Counter(), whole)
    _train(Counter(), broken, max_steps=20)
    learner = Counter()
    assert _train(learner, broken) == expected
    assert learner.n == 25
    assert ("started", 20) in broken.told


def test_a_finished_stage_takes_no_further_step() -> None:
    memory = Memory()
    _train(Counter(), memory)
    before = len(memory.saves)
    assert _train(Counter(), memory).step == 25
    assert len(memory.saves) == before


def test_a_learner_may_end_the_stage_itself() -> None:
    memory = Memory()
    assert _train(Counter(ends_at=7), memory).step == 7
    assert [saved.step for saved, _ in memory.saves] == [7]


@pytest.mark.parametrize(
    ("breaks_at", "told"), [(14, "the checkpoint of step 10 is good"), (3, "no checkpoint had been")]
)
def test_a_number_that_is_not_finite_stops_it_with_the_last_good_checkpoint(breaks_at: int, told: str) -> None:
    memory = Memory()
    with pytest.raises(TrainingError, match=rf"step {breaks_at}: loss is nan\ntry a smaller learning rate.*\n{told}"):
        _train(Counter(breaks_at=breaks_at), memory)
    assert all(math.isfinite(value) for saved, _ in memory.saves for value in saved.curve["loss"])


def test_a_learner_that_stops_itself_is_told_with_step_and_checkpoint() -> None:
    with pytest.raises(TrainingError, match=r"the chains are frozen\nthe checkpoint of step 10 is good"):
        _train(Counter(stops_at=14), Memory())


def test_a_checkpoint_that_is_due_waits_until_the_learner_is_sound() -> None:
    memory = Memory()
    _train(Counter(doubtful=range(8, 13)), memory)
    assert [saved.step for saved, _ in memory.saves] == [13, 20, 25]


def test_a_learner_that_ends_unsound_leaves_the_last_sound_checkpoint() -> None:
    memory = Memory()
    with pytest.raises(TrainingError, match="the checkpoint of step 10 is good"):
        _train(Counter(doubtful=range(18, 30), stops_at=24), memory)
    assert [saved.step for saved, _ in memory.saves] == [10]


def test_a_long_training_keeps_a_short_curve() -> None:
    progress = _train(Counter(), Memory(), max_steps=4 * CURVE_POINTS, save_every=10**6)
    assert len(progress.curve["loss"]) == CURVE_POINTS
    assert progress.curve["step"][-1] == 4 * CURVE_POINTS
