"""A generator: how images are noised and sampled, what is predicted, and how it is pretrained and adapted. No torch."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.busgen.few_shots import FewShots
from models.busgen.network_config import DiTConfig, LoraConfig, NetworkConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.optimal_config import ScheduleConfig
from models.common.config import Config
from models.common.contract import Inputs, Learner, StageConfig, WorkerGroup, World
from models.common.optimizer_config import MicroBatch, OptimizerConfig

PathName = Literal["vp", "ve", "flow"]
TargetName = Literal["edm", "x0", "eps", "v", "flow"]

NoiseLevel = Annotated[float, Field(gt=0.0, le=1e4)]


def _check_range(s_min: float, s_max: float) -> None:
    if s_min >= s_max:
        raise ValueError(f"s_min {s_min:g} is not below s_max {s_max:g}")


class LognormalLevels(Config):
    """log s is normal; EDM's numbers (Karras et al. 2022, table 1)."""

    kind: Literal["lognormal"] = "lognormal"
    mean: float = Field(default=-1.2, ge=-10.0, le=10.0)
    std: float = Field(default=1.2, gt=0.0, le=10.0)


class VpLevels(Config):
    """Steps of a variance-preserving chain, each equally often (Ho et al. 2020); the numbers are BUSGen's release's."""

    kind: Literal["vp"] = "vp"
    steps: int = Field(default=500, ge=2, le=100_000)
    beta_first: float = Field(default=1e-4, gt=0.0, lt=1.0)
    beta_last: float = Field(default=0.028, gt=0.0, lt=1.0)


class FlowLevels(Config):
    """Times of flow matching between 0 and 1: uniform, or with a normal logit (Esser et al. 2024, section 3.1)."""

    kind: Literal["flow"] = "flow"
    draw: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = Field(default=0.0, ge=-10.0, le=10.0, description="of the logit")
    std: float = Field(default=1.0, gt=0.0, le=10.0, description="of the logit")


class OptimalLevels(Config):
    """Levels where the loss is far above the optimal one, as the training tells it (`DiffusionConfig.schedule`)."""

    kind: Literal["optimal"] = "optimal"


LevelsConfig = Annotated[LognormalLevels | VpLevels | FlowLevels | OptimalLevels, Field(discriminator="kind")]


class DiffusionConfig(Config):
    """x = x0 + s eps, with the noise level s = sigma / alpha; the defaults are EDM's (Karras et al. 2022)."""

    path: PathName = Field(default="ve", description="in whose scale the network sees an image")
    target: TargetName = Field(default="edm", description="what the network predicts")
    sigma_data: float = Field(default=0.5, gt=0.0, le=100.0, description="of a pixel over the images, -1 to 1")
    weight: Literal["edm", "x0", "eps", "v", "flow", "optimal"] = Field(
        default="edm", description="the target whose plain squared error is the loss; optimal: by 'optimal_loss'"
    )
    levels: LevelsConfig = LognormalLevels()
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="of weight and levels that are 'optimal'")
    s_min: NoiseLevel = Field(default=0.002, description="levels of the training are kept above")
    s_max: NoiseLevel = Field(default=80.0, description="levels of the training are kept below")

    @model_validator(mode="after")
    def _levels_are_a_range(self) -> Self:
        _check_range(self.s_min, self.s_max)
        return self

    @property
    def needs_optimal_loss(self) -> bool:
        """Whether a stage reads the input 'optimal_loss'."""
        return self.weight == "optimal" or self.levels.kind == "optimal"


class SamplerConfig(Config):
    """From noise to an image in VE coordinates, on levels from s_max down to s_min, then 0."""

    kind: Literal["euler", "heun", "dpm2m"] = Field(default="dpm2m", description="heun asks twice a step")
    steps: int = Field(default=24, ge=2, le=1000)
    guidance: float = Field(
        default=1.5, ge=0.0, le=20.0, description="0 without conditions, 1 with; BUSGen's w = 1.8 is 2.8 here"
    )
    guidance_from: float = Field(default=0.0, ge=0.0, le=1e4, description="the lowest level that is guided")
    guidance_to: float = Field(default=1e4, gt=0.0, le=1e4, description="the highest level that is guided")
    s_min: NoiseLevel = 0.01
    s_max: NoiseLevel = 80.0
    grid: Literal["karras", "log"] = "karras"
    rho: float = Field(default=7.0, ge=1.0, le=100.0, description="of the karras grid; larger is finer at low levels")
    bf16: bool = Field(default=False, description="the network's products in bfloat16")

    @model_validator(mode="after")
    def _levels_are_a_range(self) -> Self:
        if self.guidance_from >= self.guidance_to:
            raise ValueError(f"guidance_from {self.guidance_from:g} is not below guidance_to {self.guidance_to:g}")
        _check_range(self.s_min, self.s_max)
        return self


