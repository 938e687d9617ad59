"""RELAY's stages. Defaults are the paper's where it gives a number; `presets.py` holds what was run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from models.common.config import unknown
from models.common.contract import (
    Inputs,
    Learner,
    MapConfig,
    StageConfig,
    WorkerGroup,
    WorkloadConfig,
    World,
)
from models.common.errors import ConfigError
from models.relay.contest_config import PromotionConfig, RelayContest
from models.relay.data_config import Length, ProblemsData, TaskLengths
from models.relay.labels_config import FilterConfig, ReadingConfig
from models.relay.network_config import MixConfig, NetworkConfig, OptimizerConfig, Share
from models.relay.study_config import StudyConfig
from models.relay.tasks.user import UserTask
from models.relay.validation import require_sound, shows_boards, tells_last_rounds

Count = Annotated[int, Field(ge=1, le=10_000_000)]
TaskWeights = dict[str, Annotated[float, Field(gt=0.0, le=1000.0)]]
TaskShares = dict[str, Share]


class TrainingConfig(StageConfig):
    """What teacher and student share."""

    max_steps: int = Field(default=100_000, ge=1, le=100_000_000)
    batch_size: int = Field(default=512, ge=1, le=1_000_000)
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mix: MixConfig = MixConfig()
    task_weights: TaskWeights = Field(
        default={}, description="of each task's loss, by name, where tasks are trained jointly; 1 where none is given"
    )


class TeacherConfig(TrainingConfig):
    """Stage I: a looped transformer whose iteration t is trained to show round t of the chain."""

    round_weight: NonNegativeFloat = Field(default=1.0, le=1000.0, description="lambda; not given in the paper")
    input_injection: bool = Field(default=False, description="each iteration is given the embedded problem again")
    outer_norm: bool = Field(default=False, description="a layer norm on the embeddings and after each iteration")
    tied_head: bool = Field(default=False, description="rounds are read with the embedding's weights, normalised")
    alignment: Literal["right", "left"] = Field(default="right", description="where a round stands; right in the paper")
    supervised_pads: Literal["last", "all"] = Field(default="last", description="last: only the one beside the round")
    side_pads: int = Field(default=1, ge=1, le=64, description="training puts 1 to so many beside the widest row")
    workspace: int = Field(
        default=0, ge=0, le=1024, description="positions behind the problem, so that rounds need not stand on it"
    )
    board: bool = Field(
        default=False,
        description="beside the round, the problem is shown as the task's board has it; not labelled ones (iterated)",
    )
    curriculum_loss: NonNegativeFloat | None = Field(
        default=None, le=100.0, description="below it one more round is unrolled; None unrolls all from the first step"
    )
    curriculum_window: int = Field(default=20, ge=1, le=10_000, description="batches over which that loss is taken")
    label_share: Share = Field(
        default=0.0,
        description="share of draws that are longer problems with the teacher's own labels (iterated RELAY)",
    )
    detach: bool = Field(default=False, description="no gradient from one iteration into the one before")
    recompute: bool = Field(
        default=False, description="an iteration's activations anew in the backward pass: less memory"
    )

    @model_validator(mode="after")
    def _workspaces_are_at_the_right(self) -> Self:
        if self.alignment == "left" and self.workspace:
            raise ValueError("a workspace is for rounds at the right end; take alignment=right, or workspace=0")
        return self

    def build(self, world: World) -> Learner:
        from models.relay.teacher import TeacherLearner

        return TeacherLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        return _few_problems(folder, labelled=self.label_share > 0)


class StudentConfig(TrainingConfig):
    """Stage II: an autoregressive transformer that writes the chain, token by token.

    It is trained on the short problems, then further on longer ones with labels, and as a control further on the short
    ones alone.
    """

    new_share: Share | TaskShares = Field(
        default=0.0, description="share of draws that are labelled longer problems; or by task, 0 where none is given"
    )

    def new_share_of(self, task: str) -> float:
        """The share of this task's draws that are labelled longer problems."""
        return self.new_share.get(task, 0.0) if isinstance(self.new_share, dict) else self.new_share

    @property
    def reads_labels(self) -> bool:
        return any(self.new_share.values()) if isinstance(self.new_share, dict) else self.new_share > 0

    def build(self, world: World) -> Learner:
        from models.relay.student import StudentLearner

        return StudentLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        return _few_problems(folder, labelled=self.reads_labels)


