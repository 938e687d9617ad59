"""Every stage on a random Llama of two layers: what large models run, in small, with full weights and with adapters."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from models.common.contract import StageConfig
from models.common.optimizer_config import OptimizerConfig
from models.rto.config import DpoStage, PpoStage, RewardModelStage, SftStage
from models.rto.policy_config import HuggingFaceConfig
from tests.fixtures.stages import ALONE, broken_off, curve, rehearsal, request_for, train_alone
from tests.models.rto.small_models import llama

STEPS = 30
SYMBOLS = 12  # of the rehearsals' data
RATE = OptimizerConfig(learning_rate=3e-3, schedule="constant", warmup_share=0.0)
STAGES: dict[str, StageConfig] = {
    "sft": SftStage(max_steps=STEPS, batch_size=16, micro_batch=8, optimizer=RATE),
    "reward model": RewardModelStage(max_steps=STEPS, batch_size=16, optimizer=RATE, form="last_token"),
    "dpo": DpoStage(max_steps=STEPS, batch_size=16, micro_batch=4, optimizer=RATE),
    "dpo, live reference": DpoStage(max_steps=STEPS, batch_size=16, optimizer=RATE, reference="live"),
    "ppo": PpoStage(
        max_steps=4,
        iterations=2,
        batch_size=8,
        minibatches=2,
        micro_batch=4,
        most_response=8,
        optimizer=RATE,
        reward_model_form="last_token",
    ),
}


@pytest.fixture(params=[False, True], ids=["full weights", "adapters"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> HuggingFaceConfig:
    llama(vocab_size=SYMBOLS, initializer_range=0.1).save_pretrained(tmp_path / "model")
    lora = {"rank": 2, "alpha": 4.0} if request.param else None
    model = {"model": str(tmp_path / "model"), "context": 64, "weights": "random", "recompute": True, "lora": lora}
    return HuggingFaceConfig.model_validate(model)


def on(network: HuggingFaceConfig, stage: StageConfig) -> StageConfig:
    fields: dict[str, Any] = {"policy", "scorer", "network"} & type(stage).model_fields.keys()  # pyright: ignore[reportAssignmentType]
    return stage.with_overrides({name: network.model_dump() for name in fields})


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_learns_and_a_resumed_one_equals_an_unbroken_one_bit_for_bit(
    name: str, network: HuggingFaceConfig, tmp_path: Path
) -> None:
    stage = on(network, STAGES[name])
    cluster = ALONE.but(save_every_steps=3, keep_checkpoints=STEPS)
    request = request_for(stage, rehearsal(stage, tmp_path / "inputs"), tmp_path / "run" / "stage", cluster)
    unbroken = train_alone(request)
    again = train_alone(broken_off(request, tmp_path / "again" / "stage", step=3))
    assert unbroken.keys() == again.keys()
    assert [key for key in unbroken if not torch.equal(unbroken[key], again[key])] == []
    trained = [key for key in unbroken if key.startswith("backbone.")]
    assert all(".lora_" in key for key in trained) == (network.lora is not None)
    if name.startswith("dpo"):
        assert curve(request, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)
    if name == "ppo":
        assert curve(request, "kl")[0] == pytest.approx(0.0, abs=1e-5)
        assert curve(request, "kl")[-1] > 0
    else:
        loss = curve(request, "loss")
        assert sum(loss[-STEPS // 3 :]) < sum(loss[: STEPS // 3])
