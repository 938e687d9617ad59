"""What was run: `tiny` and `laptop` on processors; the others are for GPUs, and are checked in their shapes only."""

from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.config import (
    ComparisonConfig,
    GateConfig,
    MeasurementConfig,
    NqsConfig,
    SamplerConfig,
    TrainingConfig,
)
from models.nqs.optimizer_config import OptimizerConfig
from models.nqs.system import SystemConfig


def tiny() -> NqsConfig:
    """Every stage in seconds: a ladder of four sites, one electron of each spin short of half filling."""
    return NqsConfig(
        system=SystemConfig(lattice="2x2", boundary="open", filling="1,1", U=4.0),
        ansatz=AnsatzConfig(width=8, heads=2, layers=1, start="hartree_fock"),
        training=TrainingConfig(
            max_steps=60,
            batch_size=64,
            sampler=SamplerConfig(moves=("hop", "swap"), alpha=1.0),
            optimizer=OptimizerConfig(
                kind="spring",
                momentum=0.9,
                learning_rate=0.1,
                squared_length=0.25,
                warmup_steps=10,
                decay_start=30,
                decay_steps=30,
            ),
        ),
        measurement=MeasurementConfig(groups=2, walkers=64, sweeps=40, burn_in=10),
    )


def laptop() -> NqsConfig:
    """Half filling at U/t = 8 on a 4x2 cylinder, to a few parts in ten thousand in minutes on two cores."""
    return NqsConfig(
        system=SystemConfig(lattice="4x2", boundary="periodic,open", filling="4,4", U=8.0),
        ansatz=AnsatzConfig(width=24, heads=4, layers=2, start="hartree_fock"),
        training=TrainingConfig(
            max_steps=600,
            batch_size=512,
            sampler=SamplerConfig(moves=("hop", "swap"), alpha=1.0),
            optimizer=OptimizerConfig(
                kind="spring",
                momentum=0.9,
                learning_rate=0.05,
                squared_length=0.25,
                warmup_steps=20,
                decay_start=300,
                decay_steps=150,
            ),
        ),
        measurement=MeasurementConfig(),
        comparison=ComparisonConfig(seeds=3, steps=100, cost_repeats=3),
        gates=GateConfig(),
    )
