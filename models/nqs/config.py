"""NQS's settings. Defaults are those of the paper and its authors' code; `presets.py` holds what was run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.contest import ContestMethod, ContestStage, part_of, require_alike
from models.common.contract import Inputs, Learner, MapConfig, StageConfig, WorkerGroup, WorkloadConfig, World
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.optimizer_config import OptimizerConfig
from models.nqs.symmetry_config import SymmetryConfig
from models.nqs.system import SystemConfig

Move = Literal["hop", "swap", "weighted"]
Version = Annotated[str, Field(pattern=r"^[a-z0-9-]+@v[0-9]+\.[0-9]+\.[0-9]+$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class StateConfig(Config):
    """A variational state: of which system, of which form, and what it is projected on."""

    system: SystemConfig
    ansatz: AnsatzConfig = AnsatzConfig()
    symmetry: SymmetryConfig = SymmetryConfig()

    @model_validator(mode="after")
    def _the_parts_fit_together(self) -> Self:
        _require_fit(self.system, self.ansatz, self.symmetry)
        return self


def _require_fit(system: SystemConfig, ansatz: AnsatzConfig, symmetry: SymmetryConfig) -> None:
    """Raises ValueError where the ansatz or the projection does not suit the system."""
    if system.is_complex and not ansatz.complex:
        raise ValueError("a twisted boundary makes the Hamiltonian complex; set ansatz.complex=true")
    symmetry.check(system)


class SamplerConfig(Config):
    """Markov chains, one for each walker, which live as long as the training."""

    moves: tuple[Move, ...] = Field(
        default=("weighted",), min_length=1, max_length=8, description="taken in turn, the same for all walkers"
    )
    proposals_per_site: float = Field(default=2.5, gt=0.0, le=1000.0, description="between two updates")
    alpha: float = Field(
        default=2.0, gt=0.0, le=2.0, description="density |psi|^alpha; below 2 samples are weighted by |psi|^(2-alpha)"
    )
    burn_in: int = Field(default=10, ge=0, le=100_000, description="times the proposals of a step, before the first")
    least_acceptance: Share = Field(default=0.02, description="below it chains are taken for frozen")
    least_effective: Share = Field(default=0.05, description="effective samples, as a share of the walkers")
    least_unique: Share = Field(default=0.01, description="different configurations, as a share of the walkers")
    patience: int = Field(default=30, ge=1, le=100_000, description="steps of bad chains before the training stops")


class GuardConfig(Config):
    """What stops a training that has gone wrong."""

    below_bound: float = Field(
        default=6.0, gt=0.0, le=1e3, description="errors by which a window's energy may lie below a lower bound"
    )
    window: int = Field(default=20, ge=2, le=10_000, description="steps over which that energy is averaged")
    most_growth: float = Field(default=100.0, gt=1.0, le=1e6, description="of the norm of all parameters")


class TrainingConfig(Config):
    """Variational Monte Carlo; defaults are the paper's (Table S7)."""

    max_steps: int = Field(default=100_000, ge=1, le=10_000_000)
    batch_size: int = Field(default=4096, ge=1, le=10_000_000, description="walkers on all workers together")
    sampler: SamplerConfig = SamplerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    guard: GuardConfig = GuardConfig()
    samples_at_once: int = Field(default=256, ge=1, le=1_000_000, description="in one pass for derivatives")
    amplitudes_at_once: int = Field(default=4096, ge=1, le=10_000_000, description="in one pass without derivatives")
    memory_gib: float = Field(default=1.0, gt=0.0, le=1024.0, description="for derivatives of a block, on a worker")


class VmcConfig(TrainingConfig, StageConfig):
    """The stage that is trained: a state, and how."""

    state: StateConfig

    def build(self, world: World) -> Learner:
        from models.nqs.vmc import VmcLearner

        return VmcLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        return Inputs()

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        gram = 3 * 8 * (self.batch_size * (2 if self.state.ansatz.complex else 1)) ** 2  # itself, its factor, a draft
        return gram + int(self.memory_gib * 2**30)


class FixedNodeConfig(Config):
    """Projection with the nodes of the trained state held fixed; real states only."""

    walkers: int = Field(default=0, ge=0, le=1_000_000, description="0 leaves the projection out")
    time_step: float = Field(default=0.01, gt=0.0, le=1.0, description="imaginary time between two branchings, in 1/t")
    steps: int = Field(default=5000, ge=1, le=10_000_000)
    equilibration: int = Field(default=500, ge=0, le=10_000_000, description="steps that are not measured")


class MeasurementConfig(Config):
    """Independent chains at the trained state."""

    groups: int = Field(default=8, ge=1, le=10_000, description="pieces of work that slots take one by one")
    walkers: int = Field(default=128, ge=4, le=1_000_000, description="of a group")
    sweeps: int = Field(default=100, ge=4, le=1_000_000, description="that are measured")
    burn_in: int = Field(default=20, ge=0, le=1_000_000, description="sweeps that are not")
    proposals_per_site: float = Field(default=2.5, gt=0.0, le=1000.0, description="of a sweep")
    pair_sweeps: int = Field(
        default=4, ge=0, le=1_000_000, description="of these, how many measure pair correlations, which cost much more"
    )
    fixed_node: FixedNodeConfig = FixedNodeConfig()


class MeasureConfig(MeasurementConfig, MapConfig):
    """The stage that measures: what, and at which state."""

    state: StateConfig
    sampler: SamplerConfig = SamplerConfig()
    amplitudes_at_once: int = 4096

    @property
    def proposals(self) -> int:
        """Of a sweep, to each walker."""
        return max(1, round(self.proposals_per_site * self.state.system.sites))

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.nqs import measurement

        return measurement.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.nqs import measurement

        return measurement.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.nqs import measurement

        measurement.collect(self, parts, folder)


