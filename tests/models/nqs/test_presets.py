"""The presets for GPUs, as far as a processor can tell: shapes, memory, and two steps with two walkers."""

import math
from dataclasses import replace

import pytest
import torch

from infra.clusters import CLUSTER, NODE_8, ONE_GPU
from infra.preflight import check_batches, check_memory
from models.common import workloads
from models.nqs.config import NqsConfig
from models.nqs.network import TransformerBackflow
from models.nqs.sampling import random_configurations
from models.nqs.start import make_state
from models.nqs.vmc import VmcLearner
from tests.models.nqs.tiny_backflow import world_of

FEW = {
    "training.batch_size": 2,
    "training.sampler.burn_in": 0,
    "training.sampler.proposals_per_site": 0.05,
    "ansatz.start": "free",
}
FOR_GPUS = sorted(set(workloads.preset_names("nqs")) - {"tiny", "laptop"})


def _preset(name: str) -> NqsConfig:
    config = workloads.preset("nqs", name)
    assert isinstance(config, NqsConfig)
    return config


@pytest.mark.parametrize("name", FOR_GPUS)
def test_a_preset_fits_the_gpu_clusters(name: str) -> None:
    for shape in (ONE_GPU, NODE_8, CLUSTER):
        check_batches(_preset(name), shape)
        check_memory(_preset(name), shape)


@pytest.mark.parametrize("name", ["gpu", "gpu_16x4_t_prime", "paper"])
def test_two_steps_of_a_preset_for_gpus_run_with_two_walkers(name: str) -> None:
    torch.manual_seed(0)
    learner = VmcLearner(_preset(name).with_overrides(FEW).vmc, replace(world_of(), seed=1))
    before = {name: value.clone() for name, value in learner.weights().items()}
    steps = [learner.step() for _ in range(2)]
    assert all(math.isfinite(value) for step in steps for value in step.values())
    assert all(value.dtype == torch.float32 for value in before.values())
    assert any(not torch.equal(before[name], value) for name, value in learner.weights().items())


def test_the_largest_network_of_the_paper_has_an_amplitude_and_derivatives() -> None:
    config = _preset("paper_32x8").with_overrides({"ansatz.start": "random"})
    system, generator = config.system, torch.manual_seed(0)
    state = make_state(config.state)
    assert isinstance(state, TransformerBackflow)
    width, columns = config.ansatz.width, config.ansatz.determinants * sum(system.particles)
    # attention 4 d^2 and one square layer a block, embeddings of 4 states and N sites, a head a spin, the table
    by_hand = 4 * 5 * width**2 + (4 + system.sites) * width + 2 * width * columns + 2 * system.sites * columns
    assert state.parameter_count() == by_hand
    keys = torch.rand(1, 2 * system.sites, generator=generator)
    log_abs, sign = state(random_configurations(keys, *system.particles))
    assert math.isfinite(log_abs.item())
    assert abs(sign.item()) == 1.0
    log_abs.sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in state.parameters() if value.grad is not None)
