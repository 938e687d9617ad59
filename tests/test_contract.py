"""What the frame asks of every workload, asked of each that is found in `models/`."""

from pathlib import Path

import pytest
import torch

from infra.clusters import LAPTOP
from models.common import workloads
from models.common.contract import DataConfig, StageConfig, WorkloadConfig
from models.common.errors import ConfigError
from tests.fixtures.stages import (
    ALONE,
    broken_off,
    curve,
    rehearsal,
    request_for,
    tiny_stage,
    train_alone,
    train_together,
    trained_stages,
    weights,
)

STEPS = 12
PRESETS = [(workload, preset) for workload in workloads.names() for preset in workloads.preset_names(workload)]
stages = pytest.mark.parametrize(("workload", "stage"), trained_stages())


@pytest.mark.parametrize(("workload", "preset"), PRESETS)
def test_a_preset_is_a_config_that_survives_json(workload: str, preset: str) -> None:
    config = workloads.preset(workload, preset)
    assert isinstance(config, WorkloadConfig)
    assert config.name == workload
    again = type(config).model_validate_json(config.model_dump_json())
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    with pytest.raises(ConfigError, match="no field 'teachr'"):
        config.with_overrides({"teachr": 1})


@pytest.mark.parametrize("workload", workloads.names())
def test_every_workload_has_a_preset_for_tests_and_one_for_a_laptop(workload: str) -> None:
    assert {"tiny", "laptop"} <= set(workloads.preset_names(workload))


@pytest.mark.parametrize("workload", workloads.names())
def test_data_are_the_same_bytes_again_and_other_bytes_for_another_seed(workload: str, tmp_path: Path) -> None:
    config = workloads.preset(workload, "tiny")
    data = [value for _, value in config if isinstance(value, DataConfig)]
    for place, one in enumerate(data):
        contents = []
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            folder = tmp_path / f"{name}{place}"
            folder.mkdir()
            one.but(seed=seed).prepare(folder)
            contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
        assert contents[0] == contents[1]
        assert contents[0] != contents[2]


def _short(config: StageConfig) -> StageConfig:
    return config.but(max_steps=min(STEPS, config.max_steps))


@stages
def test_tiny_learns(workload: str, stage: str, tmp_path: Path) -> None:
    config = tiny_stage(workload, stage)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "run" / stage)
    train_alone(request)
    loss = curve(request, "loss")
    third = len(loss) // 3
    assert sum(loss[-third:]) < sum(loss[:third])


@stages
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(workload: str, stage: str, tmp_path: Path) -> None:
    config = _short(tiny_stage(workload, stage))
    cluster = ALONE.but(save_every_steps=5, keep_checkpoints=5)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "run" / stage, cluster)
    unbroken = train_alone(request)
    resumed = broken_off(request, tmp_path / "again" / stage, step=5)
    again = train_alone(resumed)
    assert unbroken.keys() == again.keys()
    assert [name for name in unbroken if not torch.equal(unbroken[name], again[name])] == []
    assert (request.folder / "result" / "manifest.json").read_bytes() == (
        resumed.folder / "result" / "manifest.json"
    ).read_bytes()


@stages
def test_another_seed_gives_other_weights(workload: str, stage: str, tmp_path: Path) -> None:
    config = _short(tiny_stage(workload, stage))
    inputs = rehearsal(config, tmp_path / "inputs")
    one, two = (train_alone(request_for(config, inputs, tmp_path / str(seed) / stage, seed=seed)) for seed in (1, 2))
    assert any(not torch.equal(one[name], two[name]) for name in one)


@stages
def test_two_workers_do_what_one_does_and_one_finishes_what_they_began(
    workload: str, stage: str, tmp_path: Path
) -> None:
    """Under DeepSpeed too; in one pair of processes, since starting one takes seconds."""
    config = _short(tiny_stage(workload, stage))
    inputs = rehearsal(config, tmp_path / "inputs")
    pair = LAPTOP.but(workers=2, engine="torch", save_every_steps=5, keep_checkpoints=5)
    together = request_for(config, inputs, tmp_path / "two" / stage, pair)
    deepspeed = request_for(config, inputs, tmp_path / "deepspeed" / stage, LAPTOP.but(workers=2))
    train_together(together, deepspeed)

    alone = request_for(config, inputs, tmp_path / "one" / stage)
    one, two = train_alone(alone), weights(together)
    for metric in ("loss", "gradient_norm"):
        assert curve(together, metric) == pytest.approx(curve(alone, metric), rel=1e-3, abs=1e-5)
    assert curve(deepspeed, "loss") == pytest.approx(curve(alone, "loss"), rel=1e-3, abs=1e-5)
    # Sums in another order: Adam makes a small difference of a near-zero gradient as large as the learning rate.
    for name in one:
        assert torch.allclose(one[name], two[name], atol=2e-3), name

    finished = broken_off(together, tmp_path / "finished" / stage, step=5).but(cluster=ALONE.model_dump(mode="json"))
    train_alone(finished)
    assert curve(finished, "loss") == pytest.approx(curve(together, "loss"), rel=1e-3, abs=1e-5)