class TeacherOnData(TeacherConfig):
    """The teacher with what it is trained on, which tells how much memory that takes."""

    data: ProblemsData

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.relay.memory import teacher_bytes

        return teacher_bytes(self, group)


class StudentOnData(StudentConfig):
    """A student with what it is trained on, which tells how much memory that takes."""

    data: ProblemsData

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.relay.memory import student_bytes

        return student_bytes(self, group)


class LabelsConfig(MapConfig):
    """Chains and answers for new, longer problems: the teacher's, or a student's own, or as a control the solver's."""

    source: Literal["teacher", "student", "solver"] = "teacher"
    problems_per_length: int = Field(default=2000, ge=1, le=10_000_000)
    problems: dict[str, tuple[Count, ...]] = Field(
        default={}, description="by task, how many of each of its lengths, in their order, instead (table 3)"
    )
    lengths: dict[str, tuple[Length, ...]] = Field(
        default={}, description="by task, which lengths; those of the data's label_lengths where none are given"
    )
    shard_size: int = Field(default=500, ge=1, le=100_000, description="problems worked off at once")
    reading: ReadingConfig = ReadingConfig()
    filters: FilterConfig = FilterConfig()

    @model_validator(mode="after")
    def _filters_can_judge_these_labels(self) -> Self:
        if misfit := self.filters.misfit(self.source):
            raise ValueError(misfit)
        return self

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.relay.labels import shards

        return shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.relay.labels import process

        return process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.relay.labels import collect

        collect(self, parts, inputs, folder)


class StudyStage(MapConfig):
    """The pipeline again at further seeds, and the arms beside it, each seed in one process."""

    teacher: TeacherConfig
    student: StudentConfig
    labels: LabelsConfig
    fine_tuning: StudentConfig
    control: StudentConfig
    study: StudyConfig

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.relay.study import shards

        return shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.relay.study import process

        return process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.relay.study import collect

        collect(self, parts, folder)


class EvaluationConfig(MapConfig):
    """All four models on the test problems of every length, and what has to be reached to publish."""

    least_gain: float = Field(
        default=0.30, ge=-1.0, le=1.0, description="whole chains beyond training, student - control"
    )
    least_teacher: Share = Field(default=0.90, description="the teacher's answers beyond training")
    least_student_before: Share = Field(default=0.95, description="the student's answers in the training lengths")
    more_loops: tuple[Annotated[int, Field(ge=-100, le=100)], ...] = Field(
        default=(-1, 1, 2), max_length=16, description="the teacher is also run T + k times"
    )
    halting: tuple[Literal["last_round", "confidence"], ...] = Field(
        default=("last_round", "confidence"), description="rules by which the teacher also stops without being told T"
    )

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.relay.evaluate import shards

        return shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.relay.evaluate import process

        return process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.relay.evaluate import collect

        collect(self, parts, inputs, folder)