class ComparisonConfig(Config):
    """Optimizers beside each other from the same start, and what a step costs; none where there are no seeds."""

    optimizers: tuple[Literal["adam", "minsr", "spring", "march"], ...] = ("adam", "minsr", "spring", "march")
    seeds: int = Field(default=0, ge=0, le=100, description="trainings of each optimizer")
    steps: int = Field(default=100, ge=1, le=1_000_000)
    batch_size: int = Field(default=512, ge=4, le=1_000_000)
    adam_learning_rate: float = Field(default=3e-3, gt=0.0, le=1.0)
    cost_repeats: int = Field(default=0, ge=0, le=1000, description="timed steps of each size; 0 measures no costs")

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.seeds or self.cost_repeats)


class CompareConfig(ComparisonConfig, MapConfig):
    """The stage that compares: what, and for which training."""

    training: VmcConfig

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.nqs import comparison

        return comparison.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.nqs import comparison

        return comparison.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.nqs import comparison

        comparison.collect(self, parts, folder)


class GateConfig(Config):
    """What a version has to reach before it is published."""

    most_relative_error: float = Field(
        default=5e-3, gt=0.0, le=10.0, description="of the energy, where an exact one is known"
    )
    errors_below: float = Field(default=4.0, gt=0.0, le=100.0, description="standard errors below the exact energy")
    most_r_hat: float = Field(default=1.1, gt=1.0, le=10.0)
    least_acceptance: Share = Field(default=0.02)


class EvaluationConfig(GateConfig, MapConfig):
    """The stage that compares with exact and published values, extrapolates, and writes the report."""

    state: StateConfig
    size_power: float = 1.0

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.nqs import evaluate

        return evaluate.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.nqs import evaluate

        return evaluate.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.nqs import evaluate

        evaluate.collect(self, parts, inputs, folder)


class PromotionConfig(Config):
    """How much lower a new state has to lie to take the champion's place."""

    margin: float = Field(
        default=1e-4, ge=0.0, le=1e3, description="energy per site, in units of energy; what lies lower is nearer"
    )


class NqsContest(PromotionConfig, ContestStage):
    """Energies of two states of this system, each from chains of its own, measured as a run measures them.

    measure: what a run of the candidate's config has; each state is read with the config that it was published with.
    """

    measure: MeasureConfig

    def check_versions(self, candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> None:
        systems = [part_of(version, "system", SystemConfig) for version in (candidate, champion)]
        require_alike("the system", *(system.label for system in systems))
        require_alike("the system", *systems)  # a label leaves out the finer points of a pinning field

    def method(self) -> ContestMethod:
        from models.nqs import contest

        return contest


class SizesConfig(Config):
    """Published states of the same system on other lattices, with which the energy per site is extrapolated."""

    versions: tuple[Version, ...] = Field(default=(), max_length=20, description="NAME@VERSION of each")
    power: float = Field(
        default=1.0, gt=0.0, le=10.0, description="E = E_inf + c / L^power, L the length that differs, or sqrt(sites)"
    )


class NqsConfig(WorkloadConfig):
    """All of NQS: the system, the state, how it is trained and what is measured.

    System, ansatz and symmetry stand here once; the stages take them from here.
    """

    name: Literal["nqs"] = "nqs"  # pyright: ignore[reportIncompatibleVariableOverride]
    system: SystemConfig
    ansatz: AnsatzConfig = AnsatzConfig()
    symmetry: SymmetryConfig = SymmetryConfig()
    start: Literal[""] | Version = Field(
        default="", description="NAME@VERSION whose weights the training begins with; empty: a mean field"
    )
    sizes: SizesConfig = SizesConfig()
    training: TrainingConfig = TrainingConfig()
    measurement: MeasurementConfig = MeasurementConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    gates: GateConfig = GateConfig()
    promotion: PromotionConfig = PromotionConfig()

    @model_validator(mode="after")
    def _the_parts_fit_together(self) -> Self:
        if self.measurement.fixed_node.walkers and self.ansatz.complex:
            raise ValueError("the fixed-node projection is for real states; set measurement.fixed_node.walkers=0")
        _require_fit(self.system, self.ansatz, self.symmetry)
        return self

    @property
    def state(self) -> StateConfig:
        return StateConfig(system=self.system, ansatz=self.ansatz, symmetry=self.symmetry)

    @property
    def vmc(self) -> VmcConfig:
        return VmcConfig(state=self.state, **dict(self.training))

    @property
    def measure(self) -> MeasureConfig:
        return MeasureConfig(
            state=self.state,
            sampler=self.training.sampler,
            amplitudes_at_once=self.training.amplitudes_at_once,
            **dict(self.measurement),
        )

    @property
    def compare(self) -> CompareConfig:
        return CompareConfig(training=self.vmc, **dict(self.comparison))

    @property
    def evaluation(self) -> EvaluationConfig:
        return EvaluationConfig(state=self.state, size_power=self.sizes.power, **dict(self.gates))

    def contest(self) -> NqsContest:
        return NqsContest(measure=self.measure, **dict(self.promotion))

    def trained_stages(self) -> dict[str, StageConfig]:
        return {"training": self.vmc}

    def versions(self) -> dict[str, str]:
        others = {f"size_{place}": version for place, version in enumerate(self.sizes.versions)}
        return others | ({"start": self.start} if self.start else {})

    def check_version(self, purpose: str, config: Mapping[str, Any]) -> None:
        from models.nqs.start import require_another_size, require_same_particles

        if purpose == "start":
            require_same_particles(self.state, config)
        else:
            require_another_size(self.system, config)
