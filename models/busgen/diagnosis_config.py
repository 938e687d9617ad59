"""How a diagnosis is learnt: which images, which heads, which augmentation.

A `...Config` is what a person sets; the `...Stage` of the same name adds what it takes from the rest of the workload.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from models.busgen.few_shots import FewShots
from models.busgen.images.descriptors import DESCRIPTORS
from models.common.config import Config
from models.common.contract import Inputs, Learner, StageConfig, World
from models.common.optimizer_config import OptimizerConfig


class DiagnosisNetworkConfig(Config):
    """A convolutional network for grey images of any side; each of its stages halves the side."""

    width: int = Field(default=24, ge=4, le=1024, description="channels of the first stage; each next one doubles them")
    stages: int = Field(default=3, ge=1, le=7)
    most_width: int = Field(default=256, ge=4, le=4096, description="channels are not doubled beyond this")
    features: int = Field(default=64, ge=2, le=4096, description="of an image, which all heads read")
    normalise: Literal["group", "none"] = "group"


class AugmentationConfig(Config):
    """What happens at random to each training image; 0 switches a part off. All arms of a comparison have the same."""

    flip: bool = Field(default=True, description="left to right; never upside down, as sound comes from above")
    shift: float = Field(default=0.06, ge=0.0, le=0.5, description="most, as a share of the side")
    zoom: float = Field(default=0.1, ge=0.0, le=0.5, description="most that a crop cuts off, as a share of the side")
    gain: float = Field(default=0.2, ge=0.0, le=2.0, description="grey values times exp(-gain) to exp(gain)")
    gamma: float = Field(default=0.2, ge=0.0, le=2.0, description="then to the power of exp(-gamma) to exp(gamma)")
    noise: float = Field(default=0.03, ge=0.0, le=1.0, description="standard deviation, where grey goes from 0 to 1")


class ClassifierConfig(Config):
    """A classifier of one label against another, and of what else is known of an image.

    Nothing is chosen by a validation: every arm takes all its steps, and the last weights count.
    """

    max_steps: int = Field(default=400, ge=1, le=100_000_000)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    network: DiagnosisNetworkConfig = DiagnosisNetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-3, warmup_share=0.05, weight_decay=0.05)
    augmentation: AugmentationConfig = AugmentationConfig()
    real_share: float = Field(
        default=0.5, gt=0.0, lt=1.0, description="of each batch, where generated ones stand beside them"
    )
    balanced: bool = Field(default=True, description="each batch holds equally many of both labels")
    label_weight: float = Field(default=1.0, ge=0.0, le=100.0, description="of the label's part of the loss")
    descriptors: tuple[str, ...] = Field(default=(), description="BI-RADS descriptors that have a head each")
    descriptor_weight: float = Field(default=0.3, ge=0.0, le=100.0, description="of the descriptors' mean loss")
    pathology_weight: float = Field(default=0.0, ge=0.0, le=100.0, description="0: there is no head of the pathology")

    @model_validator(mode="after")
    def _heads_learn_something(self) -> Self:
        if strange := [name for name in self.descriptors if name not in DESCRIPTORS]:
            raise ValueError(f"there is no descriptor {strange}; fits: {', '.join(DESCRIPTORS)}")
        if len(set(self.descriptors)) < len(self.descriptors):
            raise ValueError(f"descriptors names one twice: {', '.join(self.descriptors)}")
        if not (self.label_weight or self.pathology_weight or (self.descriptors and self.descriptor_weight)):
            raise ValueError("no head has a weight; set label_weight, descriptor_weight or pathology_weight")
        return self


class ClassifierStage(ClassifierConfig, FewShots, StageConfig):
    """The classifier of this task. Inputs: 'images' where it trains on real ones, 'generated' on generated ones.

    A stage to start from gives all weights but those of the label's head, whose task is a new one.
    """

    train_on: Literal["real", "generated", "both"] = "real"
    split: str = Field(default="few_shot", description="of the real images")
    other_labels: bool = Field(
        default=False, description="images of neither label train the heads of pathology and descriptors"
    )

    @model_validator(mode="after")
    def _task_can_be_trained(self) -> Self:
        if self.other_labels and self.balanced:
            raise ValueError("other_labels takes the images as they come; set balanced=False")
        if self.other_labels and (self.shots or self.negative_shots):
            raise ValueError("shots are of the two labels alone; set other_labels=False, or shots=None")
        if self.balanced and self.batch_size < (4 if self.train_on == "both" else 2):
            raise ValueError(f"a batch of {self.batch_size} has no room for both labels; try batch_size=4")
        return self

    def build(self, world: World) -> Learner:
        from models.busgen.diagnosis.classifier import ClassifierLearner

        return ClassifierLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        from models.busgen.diagnosis.rehearsal import rehearse_classifier

        return rehearse_classifier(self, folder)
