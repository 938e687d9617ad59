"""The arms of a study: what the student is compared with, each trained in this process from what one seed has."""

# B rows of a batch   W tokens of a row

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.common.contract import World
from models.common.in_process import Trained, train_in_process
from models.relay.chains import Labels, draw_chains
from models.relay.config import LabelsConfig, StudentConfig, StudyStage, TeacherConfig, TrainingConfig
from models.relay.data_config import ProblemsData
from models.relay.labels import Counts, read_label_accuracy, write_labels
from models.relay.labels_config import FilterConfig
from models.relay.problems import Group, Problems
from models.relay.streams import CONTINUED
from models.relay.study_config import Arm
from models.relay.task import widths_of

# Their network is a looped one that is asked for nothing but answers.
ANSWERS_ONLY: frozenset[str] = frozenset({"vanilla_loop"})

_MEASURED = 512  # draws of task and length over which a mix's tokens are counted
_OWN_LABELS = 0.5  # share of draws, where the teacher is trained on with labels of its own
NO_LABELS = "no label passed its filter"

AnyTraining = TypeVar("AnyTraining", bound=TrainingConfig)


@dataclass(frozen=True)
class Pipeline:
    """What one seed has before its arms.

    stages: folders of problems, teacher, student_before, control; of labels and student too, unless no label was kept.
    """

    config: StudyStage
    world: World
    folder: Path
    stages: Mapping[str, Path]

    def train(
        self,
        stage: TrainingConfig,
        folder: Path,
        *,
        labels: Path | None = None,
        start_from: Path | None = None,
        phase: int = 0,
    ) -> Trained:
        """Trains a stage on this seed's problems, and the labels if there are any.

        phase: a later one draws other batches than those before it.
        """
        inputs = {"problems": self.stages["problems"]} | ({} if labels is None else {"labels": labels})
        return train_in_process(stage, in_phase(self.world, phase), folder, inputs, start_from)

    def label(self, config: LabelsConfig, folder: Path, **writers: Path) -> Path | None:
        """The folder of new labels, or None where no label passed its filter."""
        inputs = {"problems": self.stages["problems"], **writers}
        return folder if write_labels(config, self.world, inputs, folder) else None

    def read_problems(self) -> Problems:
        return Problems.read(self.stages["problems"])


@dataclass(frozen=True)
class TrainedArm:
    """A network and how it came about. stopped: why it is not what the arm was to train, if it is not."""

    network: Path
    counted: dict[str, float] = field(default_factory=dict)
    label_accuracy: dict[Group, Counts] = field(default_factory=dict)
    stopped: str = ""

    @classmethod
    def of(
        cls, trained: Trained, *, stopped: str = "", labels: Mapping[int, Path] | None = None, **counted: float
    ) -> TrainedArm:
        """From a training, which a guard may have stopped; labels: what was made on the way, by phase."""
        steps = float(len(trained.metrics["loss"]))
        return cls(trained.folder, {"steps": steps, **counted}, accuracy_of(labels or {}), stopped or trained.stopped)


