"""The supervised start: how it is learnt."""

from pathlib import Path

from pydantic import Field

from models.common.config import Config
from models.common.contract import Inputs, Learner, StageConfig, WorkerGroup, World
from models.common.optimizer_config import MicroBatch, OptimizerConfig
from models.rto.policy_config import DecoderConfig, PolicyConfig

Steps = Field(default=1000, ge=1, le=100_000_000)
BatchSize = Field(default=128, ge=1, le=1_000_000)


class SftConfig(Config):
    """The supervised start: demonstrations, token by token."""

    max_steps: int = Steps
    batch_size: int = BatchSize
    micro_batch: int | None = MicroBatch
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-5)


class SftStage(SftConfig, StageConfig):
    """The supervised start of this policy."""

    policy: PolicyConfig = DecoderConfig()

    def build(self, world: World) -> Learner:
        from models.rto.sft import SftLearner

        return SftLearner(self, world)

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        from models.rto.memory import sft_bytes

        return sft_bytes(self, group)

    def rehearse(self, folder: Path) -> Inputs:
        from models.rto.rehearsal import rehearse_sft

        return rehearse_sft(self, folder)
