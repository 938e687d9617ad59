"""The presets for large machines, on random models of two layers and a few rows in the layout of their data."""

from pathlib import Path
from typing import Any

import pytest

from infra.clusters import CLUSTER, NODE_8, ONE_GPU, Cluster
from infra.preflight import check_batches, check_memory
from models.common import workloads
from models.common.contract import WorkerGroup
from models.rto.config import RtoConfig
from models.rto.data_config import PreferenceFiles
from models.rto.policy_config import HuggingFaceConfig
from models.rto.study import run_seed
from tests.fixtures.worlds import world_of
from tests.models.rto.small_models import llama, saved
from tests.models.rto.tokenizers import CHATML, byte_tokenizer

LARGE = ("gpu_lora", "paper", "paper_tldr")


def _preset(name: str) -> RtoConfig:
    config = workloads.preset("rto", name)
    assert isinstance(config, RtoConfig)
    return config


def _ultrafeedback_row(number: int) -> dict[str, Any]:
    question = f"What is {number} and {number}?"
    ask = {"role": "user", "content": question}
    answers = [f"{2 * number}.", "No idea, sorry!"]
    chosen, rejected = ([ask, {"role": "assistant", "content": answer}] for answer in answers)
    scores = {"score_chosen": 8.0, "score_rejected": 2.0}
    return {"prompt": question, "prompt_id": str(number), "chosen": chosen, "rejected": rejected, **scores}


def _in_small(config: RtoConfig, folder: Path) -> RtoConfig:
    """The preset with its models, data and counts made small; everything else is as it was."""
    import pyarrow as pa
    from pyarrow import parquet

    tokenizer = byte_tokenizer(CHATML)
    model, _ = saved(folder / "model", llama(vocab_size=len(tokenizer), max_position_embeddings=160, eos_token_id=256))
    tokenizer.save_pretrained(folder / "model")
    for name, rows in (("train", range(24)), ("held_out", range(50, 58))):
        parquet.write_table(pa.Table.from_pylist([_ultrafeedback_row(n) for n in rows]), folder / f"{name}.parquet")
    task = config.data.task
    assert isinstance(task, PreferenceFiles)
    files = {"train": (folder / "train.parquet",), "held_out": (folder / "held_out.parquet",)}
    changes: dict[str, Any] = {
        "data": config.data.but(
            task=task.but(**files, tokenizer=model.model, most_prompt=96, most_response=32),
            pairs=16, held_out_pairs=8, demonstrations=16,
        ),
        "reward_model.max_steps": 2, "reward_model.batch_size": 4,
        "dpo.max_steps": 2, "dpo.batch_size": 4,
        "rto.iterations": 1, "rto.batch_size": 2, "rto.minibatches": 2, "rto.epochs": 1, "rto.most_response": 8,
        "gates.samples": 4,
    }  # fmt: skip
    for field in ("policy", "scorer"):
        network = getattr(config, field)
        if network is not None:
            assert isinstance(network, HuggingFaceConfig)
            changes[field] = network.but(model=model.model, context=160)
    if config.sft is not None:
        changes |= {"sft.max_steps": 2, "sft.batch_size": 4}
    return config.with_overrides(changes)


@pytest.mark.parametrize("name", LARGE)
def test_every_stage_takes_its_steps_on_a_model_of_two_layers(name: str, tmp_path: Path) -> None:
    config = _in_small(_preset(name), tmp_path)
    (tmp_path / "run").mkdir()
    found = run_seed(config.study_stage, config.data, world_of({}, None), tmp_path / "run")
    assert found.arms.keys() == config.arms.keys()
    for arm in found.arms.values():
        assert arm.rollouts[-1] == 4
        assert not arm.stopped
        assert 0 < arm.final["length"] <= 8


@pytest.mark.parametrize(
    ("preset", "cluster"), [("gpu", ONE_GPU), ("gpu_lora", ONE_GPU), ("paper", CLUSTER), ("paper_tldr", NODE_8)]
)
def test_a_preset_fits_the_machines_it_is_meant_for(preset: str, cluster: Cluster) -> None:
    config = _preset(preset)
    check_batches(config, cluster)
    check_memory(config, cluster)
    group = WorkerGroup(cluster.workers, cluster.zero_stage, cluster.precision)
    needs = {name: stage.bytes_per_worker(group) / 2**30 for name, stage in config.trained_stages().items()}
    assert all(0.1 < gib < 80 for gib in needs.values()), needs