class EmaConfig(Config):
    """The running mean of the weights that is published."""

    profile: Literal["power", "half_life"] = Field(
        default="power", description="power: as long as the training, whatever its length (Karras et al. 2024)"
    )
    relative_std: float = Field(default=0.1, gt=0.0, lt=0.28, description="of a power profile, as a share of training")
    half_life_images: int = Field(default=500_000, ge=1, le=10**12, description="of a half_life profile")
    ramp_up: float | None = Field(
        default=0.05, gt=0.0, le=1.0, description="a half-life is at most this share of the images seen; None: no bound"
    )
    every_steps: int = Field(default=1, ge=1, le=1000, description="between two looks at the weights")


class DropoutConfig(Config):
    """How often a sample's conditions are left open in training, each sample by itself."""

    everything: float = Field(default=0.1, ge=0.0, le=1.0, description="all at once; what guidance compares with")
    label: float = Field(default=0.0, ge=0.0, le=1.0)
    device: float = Field(default=0.1, ge=0.0, le=1.0)
    descriptors: float = Field(default=0.1, ge=0.0, le=1.0)
    mask: float = Field(default=0.1, ge=0.0, le=1.0)


class _TrainingConfig(Config):
    """What pretraining and adaptation have in common."""

    max_steps: int = Field(default=100_000, ge=1, le=100_000_000)
    batch_size: int = Field(default=256, ge=1, le=1_000_000, description="images of a step, over all workers")
    micro_batch: int | None = MicroBatch
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, beta_2=0.99)
    ema: EmaConfig | None = Field(default=EmaConfig(), description="None: the last weights are published")
    dropout: DropoutConfig = DropoutConfig()
    flips: bool = Field(default=True, description="half of the images mirrored, left and right")
    balance: Literal["none", "class"] = Field(default="none", description="class: each is drawn equally often")
    frames: Literal["all", "one_of_patient"] = Field(
        default="all", description="of a pass: all images, or one of each patient, another one each time"
    )


class GeneratorConfig(Config):
    """A generator: its network, its conditions, and how it diffuses."""

    network: NetworkConfig = DiTConfig()
    conditions: ConditionsConfig = ConditionsConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    side: int = Field(default=32, ge=4, le=1024, description="pixels of an edge")
    channels: int = Field(default=1, ge=1, le=4)

    @model_validator(mode="after")
    def _the_network_takes_the_side(self) -> Self:
        self.network.check_side(self.side)
        return self


class PretrainingConfig(_TrainingConfig):
    """A generator from scratch, on the split "pretrain"."""


class PretrainingStage(PretrainingConfig, StageConfig):
    """The pretraining of this generator. Inputs: images; optimal_loss, where the noise levels go by it."""

    generator: GeneratorConfig = GeneratorConfig()

    def build(self, world: World) -> Learner:
        from models.busgen.pretraining import PretrainingLearner

        return PretrainingLearner(self, world)

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.busgen.diffusion.memory import pretraining_bytes

        return pretraining_bytes(self, group)

    def rehearse(self, folder: Path) -> Inputs:
        from models.busgen.rehearsal import rehearse_pretraining

        return rehearse_pretraining(self, folder)


class AdaptationConfig(_TrainingConfig):
    """A pretrained generator, frozen, with low-rank adapters that learn a few images of two classes.

    Levels and weight are its own: the optimal loss of the images it was pretrained on is not that of these.
    """

    max_steps: int = Field(default=1000, ge=1, le=100_000_000)
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="images of a step, over all workers")
    balance: Literal["none", "class"] = "class"
    lora: LoraConfig = LoraConfig()
    levels: Annotated[LognormalLevels | VpLevels | FlowLevels, Field(discriminator="kind")] = LognormalLevels()
    weight: TargetName = Field(default="edm", description="the target whose plain squared error is the loss")


class AdaptationStage(AdaptationConfig, FewShots, StageConfig):
    """The adaptation of this generator; it starts from its pretraining. Inputs: images."""

    generator: GeneratorConfig = GeneratorConfig()
    parents: dict[str, str] = Field(
        default={"dcis": "malignant"}, description="a class that was not pretrained begins as this one"
    )

    @model_validator(mode="after")
    def _classes_are_known(self) -> Self:
        classes = self.generator.conditions.classes
        for name in (self.positive, self.negative, *self.parents, *self.parents.values()):
            if name not in classes:
                raise ValueError(f"the generator knows no class '{name}'; fits: {', '.join(classes)}")
        return self

    def build(self, world: World) -> Learner:
        from models.busgen.adaptation import AdaptationLearner

        return AdaptationLearner(self, world)

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.busgen.diffusion.memory import adaptation_bytes

        return adaptation_bytes(self, group)

    def rehearse(self, folder: Path) -> Inputs:
        from models.busgen.rehearsal import rehearse_adaptation

        return rehearse_adaptation(self, folder)
