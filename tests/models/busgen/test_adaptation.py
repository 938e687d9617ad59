"""Adaptation: adapters begin by changing nothing, learn, and leave the generator below as it was."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.busgen.adaptation import AdaptationLearner
from models.busgen.diffusion.denoiser import make_denoiser
from models.busgen.diffusion.generator import read_generator
from models.busgen.diffusion_config import AdaptationStage
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.lora import add_lora
from models.busgen.rehearsal import rehearse_adaptation
from models.common.contract import WorkerGroup
from models.common.errors import CheckpointError, ConfigError
from models.common.weights import load_weights
from tests.fixtures.worlds import world_of
from tests.models.busgen.generators import ADAPTATION, GENERATOR

CPU = torch.device("cpu")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    rehearse_adaptation(ADAPTATION, tmp_path)
    return tmp_path


def learner_of(stage: AdaptationStage, inputs: Path) -> AdaptationLearner:
    return AdaptationLearner(stage, world_of({"images": inputs / "images"}, inputs / "start"))


def question(label: int) -> tuple[Tensor, Tensor, Conditions]:
    random = torch.Generator().manual_seed(0)
    conditions = Conditions(
        torch.full((2,), label), torch.ones(2).long(), torch.ones(2, 7).long(), torch.zeros(2, 1, 8, 8), torch.ones(2)
    )
    return torch.randn(2, 1, 8, 8, generator=random), torch.tensor([0.3, 2.0]), conditions


def published(learner: AdaptationLearner, folder: Path) -> Path:
    folder.mkdir()
    save_file(learner.weights(), folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(learner.config.model_dump(mode="json")))
    return folder


def test_an_adapter_changes_nothing_before_its_first_step(inputs: Path) -> None:
    base = read_generator(GENERATOR, inputs / "start", None, CPU)
    learner = learner_of(ADAPTATION, inputs)
    for label in (0, 1, 2, 3):
        assert torch.equal(learner.descent.engine(*question(label)), base(*question(label)))


def test_a_new_class_begins_as_its_parent(inputs: Path) -> None:
    base = read_generator(GENERATOR, inputs / "start", None, CPU)
    learner = learner_of(ADAPTATION, inputs)
    malignant, dcis = 3, 4
    found = learner.descent.engine(*question(dcis))
    assert torch.equal(found, base(*question(malignant)))
    assert not torch.allclose(found, base(*question(dcis)))


def test_the_loss_falls_and_the_frozen_weights_stay(inputs: Path) -> None:
    learner = learner_of(ADAPTATION.but(max_steps=60, batch_size=16), inputs)
    frozen = _frozen(learner)
    losses = [learner.step()["loss"] for _ in range(60)]
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])
    after = _frozen(learner)
    assert [name for name in frozen if not torch.equal(frozen[name], after[name])] == []
    assert frozen.keys() == load_weights(inputs / "start").keys()


def test_only_what_was_trained_is_published_and_it_reads_back_merged(inputs: Path, tmp_path: Path) -> None:
    learner = learner_of(ADAPTATION.but(ema=None), inputs)
    for _ in range(4):
        learner.step()
    folder = published(learner, tmp_path / "adapter")
    assert all(".adapters." in name for name in load_weights(folder))
    read = read_generator(GENERATOR, inputs / "start", folder, CPU)
    base = read_generator(GENERATOR, inputs / "start", None, CPU)
    with torch.no_grad():
        for label in (2, 4):
            found = read(*question(label))
            torch.testing.assert_close(found, learner.descent.engine(*question(label)), atol=1e-5, rtol=1e-4)
            assert not torch.allclose(found, base(*question(label)), atol=1e-3)


def test_a_resumed_adaptation_equals_an_unbroken_one(inputs: Path, tmp_path: Path) -> None:
    unbroken, broken = (learner_of(ADAPTATION, inputs) for _ in range(2))
    for _ in range(3):
        unbroken.step()
        broken.step()
    torch.save(broken.state_dict().shared, tmp_path / "state.pt")
    resumed = learner_of(ADAPTATION, inputs)
    resumed.load_state_dict(type(broken.state_dict())(torch.load(tmp_path / "state.pt")))
    for _ in range(3):
        assert unbroken.step() == resumed.step()
    one, two = unbroken.weights(), resumed.weights()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_it_sees_its_shots_and_no_other_image(inputs: Path) -> None:
    learner = learner_of(ADAPTATION, inputs)
    seen = {int(row) for step in range(20) for row in learner.rows.draw(step, 8, (0,))}
    labels = [learner.images.cases[row].label(("dcis", "benign")) for row in seen]
    assert sorted(labels) == ["benign"] * 4 + ["dcis"] * 4
    other = learner_of(ADAPTATION.but(draw=1), inputs)
    assert seen.isdisjoint({int(row) for step in range(20) for row in other.rows.draw(step, 8, (0,))})


def test_another_generator_is_refused(inputs: Path, tmp_path: Path) -> None:
    other = GENERATOR.with_overrides({"network.layers": 2})
    with pytest.raises(CheckpointError, match="other weights than this generator's: of network"):
        read_generator(other, inputs / "start", None, CPU)
    with pytest.raises(CheckpointError, match="is no adaptation"):
        read_generator(GENERATOR, inputs / "start", inputs / "start", CPU)
    with pytest.raises(ConfigError, match="starts from a pretrained generator"):
        AdaptationLearner(ADAPTATION, world_of({"images": inputs / "images"}, None))


def test_classes_that_the_generator_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigError, match="knows no class 'papilloma'; fits: normal, benign"):
        ADAPTATION.but(positive="papilloma")
    with pytest.raises(ConfigError, match="are both 'benign'"):
        ADAPTATION.but(positive="benign")


def test_memory_counts_the_mean_of_the_adapters_alone() -> None:
    alone = WorkerGroup(workers=1)
    denoiser = make_denoiser(GENERATOR)
    add_lora(denoiser.network, ADAPTATION.lora)
    trained = sum(value.numel() for value in denoiser.parameters() if value.requires_grad)
    larger = ADAPTATION.but(lora=ADAPTATION.lora.but(rank=4).model_dump())
    assert larger.bytes_per_worker(alone) > ADAPTATION.bytes_per_worker(alone)
    without_mean = ADAPTATION.but(ema=None).bytes_per_worker(alone)
    assert ADAPTATION.bytes_per_worker(alone) - without_mean == 8 * trained


def _frozen(learner: AdaptationLearner) -> dict[str, Tensor]:
    module = learner.descent.engine.module
    return {name: value.clone() for name, value in module.named_parameters() if not value.requires_grad}
