"""The presets for large machines, without their data: sizes, memory, and their first steps on made-up images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.clusters import CLUSTER, NODE_8, ONE_GPU, Cluster
from infra.preflight import check_batches, check_memory
from models.busgen.config import BusgenConfig
from models.busgen.network_config import UNetConfig
from models.busgen.networks.network import parameter_count
from models.busgen.presets import gpu, paper
from models.common import workloads
from models.common.contract import StageConfig, WorkerGroup
from models.common.in_process import Trained, train_in_process
from models.common.weights import load_weights
from tests.fixtures.worlds import world_of

H200_GIB = 140
# Each preset on the smallest cluster it is meant for.
MEANT_FOR = [("gpu", ONE_GPU), ("paper", NODE_8), ("paper", CLUSTER)]


def preset(name: str) -> BusgenConfig:
    config = workloads.preset("busgen", name)
    assert isinstance(config, BusgenConfig)
    return config


def steps(stage: StageConfig, folder: Path) -> Trained:
    (folder / "in").mkdir()
    inputs = stage.rehearse(folder / "in")
    return train_in_process(stage, world_of({}), folder / "out", inputs.folders, inputs.start_from)


def test_the_papers_network_is_the_release_but_for_one_channel_and_its_words() -> None:
    """47,768,835 numbers on three channels, 2 classes and 19 devices, by the release's checkpoint.

    With one grey channel the stem and the head lose two of three, and two more classes are two rows of a table.
    """
    of = preset("paper").generator
    assert of.channels == 1
    assert len(of.conditions.devices) == 19
    three = parameter_count(of.network, of.conditions, of.side, channels=3)
    released = of.conditions.but(classes=("benign", "malignant"))
    assert parameter_count(of.network, released, of.side, channels=3) == 47_768_835
    one = parameter_count(of.network, of.conditions, of.side, channels=1)
    assert three - one == 2 * 9 * 128 + 2 * (9 * 128 + 1), "3 x 3 kernels of 128 channels, in and out, and a bias"
    assert (three - 47_768_835) % 2 == 0
    assert 0 < three - 47_768_835 < 3000


@pytest.mark.parametrize(("name", "cluster"), MEANT_FOR, ids=lambda part: getattr(part, "name", part))
def test_a_preset_fits_the_machines_it_is_meant_for(name: str, cluster: Cluster) -> None:
    config = preset(name)
    check_batches(config, cluster)
    check_memory(config, cluster)
    group = WorkerGroup(cluster.workers, cluster.zero_stage, cluster.precision)
    of = config.generator
    numbers = parameter_count(of.network, of.conditions, of.side, of.channels)
    for name_of_stage in ("pretraining", "adaptation"):
        needs = config.trained_stages()[name_of_stage].bytes_per_worker(group)
        assert needs > 2 * numbers, "weights in half precision at least"
        assert needs < H200_GIB * 2**30


@pytest.mark.parametrize("make", [gpu, paper])
def test_alone_and_in_float32_weights_gradients_and_adam_are_counted(make: Any) -> None:
    config = make()
    of = config.generator
    numbers = parameter_count(of.network, of.conditions, of.side, of.channels)
    alone = config.pretraining_stage.but(batch_size=2).bytes_per_worker(WorkerGroup(workers=1))
    assert alone > 16 * numbers
    assert config.pretraining_stage.bytes_per_worker(WorkerGroup(workers=1)) > alone


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpu", "paper"])
def test_the_whole_network_takes_its_first_steps_at_half_the_side(name: str, tmp_path: Path) -> None:
    """Its numbers do not depend on the side; attention over all of 160 x 160 pixels takes minutes on a processor."""
    config = preset(name)
    assert isinstance(config.network, UNetConfig)
    halved = {
        "generator.side": config.data.side // 2,
        "generator.network.most_attention_side": config.network.most_attention_side // 2,
    }
    stage = config.pretraining_stage.with_overrides({"max_steps": 2, "batch_size": 1, **halved})
    trained = steps(stage, tmp_path)
    assert not trained.stopped
    assert all(0.0 < loss < 1e4 for loss in trained.metrics["loss"])
    assert all(norm > 0.0 for norm in trained.metrics["gradient_norm"])
    of = config.generator
    published = sum(value.numel() for value in load_weights(trained.folder).values())
    assert published == parameter_count(of.network, of.conditions, of.side, of.channels)


NARROW = {
    "gpu": {"generator.network.width": 8, "generator.network.head_width": 8, "generator.side": 32},
    "paper": {"generator.network.width": 32, "generator.side": 16},
}


@pytest.mark.parametrize("name", ["gpu", "paper"])
@pytest.mark.parametrize("of", ["pretraining", "adaptation"])
def test_a_narrow_network_of_the_same_layout_takes_its_steps(name: str, of: str, tmp_path: Path) -> None:
    stage = preset(name).trained_stages()[of].with_overrides({"max_steps": 3, "batch_size": 4, **NARROW[name]})
    trained = steps(stage, tmp_path)
    assert len(trained.metrics["loss"]) == 3
    assert not trained.stopped


@pytest.mark.parametrize("name", ["gpu", "paper"])
def test_the_classifiers_take_their_steps(name: str, tmp_path: Path) -> None:
    stages = preset(name).trained_stages()
    for of in ("probes", "classifier"):
        folder = tmp_path / of
        folder.mkdir()
        trained = steps(stages[of].but(max_steps=2, batch_size=8, shots=4), folder)
        assert len(trained.metrics["loss"]) == 2
