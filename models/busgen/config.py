"""BUSGen's settings. Defaults are the paper's where it gives a number; `presets.py` holds what was run.

A `...Config` is what a person sets; the `...Stage` of the same name adds what it takes from the rest of the workload.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from models.busgen.arms import ARMS, ArmName
from models.busgen.contest_config import BusgenContest, PromotionConfig
from models.busgen.data_config import BreastImages
from models.busgen.diagnosis_config import ClassifierConfig, ClassifierStage
from models.busgen.diffusion_config import (
    AdaptationConfig,
    AdaptationStage,
    DiffusionConfig,
    GeneratorConfig,
    PretrainingConfig,
    PretrainingStage,
    SamplerConfig,
)
from models.busgen.network_config import DiTConfig, NetworkConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.optimal_config import Condition, MemorisationConfig, OptimalLossConfig, OptimalLossStage
from models.busgen.privacy_config import PrivacyConfig
from models.busgen.statistics_config import DistancesConfig, IntervalConfig
from models.busgen.tailor_config import CombinationConfig, TailorConfig
from models.common.config import Config, explain_validation
from models.common.contract import MapConfig, StageConfig, WorkloadConfig, World
from models.common.errors import ConfigError


class TaskConfig(Config):
    """The diagnosis of which few images are known: a rare label against another, from so many shots."""

    shots: int = Field(default=16, ge=1, le=1_000_000, description="real images of the positive label, which is rare")
    negative_shots: int | None = Field(
        default=None, ge=1, le=1_000_000, description="of the negative one; None: all of the split few_shot"
    )
    parents: dict[str, str] = Field(
        default={"dcis": "malignant"}, description="the class that one which was not pretrained begins as"
    )


class GenerationConfig(Config):
    """The images that a generator makes for the task: how many, how, and of what."""

    images: int = Field(default=10_000, ge=2, le=100_000_000, description="half of them of each label")
    images_at_once: int = Field(default=256, ge=1, le=100_000, description="in one forward pass, and a shard")
    sampler: SamplerConfig = SamplerConfig()
    tailor: TailorConfig = TailorConfig()
    most_redrawn: int = Field(
        default=3, ge=0, le=100, description="times that an image which is too near a real one is drawn anew"
    )


class GenerationStage(GenerationConfig, MapConfig):
    """The stage that samples; a shard is so many images.

    Inputs: images, probes, pretraining, and adaptation, without which the generator is as it was pretrained.
    """

    generator: GeneratorConfig
    adaptation: AdaptationStage
    privacy: PrivacyConfig

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.busgen import generation

        return generation.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.busgen import generation

        return generation.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.busgen import generation

        generation.collect(self, parts, folder)


class StudyConfig(Config):
    """How the classifiers are compared: over draws of the few lesions, each with an adaptation of its own."""

    draws: int = Field(default=5, ge=1, le=1000, description="samples of the few lesions, the run's own among them")
    arms: tuple[ArmName, ...] = Field(
        default=("real", "generated", "both"), min_length=1, description="what classifiers are trained on"
    )
    sizes: tuple[int, ...] = Field(default=(), description="numbers of generated images, beside real ones")

    @model_validator(mode="after")
    def _has_what_is_gated(self) -> Self:
        if missing := {"real", "generated", "both"} - set(self.arms):
            raise ValueError(f"arms lacks {', '.join(sorted(missing))}; fits: real, generated, both, and others")
        return self


class DrawStage(StudyConfig, MapConfig):
    """The stage of one draw: an adaptation and its images, unless they are given, and the classifiers of all arms.

    Inputs: images, probes, pretraining, and generated where this draw's images are there already.
    """

    generation: GenerationStage
    classifier: ClassifierStage

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        return [{"draw": self.classifier.draw}]

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.busgen import study

        return study.process(self, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.busgen import study

        study.collect(parts[0], folder)


class GatesConfig(Config):
    """What is measured in the end, and what has to be reached to publish."""

    images: int = Field(default=256, ge=8, le=1_000_000, description="whose losses and distances are measured")
    levels: int = Field(default=12, ge=2, le=1000, description="noise levels at which losses are measured")
    intervals: IntervalConfig = IntervalConfig()
    distances: DistancesConfig = DistancesConfig()
    combination: CombinationConfig = CombinationConfig()
    memorisation: MemorisationConfig = MemorisationConfig()
    least_gain: float = Field(
        default=0.0, ge=-1.0, le=1.0, description="of the mean AUC, real and generated above real alone"
    )
    most_gap: float = Field(
        default=1.0, gt=0.0, le=1e6, description="the gap to the optimal loss, as a share of an untrained network's"
    )
    most_distance: float = Field(
        default=1.0, gt=0.0, le=1e6, description="FD to held-out images, as a share of the unadapted generator's"
    )
    most_copies: float = Field(default=0.05, ge=0.0, le=1.0, description="share of generated images that are copies")
    least_planted_found: float = Field(default=1.0, ge=0.0, le=1.0, description="share of the planted copies")
    least_distance: float = Field(
        default=1.0,
        ge=0.0,
        le=100.0,
        description="of the generated images nearest to the training, in distances of the held-out ones nearest to it",
    )


class EvaluationStage(GatesConfig, MapConfig):
    """The stage that measures the generator, the classifiers and what they give away, and writes the report.

    Inputs: images, optimal_loss, probes, pretraining, adaptation, generated, classifier, and draw_0, draw_1, ...
    """

    generation: GenerationStage
    study: StudyConfig
    condition: Condition  # of the optimal loss

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.busgen import evaluate

        return evaluate.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.busgen import evaluate

        return evaluate.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.busgen import evaluate

        evaluate.collect(self, parts, inputs, folder)


class BusgenConfig(WorkloadConfig):
    """A generator of breast ultrasound: pretrained, adapted to a few lesions, and what its images teach a classifier.

    Images, task and generator stand here once; the stages take them from here.
    """

    name: Literal["busgen"] = "busgen"  # pyright: ignore[reportIncompatibleVariableOverride]
    data: BreastImages
    task: TaskConfig = TaskConfig()
    network: NetworkConfig = DiTConfig()
    conditions: ConditionsConfig = ConditionsConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    optimal_loss: OptimalLossConfig = OptimalLossConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    probes: ClassifierConfig = ClassifierConfig()
    generation: GenerationConfig = GenerationConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    study: StudyConfig = StudyConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    gates: GatesConfig = GatesConfig()
    promotion: PromotionConfig = PromotionConfig()

    @property
    def generator(self) -> GeneratorConfig:
        return GeneratorConfig(
            network=self.network, conditions=self.conditions, diffusion=self.diffusion, side=self.data.side
        )

    @property
    def optimal_loss_stage(self) -> OptimalLossStage:
        dropout = self.pretraining.dropout
        return OptimalLossStage(
            classes=self.conditions.classes,
            flips=self.pretraining.flips,
            condition_dropout=1.0 - (1.0 - dropout.everything) * (1.0 - dropout.label),
            **dict(self.optimal_loss),
        )

    @property
    def probes_stage(self) -> ClassifierStage:
        """A classifier of what pretraining sees: of its labels and of all descriptors."""
        splits = self.data.splits
        return ClassifierStage(
            positive=self.task.parents.get(splits.positive, splits.positive),
            negative=self.task.parents.get(splits.negative, splits.negative),
            split="pretrain",
            **dict(self.probes),
        )

    @property
    def pretraining_stage(self) -> PretrainingStage:
        return PretrainingStage(generator=self.generator, **dict(self.pretraining))

    @property
    def adaptation_stage(self) -> AdaptationStage:
        return AdaptationStage(
            generator=self.generator, parents=self.task.parents, **self._draw, **dict(self.adaptation)
        )

    @property
    def generation_stage(self) -> GenerationStage:
        return GenerationStage(
            generator=self.generator,
            adaptation=self.adaptation_stage,
            privacy=self.privacy,
            **dict(self.generation),
        )

    @property
    def classifier_stage(self) -> ClassifierStage:
        """The classifier that is published: of few real images and generated ones."""
        stage = ClassifierStage(**self._draw, **dict(self.classifier))
        return stage.with_overrides(ARMS["both"])

    def draw_stage(self, draw: int) -> DrawStage:
        """The comparison of all arms with another draw of the few lesions; 0 is the run's own."""
        stage = DrawStage(generation=self.generation_stage, classifier=self.classifier_stage, **dict(self.study))
        return stage.with_overrides({"generation.adaptation.draw": draw, "classifier.draw": draw})

    @property
    def evaluation_stage(self) -> EvaluationStage:
        return EvaluationStage(
            generation=self.generation_stage,
            study=self.study,
            condition=self.optimal_loss.condition,
            **dict(self.gates),
        )

    def contest(self) -> BusgenContest:
        return BusgenContest(data=self.data, intervals=self.gates.intervals, **dict(self.promotion))

    @property
    def _draw(self) -> dict[str, Any]:
        """Which few images of which labels."""
        splits = self.data.splits
        return {
            "positive": splits.positive,
            "negative": splits.negative,
            "shots": self.task.shots,
            "negative_shots": self.task.negative_shots,
            "draw_seed": self.data.seed,
        }

    @model_validator(mode="after")
    def _stages_are_sound(self) -> Self:
        """What fields of different parts do to each other, such as a positive label that is no class."""
        try:
            self.trained_stages()
        except ValidationError as error:
            raise ConfigError(explain_validation(error, error.title)) from None
        return self

    @model_validator(mode="after")
    def _diagnoses_have_something_to_read(self) -> Self:
        """Each of these would be found out by the evaluation, hours later."""
        for name, classifier in (("probes", self.probes), ("classifier", self.classifier)):
            if not classifier.label_weight:
                raise ValueError(
                    f"{name}.label_weight is 0, and it is its diagnosis that is measured; give it a weight"
                )
        told = self.probes.descriptors if self.probes.descriptor_weight else ()
        if not self.gates.combination.overall and not set(told) & set(self.conditions.descriptors):
            raise ValueError(
                "the diagnosis by descriptors has nothing to read: probes and conditions share no descriptor; "
                "set gates.combination.overall=true, or name descriptors in both"
            )
        return self

    def check_here(self) -> None:
        from models.busgen.images import forecast

        if (cases := forecast.forecast(self.data)) is not None:
            forecast.require_words(cases, self.conditions)
            forecast.require_shots(cases, self.data, self.task.shots, self.task.negative_shots)

    def trained_stages(self) -> dict[str, StageConfig]:
        return {
            "probes": self.probes_stage,
            "pretraining": self.pretraining_stage,
            "adaptation": self.adaptation_stage,
            "classifier": self.classifier_stage,
        }