class RelayConfig(WorkloadConfig):
    """Reasoning through Loop Alignment iterativelY: a looped teacher, its labels, and the student they train."""

    name: str = "relay"
    data: ProblemsData = ProblemsData()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    labels: LabelsConfig = LabelsConfig()
    fine_tuning: StudentConfig = StudentConfig(new_share=0.75, optimizer=OptimizerConfig(learning_rate=1e-4))
    control: StudentConfig = StudentConfig(optimizer=OptimizerConfig(learning_rate=1e-4))
    study: StudyConfig = StudyConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    promotion: PromotionConfig = PromotionConfig()

    def trained_stages(self) -> dict[str, StageConfig]:
        """The stages to train, each with the data that it is trained on."""
        students = {name: getattr(self, name) for name in ("student", "fine_tuning", "control")}
        return {
            "teacher": TeacherOnData(data=self.data, **dict(self.teacher)),
            **{name: StudentOnData(data=self.data, **dict(student)) for name, student in students.items()},
        }

    @property
    def study_stage(self) -> StudyStage:
        """The study of this pipeline."""
        return StudyStage.model_validate({name: getattr(self, name).model_dump() for name in StudyStage.model_fields})

    def contest(self) -> RelayContest:
        return RelayContest(data=self.data, **dict(self.promotion))

    @model_validator(mode="after")
    def _students_have_one_network(self) -> Self:
        if not self.student.network == self.fine_tuning.network == self.control.network:
            raise ValueError("student, fine_tuning and control train one network on; give all three the same one")
        return self

    @model_validator(mode="after")
    def _tasks_that_are_named_are_there(self) -> Self:
        lengths = {each.task.name: each.label_lengths for each in self.data.tasks}
        for stage in ("teacher", "student", "fine_tuning", "control"):
            config: TrainingConfig = getattr(self, stage)
            _known_tasks(f"{stage}.task_weights", config.task_weights, lengths)
        if isinstance(self.fine_tuning.new_share, dict):
            _known_tasks("fine_tuning.new_share", self.fine_tuning.new_share, lengths)
        _known_tasks("labels.lengths", self.labels.lengths, lengths)
        _known_tasks("labels.problems", self.labels.problems, lengths)
        return self

    @model_validator(mode="after")
    def _control_trains_alike(self) -> Self:
        new = self.fine_tuning.model_dump(exclude={"new_share"})
        old = self.control.model_dump(exclude={"new_share"})
        if differ := [name for name in new if new[name] != old[name]]:
            raise ValueError(
                f"control and fine_tuning differ in {', '.join(differ)}, and could not be compared; give both the same"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_for_fine_tuning_alone(self) -> Self:
        shares = {
            "teacher.label_share": self.teacher.label_share > 0,
            "student.new_share": self.student.reads_labels,
            "control.new_share": self.control.reads_labels,
        }
        if wrong := [field for field, reads_labels in shares.items() if reads_labels]:
            raise ValueError(
                f"{', '.join(wrong)}: only fine_tuning is given labels; take 0 "
                "(study.arms=iterated trains a teacher on labels of its own)"
            )
        return self

    @model_validator(mode="after")
    def _labels_can_be_made(self) -> Self:
        from models.relay.labels import problems_of, require_voters  # here, since they read configs themselves
        from models.relay.problems import Problems

        if self.labels.source == "student":
            raise ValueError(
                "labels.source=student: the pipeline's labels are the teacher's, or the solver's; a student's own are "
                "study.arms=self_answer and self_vote"
            )
        require_voters(self.labels, teachers=1)
        if not problems_of(self.labels, Problems(self.data, {})):
            raise ValueError("labels.lengths leaves nothing to label; name some lengths, or leave it out")
        return self

    def check_here(self) -> None:
        """Raises ConfigError where a user's task is not sound, or tasks lack what the teacher is to show or tell."""
        for each in self.data.tasks:
            if isinstance(each.task, UserTask):
                require_sound(each.task, each.lengths)
        names = ", ".join(each.task.name for each in self.data.tasks)
        if self.teacher.board and not any(shows_boards(each.task, each.lengths[0]) for each in self.data.tasks):
            raise ConfigError(f"teacher.board=true, and {names} has no board\nfits: teacher.board=false")
        if self.labels.reading.halting != "last_round":
            return
        for each in self.data.tasks:
            if not tells_last_rounds(each.task, each.lengths[0]):
                raise ConfigError(
                    f"labels.reading.halting=last_round, and a round of {each.task.name} does not tell whether it is "
                    "the last one\nfits: labels.reading.halting=given, labels.reading.halting=confidence"
                )


def _known_tasks(field: str, named: Mapping[str, Any], tasks: Mapping[str, Any]) -> None:
    for task in named:
        if task not in tasks:
            raise ValueError(f"{field}: {unknown('task', task, list(tasks))}")


def _few_problems(folder: Path, *, labelled: bool) -> Inputs:
    """A prepared folder inside `folder` with short problems only, and labels of the right form where they are read."""
    problems = folder / "problems"
    problems.mkdir()
    few = TaskLengths(train_lengths=(1, 2), label_lengths=(3,), untouched_lengths=(4,))
    ProblemsData(tasks=(few,), tests_per_length=8).prepare(problems)
    if not labelled:
        return Inputs(folders={"problems": problems})
    from models.relay.labels import write_made_up_labels

    return Inputs(folders={"problems": problems, "labels": write_made_up_labels(problems, folder / "labels")})
