"""What was run: `tiny` and `laptop` on processors. `gpu` and `paper` are checked in shape and memory, without data."""

from pathlib import Path

from models.busgen.config import (
    BusgenConfig,
    GatesConfig,
    GenerationConfig,
    PromotionConfig,
    StudyConfig,
    TaskConfig,
)
from models.busgen.data_config import BreastImages, FilesOrigin, SplitConfig
from models.busgen.diagnosis_config import ClassifierConfig, DiagnosisNetworkConfig
from models.busgen.diffusion_config import (
    AdaptationConfig,
    DiffusionConfig,
    DropoutConfig,
    EmaConfig,
    PretrainingConfig,
    SamplerConfig,
    VpLevels,
)
from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.network_config import DiTConfig, UNetConfig, official_unet
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.optimal_config import MemorisationConfig, OptimalLossConfig
from models.busgen.phantom.devices import DEVICES
from models.busgen.phantom_config import PhantomConfig
from models.busgen.privacy_config import PlantConfig, PrivacyConfig
from models.busgen.statistics_config import DistancesConfig, IntervalConfig
from models.busgen.tailor_config import PlaceConfig, TailorConfig
from models.common.optimizer_config import OptimizerConfig

_CLASSES = ("normal", "benign", "malignant", "dcis")
_PHANTOM = ConditionsConfig(classes=_CLASSES, devices=tuple(DEVICES))


def tiny() -> BusgenConfig:
    """Every stage in seconds; too short to show the effect, so that its gates are open."""
    return BusgenConfig(
        data=BreastImages(
            origins=(PhantomConfig(side=32, normal=6, benign=36, malignant=16, dcis=20),),
            side=16,
            splits=SplitConfig(validation=0.2, few_shot=8, test=8, rare_few_shot=8),
            processes=1,
        ),
        task=TaskConfig(shots=4),
        network=DiTConfig(patch=4, width=32, layers=2, heads=2),
        conditions=_PHANTOM,
        optimal_loss=OptimalLossConfig(draws=40, levels=6),
        pretraining=PretrainingConfig(max_steps=60, batch_size=16, optimizer=OptimizerConfig(learning_rate=3e-3)),
        adaptation=AdaptationConfig(max_steps=40, batch_size=8, optimizer=OptimizerConfig(learning_rate=5e-3)),
        probes=_tiny_classifier().but(descriptors=tuple(DESCRIPTORS)),
        generation=GenerationConfig(
            images=24,
            images_at_once=12,
            sampler=SamplerConfig(steps=4),
            tailor=TailorConfig(place=PlaceConfig(least_boxes=5)),
        ),
        classifier=_tiny_classifier(),
        study=StudyConfig(draws=2, sizes=(8,)),
        privacy=PrivacyConfig(plant=PlantConfig(copies=4)),
        gates=GatesConfig(
            images=16,
            levels=4,
            intervals=IntervalConfig(resamples=200),
            distances=DistancesConfig(repeats=2, neighbours=2, kernel_blocks=2, extrapolation_sizes=3),
            memorisation=MemorisationConfig(most=1.0),
            least_gain=-1.0,
            most_gap=1e6,
            most_distance=1e6,
            most_copies=1.0,
            least_distance=0.0,
            least_planted_found=0.0,
        ),
        promotion=PromotionConfig(patients=60),
    )


def _tiny_classifier() -> ClassifierConfig:
    network = DiagnosisNetworkConfig(width=8, stages=2, features=16)
    return ClassifierConfig(max_steps=30, batch_size=16, network=network)


def laptop() -> BusgenConfig:
    """The effect in minutes on two cores: a rare cancer, of which eight phantom lesions are known."""
    return BusgenConfig(
        data=BreastImages(
            origins=(PhantomConfig(side=64, normal=100, benign=1100, malignant=500, dcis=380),),
            side=32,
            margin=0.6,
            splits=SplitConfig(validation=0.1, few_shot=200, test=300, rare_few_shot=80),
        ),
        task=TaskConfig(shots=8),
        network=DiTConfig(patch=4, width=96, layers=4, heads=3),
        conditions=_PHANTOM,
        optimal_loss=OptimalLossConfig(draws=600),
        pretraining=PretrainingConfig(max_steps=2000, batch_size=32, optimizer=OptimizerConfig(learning_rate=2e-3)),
        adaptation=AdaptationConfig(max_steps=200, batch_size=16, optimizer=OptimizerConfig(learning_rate=1e-3)),
        probes=ClassifierConfig(max_steps=600, batch_size=32, descriptors=tuple(DESCRIPTORS)),
        generation=GenerationConfig(
            images=400,
            images_at_once=100,
            sampler=SamplerConfig(steps=12, bf16=True),
            tailor=TailorConfig(weighting="as_seen"),
        ),
        classifier=ClassifierConfig(max_steps=200, batch_size=32, real_share=0.125),
        study=StudyConfig(
            draws=5, arms=("real", "generated", "both", "transfer", "transfer_both", "many_real"), sizes=(25, 100)
        ),
    )