def equal_tokens(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """The control with as many tokens as fine-tuning: short problems have fewer, so that it takes more steps.

    steps' = steps * tokens per step of fine-tuning / tokens per step of the control
    """
    config, before = pipeline.config, pipeline.stages["student_before"]
    if "labels" not in pipeline.stages:
        return TrainedArm(before, stopped=NO_LABELS)
    problems = pipeline.read_problems()
    labels = Labels.read(pipeline.stages["labels"], problems)
    new = tokens_per_step(config.fine_tuning, problems, labels, pipeline.world.seed)
    old = tokens_per_step(config.control, problems, None, pipeline.world.seed)
    stage = with_steps(config.control, max(1, round(config.control.max_steps * new / old)))
    trained = pipeline.train(stage, folder / "student", start_from=before)
    of_fine_tuning = new * config.fine_tuning.max_steps
    return TrainedArm.of(trained, tokens=old * len(trained.metrics["loss"]), tokens_of_fine_tuning=of_fine_tuning)


def truth(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """Fine-tuned on the solver's chains for the very problems that the teacher labels: what perfect labels give."""
    labels = pipeline.config.labels.but(source="solver", filters=FilterConfig())
    return _fine_tuned(pipeline, folder, pipeline.label(labels, folder / "labels"))


def filtered(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """Fine-tuned on those of the teacher's labels that it says twice and is sure of."""
    kept = {"source": "teacher", "filters.kept": ("last_round", "confidence")}
    labels = pipeline.config.labels.with_overrides(kept)
    return _fine_tuned(pipeline, folder, pipeline.label(labels, folder / "labels", teacher=pipeline.stages["teacher"]))


def iterated(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """The teacher labels the next lengths and is trained on with them, phase by phase (bootstrapping).

    At last the student is fine-tuned on all these labels, for as many steps as RELAY's.
    """
    config, teacher = pipeline.config, pipeline.stages["teacher"]
    phases = phases_of(config.labels.but(source="teacher"), pipeline.read_problems().data, config.study.phases)
    made: dict[int, Path] = {}
    for phase, part in enumerate(phases):
        new = pipeline.label(part, folder / f"labels_{phase}", teacher=teacher)
        if new is None:
            break
        made[phase] = new
        if phase + 1 < len(phases):
            labels = merged(made, pipeline.read_problems(), folder / f"so_far_{phase}")
            stage = teacher_further(config)
            teacher = pipeline.train(
                stage, folder / f"teacher_{phase}", labels=labels, start_from=teacher, phase=phase + 1
            ).folder
    if not made:
        return TrainedArm(pipeline.stages["student_before"], stopped=NO_LABELS)
    labels = merged(made, pipeline.read_problems(), folder / "labels")
    trained = pipeline.train(
        config.fine_tuning, folder / "student", labels=labels, start_from=pipeline.stages["student_before"]
    )
    return TrainedArm.of(trained, labels=made, stopped=_stopped_in(made, phases), phases=float(len(made)))


def self_answer(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """The student labels the next lengths itself, kept where the answer is right (section 4.3)."""
    return _self_training(pipeline, folder, ("right_answer",))


def self_vote(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """The student labels the next lengths itself, kept by length and majority vote (Lee et al., arXiv 2502.01612)."""
    return _self_training(pipeline, folder, ("length", "votes"))


def alibi(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """A student that knows positions by linear biases (Press et al. 2022), without labels."""
    return _with_positions(pipeline, folder, "alibi")


def nope(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """A student that is told no positions (Kazemnejad et al. 2023), without labels."""
    return _with_positions(pipeline, folder, "nope")


def vanilla_loop(pipeline: Pipeline, folder: Path) -> TrainedArm:
    """The looped network trained on answers alone (section 4.1's vanilla looped transformer)."""
    stage = pipeline.config.teacher.but(round_weight=0.0, curriculum_loss=None)
    return TrainedArm.of(pipeline.train(stage, folder / "loop"))


ARMS: dict[Arm, Callable[[Pipeline, Path], TrainedArm]] = {
    "equal_tokens": equal_tokens,
    "truth": truth,
    "filtered": filtered,
    "iterated": iterated,
    "self_answer": self_answer,
    "self_vote": self_vote,
    "alibi": alibi,
    "nope": nope,
    "vanilla_loop": vanilla_loop,
}


def _fine_tuned(pipeline: Pipeline, folder: Path, labels: Path | None) -> TrainedArm:
    """The student fine-tuned as RELAY's, on these labels."""
    before = pipeline.stages["student_before"]
    if labels is None:
        return TrainedArm(before, stopped=NO_LABELS)
    trained = pipeline.train(pipeline.config.fine_tuning, folder / "student", labels=labels, start_from=before)
    return TrainedArm.of(trained, labels={0: labels})


def _self_training(pipeline: Pipeline, folder: Path, kept: tuple[str, ...]) -> TrainedArm:
    """Labels of the student's own, phase by phase; all phases together have the steps of fine-tuning.

    A phase of which nothing is kept ends it: the student is what the phases before made of it.
    """
    config, student = pipeline.config, pipeline.stages["student_before"]
    labels = config.labels.with_overrides({"source": "student", "filters.kept": kept})
    phases = phases_of(labels, pipeline.read_problems().data, config.study.phases)
    made: dict[int, Path] = {}
    steps, stopped = 0, ""
    for phase, (part, share) in enumerate(zip(phases, _shares(config.fine_tuning.max_steps, len(phases)), strict=True)):
        new = pipeline.label(part, folder / f"labels_{phase}", student=student)
        if new is None:
            break
        made[phase] = new
        so_far = merged(made, pipeline.read_problems(), folder / f"so_far_{phase}")
        stage = with_steps(config.fine_tuning, share)
        trained = pipeline.train(stage, folder / f"student_{phase}", labels=so_far, start_from=student, phase=phase)
        student, steps, stopped = trained.folder, steps + len(trained.metrics["loss"]), stopped or trained.stopped
    counted = {"steps": float(steps), "phases": float(len(made))}
    return TrainedArm(student, counted, accuracy_of(made), stopped or _stopped_in(made, phases))


def _with_positions(pipeline: Pipeline, folder: Path, positions: str) -> TrainedArm:
    """A student of other positions, trained as the student was and then as its control."""
    changes = {"network.positions": positions, "network.alibi_slopes": ()}
    student = pipeline.train(pipeline.config.student.with_overrides(changes), folder / "student")
    control = pipeline.config.control.with_overrides(changes)
    trained = pipeline.train(control, folder / "student_further", start_from=student.folder)
    return TrainedArm.of(trained, stopped=student.stopped, steps_before=float(len(student.metrics["loss"])))


def tokens_per_step(stage: StudentConfig, problems: Problems, labels: Labels | None, seed: int) -> float:
    """Tokens of a batch, problems and chains, as the mean of the first batches that are drawn."""
    steps = range(min(stage.max_steps, max(1, _MEASURED // stage.mix.draws)))
    batches = (draw_chains(problems, labels, stage, seed, CONTINUED, step) for step in steps)
    return float(np.mean([widths_of(batch.rows.tokens_PW).sum() for batch in batches]))


def with_steps(stage: AnyTraining, steps: int) -> AnyTraining:
    """The stage with so many steps, its learning rate going up and down over the same shares of them."""
    scale = steps / stage.max_steps
    optimizer = stage.optimizer
    return stage.with_overrides(
        {
            "max_steps": steps,
            "optimizer.warmup_steps": round(optimizer.warmup_steps * scale),
            "optimizer.decay_steps": round(optimizer.decay_steps * scale),
        }
    )


def teacher_further(config: StudyStage) -> TeacherConfig:
    """How the teacher is trained on: all rounds unrolled, at a rate as much lower as fine-tuning's is."""
    lower = config.fine_tuning.optimizer.learning_rate / config.student.optimizer.learning_rate
    stage = with_steps(config.teacher, max(1, round(config.teacher.max_steps * config.study.teacher_share)))
    return stage.with_overrides(
        {
            "label_share": _OWN_LABELS,
            "curriculum_loss": None,
            "optimizer.learning_rate": min(1.0, config.teacher.optimizer.learning_rate * lower),
            "optimizer.converged_loss": None,
        }
    )


def phases_of(labels: LabelsConfig, data: ProblemsData, phases: int) -> list[LabelsConfig]:
    """The labels' lengths cut into parts, the shortest first; parts of a task differ by one length at most.

    A task with fewer lengths than phases has none left for the last ones.
    """
    lengths: list[dict[str, tuple[int, ...]]] = [{} for _ in range(phases)]
    problems: list[dict[str, tuple[int, ...]]] = [{} for _ in range(phases)]
    for each in data.tasks:
        name = each.task.name
        of_task = labels.lengths.get(name, each.label_lengths)
        order = np.argsort(of_task, kind="stable")
        for phase, part in enumerate(np.array_split(order, phases)):
            lengths[phase][name] = tuple(of_task[place] for place in part)
            if name in labels.problems:
                problems[phase][name] = tuple(labels.problems[name][place] for place in part)
    return [
        labels.but(lengths=lengths[phase], problems=problems[phase])
        for phase in range(phases)
        if any(lengths[phase].values())
    ]


def merged(made: Mapping[int, Path], problems: Problems, folder: Path) -> Path:
    """A folder of all these labels together."""
    labels = [Labels.read(place, problems) for place in made.values()]
    folder.mkdir(parents=True)
    Labels({group: part.rows(group) for part in labels for group in part.groups}, problems.vocabulary).write(folder)
    return folder


def accuracy_of(made: Mapping[int, Path]) -> dict[Group, Counts]:
    """How right all these labels are, by group; no group is in two of them."""
    return {group: counts for place in made.values() for group, counts in read_label_accuracy(place).items()}


def in_phase(world: World, phase: int) -> World:
    """The world of this phase: the seed's own in the first, and random numbers of their own in each further one."""
    if not phase:
        return world
    return replace(world, seed=int(np.random.SeedSequence([world.seed, CONTINUED, phase]).generate_state(1)[0]))


def _shares(steps: int, phases: int) -> list[int]:
    """Steps of each phase, at least one; they differ by one at most."""
    return [max(1, len(part)) for part in np.array_split(np.arange(steps), phases)]


def _stopped_in(made: Mapping[int, Path], phases: list[LabelsConfig]) -> str:
    return "" if len(made) == len(phases) else f"{NO_LABELS} in phase {len(made) + 1} of {len(phases)}"
