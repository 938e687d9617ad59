"""RELAY's settings. Defaults are the paper's where it gives a number; `presets.py` holds what was run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from models.common.config import Config
from models.common.contract import (
    DataConfig,
    Inputs,
    Learner,
    MapConfig,
    StageConfig,
    WorkloadConfig,
    World,
)

Length = Annotated[int, Field(ge=1, le=40)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Lengths = Annotated[tuple[Length, ...], Field(min_length=1, max_length=40)]

_LARGEST_CODE = 2**63 - 1


class ArithmeticData(DataConfig):
    """Sums modulo a small number; a problem's length is how many operators it has."""

    modulus: int = Field(default=7, ge=2, le=200, description="numbers are 0 to modulus - 1, each one token")
    operators: tuple[Literal["+", "-"], ...] = Field(
        default=("+", "-"), min_length=1, max_length=2, description="applied from the left, without precedence"
    )
    train_lengths: Lengths = Field(default=(1, 2, 3, 4, 5), description="trained on, drawn in proportion to length")
    label_lengths: Lengths = Field(default=(6, 7, 8), description="beyond training: the teacher writes the chains")
    untouched_lengths: tuple[Length, ...] = Field(default=(9, 10), max_length=40, description="only tested")
    tests_per_length: int = Field(default=256, ge=1, le=100_000, description="held out; fewer where few problems exist")

    @model_validator(mode="after")
    def _lengths_and_operators_differ(self) -> Self:
        lengths = (*self.train_lengths, *self.label_lengths, *self.untouched_lengths)
        if len(set(lengths)) < len(lengths) or len(set(self.operators)) < len(self.operators):
            raise ValueError("a length belongs to one of train, label and untouched, and an operator is named once")
        if min(self.label_lengths) <= max(self.train_lengths):
            raise ValueError(f"label_lengths have to lie beyond the longest training length, {max(self.train_lengths)}")
        return self

    @model_validator(mode="after")
    def _problems_have_integer_codes(self) -> Self:
        longest = max(*self.train_lengths, *self.label_lengths, *self.untouched_lengths)
        if self.modulus ** (longest + 1) * len(self.operators) ** longest > _LARGEST_CODE:
            raise ValueError(f"problems of {longest} operators modulo {self.modulus} are too many to number in 64 bits")
        return self

    def prepare(self, folder: Path) -> None:
        from models.relay.arithmetic import Arithmetic
        from models.relay.problems import Problems

        Problems.choose(
            Arithmetic(self.modulus, self.operators),
            self.train_lengths,
            self.label_lengths,
            self.untouched_lengths,
            tests_per_length=self.tests_per_length,
            seed=self.seed,
        ).write(folder)


class NetworkConfig(Config):
    """The size of a transformer."""

    layers: int = Field(default=3, ge=1, le=48)
    width: int = Field(default=256, ge=4, le=8192, description="a multiple of twice the heads")
    heads: int = Field(default=4, ge=1, le=64)
    feed_forward_width: int = Field(default=1024, ge=4, le=32_768)
    rope_base: float = Field(default=10_000.0, ge=2.0, le=1e7, description="rotary positions; larger turns slower")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            fits = self.width - self.width % (2 * self.heads) + 2 * self.heads
            raise ValueError(f"width {self.width} is no multiple of twice the {self.heads} heads; try width={fits}")
        return self


class OptimizerConfig(Config):
    """AdamW and its learning rate: up over the warm-up, level, down in a line over the last steps."""

    learning_rate: float = Field(default=5e-4, gt=0.0, le=1.0)
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    decay_steps: int = Field(default=100, ge=0, le=10_000_000, description="the last steps, over which the rate falls")
    final_rate: Share = Field(default=0.02, description="where the fall ends, as a share of the learning rate")
    weight_decay: NonNegativeFloat = Field(default=0.01, le=1.0)
    beta_1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta_2: float = Field(default=0.98, ge=0.0, lt=1.0)
    clip_norm: float = Field(default=1.0, gt=0.0, le=1e6)
    converged_loss: NonNegativeFloat | None = Field(
        default=None,
        le=100.0,
        description="at this loss on the longest training problems the learning rate begins to fall; None: at the end",
    )
    converged_window: int = Field(default=10, ge=1, le=10_000, description="batches over which that loss is taken")


