"""What was run: `tiny` and `laptop` on processors. The others are for GPUs, and checked in shape and memory only."""

from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.config import ComparisonConfig, GateConfig, MeasurementConfig, NqsConfig, SamplerConfig, TrainingConfig
from models.nqs.optimizer_config import OptimizerConfig
from models.nqs.system import SystemConfig

# Below |psi|^2 small batches keep seeing configurations where psi is small, and without a clip they may say so: with
# the paper's density and clip, a zero of the mean field's determinant is never left (README, what failed).
_FEW_WALKERS = SamplerConfig(moves=("hop", "swap"), alpha=1.0)


def tiny() -> NqsConfig:
    """Every stage in seconds: two electrons on an open square, to a part in a million."""
    return NqsConfig(
        system=SystemConfig(lattice="2x2", boundary="open", filling="1,1", U=4.0),
        ansatz=AnsatzConfig(width=8, heads=2, layers=1, start="hartree_fock"),
        training=TrainingConfig(
            max_steps=60,
            batch_size=64,
            sampler=_FEW_WALKERS,
            optimizer=OptimizerConfig(
                kind="spring",
                momentum=0.9,
                learning_rate=0.1,
                squared_length=0.25,
                warmup_steps=10,
                decay_start=30,
                decay_steps=30,
                clip_factor=None,
            ),
        ),
        measurement=MeasurementConfig(groups=2, walkers=64, sweeps=40, burn_in=10),
    )


def laptop() -> NqsConfig:
    """Half filling at U/t = 8 on a periodic ladder, to a few parts in ten thousand, in minutes on two cores."""
    return NqsConfig(
        system=SystemConfig(lattice="4x2", boundary="periodic,open", filling="4,4", U=8.0),
        ansatz=AnsatzConfig(width=24, heads=4, layers=2, start="hartree_fock"),
        training=TrainingConfig(
            max_steps=600,
            batch_size=512,
            sampler=_FEW_WALKERS,
            optimizer=OptimizerConfig(
                kind="spring",
                momentum=0.9,
                learning_rate=0.05,
                squared_length=0.25,
                warmup_steps=20,
                decay_start=300,
                decay_steps=50,
                clip_factor=None,
            ),
            samples_at_once=512,
        ),
        measurement=MeasurementConfig(groups=4, walkers=256, sweeps=100, burn_in=10, pair_sweeps=2),
        comparison=ComparisonConfig(seeds=3, steps=100, batch_size=256, cost_repeats=3),
    )


def gpu() -> NqsConfig:
    """8x8 at 1/8 doping, U = 8, t' = 0: ACE (Liu et al. 2026), which does better than the transformer for less."""
    return NqsConfig(
        system=SystemConfig(lattice="8x8", boundary="periodic", filling="28,28", U=8.0),
        ansatz=AnsatzConfig(
            kind="ace", dtype="float32", width=128, layers=8, mlp_width=256, mlp_layers=2, start="hartree_fock"
        ),
        training=TrainingConfig(
            max_steps=3000,
            batch_size=4096,
            sampler=SamplerConfig(moves=("weighted", "swap")),
            optimizer=OptimizerConfig(squared_length=0.5, decay_start=1000, decay_steps=1000),
            samples_at_once=512,
            amplitudes_at_once=16_384,
            memory_gib=16.0,
        ),
        measurement=MeasurementConfig(groups=1, walkers=4096, sweeps=50, burn_in=10),
        gates=GateConfig(most_relative_error=2e-2),
    )


def gpu_16x4() -> NqsConfig:
    """The stripe system 16x4 at 1/8 doping, U = 8, t' = 0, for which most methods have published energies."""
    return gpu().with_overrides({"system.lattice": "16x4"})


def gpu_t_prime() -> NqsConfig:
    """8x8 at 1/8 doping with t' = -0.2, that of the cuprates."""
    return gpu().with_overrides({"system.t_prime": -0.2})


def gpu_16x4_t_prime() -> NqsConfig:
    """16x4 at 1/8 doping with t' = -0.2, where stripes are half filled."""
    return gpu_16x4().with_overrides({"system.t_prime": -0.2})


def paper() -> NqsConfig:
    """The paper's network and optimizer at 16x4, 1/8 doping (Gu et al. 2025, Table S7): days on a node of GPUs."""
    return NqsConfig(
        system=SystemConfig(lattice="16x4", boundary="periodic", filling="28,28", U=8.0),
        ansatz=AnsatzConfig(
            dtype="float32", width=256, heads=4, layers=4, determinants=4, bias=False, start="hartree_fock"
        ),
        training=TrainingConfig(amplitudes_at_once=16_384, memory_gib=24.0),
        measurement=MeasurementConfig(groups=8, walkers=1024, sweeps=100),
    )


def paper_32x8() -> NqsConfig:
    """The paper's largest lattice, with its larger network."""
    return paper().with_overrides(
        {
            "system.lattice": "32x8",
            "system.filling": "112,112",
            "ansatz.width": 384,
            "ansatz.heads": 6,
            "ansatz.determinants": 6,
        }
    )