def gpu() -> BusgenConfig:
    """Half an hour on one large GPU: 128 x 128 phantoms and an EDM U-Net with attention at 16 x 16 and below."""
    return laptop().but(
        data=BreastImages(
            origins=(PhantomConfig(side=160, normal=1000, benign=6000, malignant=4000, dcis=1200),),
            side=128,
            margin=0.6,
            splits=SplitConfig(validation=0.1, few_shot=400, test=800, rare_few_shot=400),
            processes=16,
        ),
        network=UNetConfig(),
        pretraining=PretrainingConfig(
            max_steps=12_000,
            batch_size=128,
            optimizer=OptimizerConfig(learning_rate=3e-4, beta_2=0.99),
            ema=EmaConfig(every_steps=8),
        ),
        adaptation=AdaptationConfig(max_steps=1000, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-4)),
        probes=_large_classifier().but(max_steps=4000, descriptors=tuple(DESCRIPTORS)),
        generation=GenerationConfig(
            images=4000,
            images_at_once=250,
            sampler=SamplerConfig(steps=20, bf16=True),
            tailor=TailorConfig(weighting="as_seen"),
        ),
        classifier=_large_classifier(),
        study=StudyConfig(draws=5, arms=laptop().study.arms, sizes=(100, 1000)),
        gates=GatesConfig(images=1000),
    )


def _large_classifier() -> ClassifierConfig:
    network = DiagnosisNetworkConfig(width=32, stages=5, features=256)
    return ClassifierConfig(max_steps=1500, batch_size=64, network=network, real_share=0.125)


def paper() -> BusgenConfig:
    """The release's network and training (Yu et al. 2025) at 160 x 160; a manifest names the images and their devices.

    Twice as wide a batch as its learning rate was made for goes through the whole of a node.
    """
    devices = tuple(f"device-{number}" for number in range(1, 20))
    return laptop().but(
        data=BreastImages(
            origins=(FilesOrigin(layout="manifest", folder=Path("data/bus")),),
            side=160,
            splits=SplitConfig(few_shot=200, test=500, rare_few_shot=17),
            alike_frames="quarantine",
        ),
        task=TaskConfig(shots=16),
        network=official_unet(),
        conditions=ConditionsConfig(classes=_CLASSES, devices=devices, descriptors=()),
        diffusion=DiffusionConfig(path="vp", target="eps", weight="eps", levels=VpLevels(), s_min=0.01, s_max=34.65),
        optimal_loss=OptimalLossConfig(estimator="cdol", subset=50_000, draws=10_000),
        pretraining=PretrainingConfig(
            max_steps=1_000_000,
            batch_size=256,
            optimizer=OptimizerConfig(
                learning_rate=1.5625e-5, warmup_share=0.1, final_rate=0.0, weight_decay=1e-4, beta_2=0.999
            ),
            ema=None,
            dropout=DropoutConfig(everything=0.1, device=0.0, descriptors=0.0, mask=0.0),
            balance="class",
            frames="one_of_patient",
        ),
        adaptation=AdaptationConfig(max_steps=2000, batch_size=32, optimizer=OptimizerConfig(learning_rate=1e-4)),
        probes=_large_classifier().but(max_steps=50_000),
        generation=GenerationConfig(
            images=1_000_000,
            images_at_once=256,
            sampler=SamplerConfig(steps=50, guidance=2.8, grid="log", s_min=0.01, s_max=34.65, bf16=True),
        ),
        classifier=_large_classifier().but(max_steps=20_000),
        study=StudyConfig(draws=5, sizes=(1000, 10_000, 100_000)),
        gates=GatesConfig(images=10_000),
    )