class TeacherConfig(StageConfig):
    """Stage I: a looped transformer whose iteration t is trained to show round t of the chain."""

    max_steps: int = Field(default=100_000, ge=1, le=100_000_000)
    batch_size: int = Field(default=512, ge=1, le=1_000_000)
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    alibi_slopes: tuple[Annotated[float, Field(ge=0.0, le=100.0)], ...] = Field(
        default=(), max_length=64, description="one for each head, or none: the paper has rotary positions only"
    )
    round_weight: NonNegativeFloat = Field(default=1.0, le=1000.0, description="lambda; not given in the paper")
    supervised_pads: Literal["last", "all"] = Field(default="last", description="last: only the one left of the round")
    left_pads: int = Field(default=1, ge=1, le=64, description="training puts 1 to so many on the left; tests put 1")
    curriculum_loss: NonNegativeFloat | None = Field(
        default=None, le=100.0, description="below it one more round is unrolled; None unrolls all from the first step"
    )
    curriculum_window: int = Field(default=20, ge=1, le=10_000, description="batches over which that loss is taken")

    @model_validator(mode="after")
    def _a_slope_for_each_head(self) -> Self:
        if self.alibi_slopes and len(self.alibi_slopes) != self.network.heads:
            raise ValueError(f"{len(self.alibi_slopes)} alibi_slopes for {self.network.heads} heads; give one for each")
        return self

    def build(self, world: World) -> Learner:
        from models.relay.teacher import TeacherLearner

        return TeacherLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        return Inputs(folders={"problems": _few_problems(folder)})


class StudentConfig(StageConfig):
    """Stage II: an autoregressive transformer that writes the chain, token by token.

    It is trained on the short problems, then further on the teacher's chains for longer ones, and as a control
    further on the short ones alone.
    """

    max_steps: int = Field(default=100_000, ge=1, le=100_000_000)
    batch_size: int = Field(default=512, ge=1, le=1_000_000)
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    new_share: Share = Field(default=0.0, description="share of batches with the teacher's chains for longer problems")

    def build(self, world: World) -> Learner:
        from models.relay.student import StudentLearner

        return StudentLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        problems = _few_problems(folder)
        if not self.new_share:
            return Inputs(folders={"problems": problems})
        from models.relay.labels import write_made_up_labels

        return Inputs(folders={"problems": problems, "labels": write_made_up_labels(problems, folder / "labels")})


class LabelsConfig(MapConfig):
    """The teacher's chains and answers for new, longer problems; none is filtered."""

    problems_per_length: int = Field(default=2000, ge=1, le=10_000_000)
    shard_size: int = Field(default=500, ge=1, le=100_000, description="problems worked off at once")

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.relay.labels import shards

        return shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.relay.labels import process

        return process(shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.relay.labels import collect

        collect(parts, inputs, folder)


class EvaluationConfig(MapConfig):
    """All four models on the test problems of every length, and what has to be reached to publish."""

    least_gain: float = Field(
        default=0.30, ge=-1.0, le=1.0, description="whole chains beyond training, student - control"
    )
    least_teacher: Share = Field(default=0.90, description="the teacher's answers beyond training")
    least_student_before: Share = Field(default=0.95, description="the student's answers in the training lengths")

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.relay.evaluate import shards

        return shards(inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.relay.evaluate import process

        return process(shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.relay.evaluate import collect

        collect(self, parts, inputs, folder)


class RelayConfig(WorkloadConfig):
    """Reasoning through Loop Alignment iterativelY: a looped teacher, its labels, and the student they train."""

    name: str = "relay"
    data: ArithmeticData = ArithmeticData()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    labels: LabelsConfig = LabelsConfig()
    fine_tuning: StudentConfig = StudentConfig(new_share=0.75, optimizer=OptimizerConfig(learning_rate=1e-4))
    control: StudentConfig = StudentConfig(optimizer=OptimizerConfig(learning_rate=1e-4))
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _students_have_one_network(self) -> Self:
        if not self.student.network == self.fine_tuning.network == self.control.network:
            raise ValueError("student, fine_tuning and control train one network on; give all three the same one")
        return self

    @model_validator(mode="after")
    def _control_trains_as_long(self) -> Self:
        new, old = self.fine_tuning, self.control
        if (new.max_steps, new.batch_size) != (old.max_steps, old.batch_size):
            raise ValueError("control takes the steps and the batch_size of fine_tuning, or the two cannot be compared")
        return self


def _few_problems(folder: Path) -> Path:
    """A prepared folder inside `folder`, with short problems only."""
    problems = folder / "problems"
    problems.mkdir()
    data = ArithmeticData(train_lengths=(1, 2), label_lengths=(3,), untouched_lengths=(4,), tests_per_length=8)
    data.prepare(problems)
    return problems
