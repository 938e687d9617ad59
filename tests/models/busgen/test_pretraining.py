"""Pretraining: what a step's loss is, that it falls, and that pieces, ranks and breaks change nothing."""

from pathlib import Path

import pytest
import torch

from models.busgen.batches import PRETRAINING as STREAM
from models.busgen.batches import draw_choices, make_batch, row_seed
from models.busgen.diffusion.denoiser import make_denoiser
from models.busgen.diffusion.generator import read_generator
from models.busgen.diffusion_config import OptimalLevels, PretrainingStage
from models.busgen.pretraining import PretrainingLearner
from models.busgen.rehearsal import made_up_images, rehearse_pretraining
from models.common.contract import WorkerGroup
from models.common.errors import ConfigError, DataError
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import world_of
from tests.models.busgen.generators import GENERATOR, PRETRAINING, written
from tests.models.rto.ppo_worlds import saved

OPTIMAL = PRETRAINING.with_overrides(
    {"generator.diffusion.levels": OptimalLevels().model_dump(), "generator.diffusion.weight": "optimal"}
)


def learner_of(stage: PretrainingStage, folder: Path, *, seed: int = 3) -> PretrainingLearner:
    if not folder.exists():
        folder.mkdir()
        rehearse_pretraining(stage, folder)
    inputs = {place.name: place for place in folder.iterdir()}
    return PretrainingLearner(stage, world_of(inputs, None, seed=seed))


def test_the_loss_falls(tmp_path: Path) -> None:
    learner = learner_of(PRETRAINING.but(max_steps=60, batch_size=16), tmp_path / "in")
    losses = [learner.step()["loss"] for _ in range(60)]
    assert sum(losses[-15:]) < 0.85 * sum(losses[:15])


def test_the_loss_of_a_step_is_edms(tmp_path: Path) -> None:
    """Karras et al. 2022, eq. 8, an image at a time; with levels of one value, their law is out of the way."""
    narrow = {"kind": "lognormal", "mean": -0.5, "std": 1e-9}
    stage = PRETRAINING.with_overrides({"generator.diffusion.levels": narrow})
    learner = learner_of(stage, tmp_path / "in")
    rows = learner.rows.draw(0, 8, row_seed(3, STREAM))
    choices = draw_choices(stage.dropout, 8, flips=True, seed=3, stream=STREAM, step=0)
    batch = make_batch(
        learner.images, GENERATOR, rows, choices, torch.arange(8).numpy(), (3, STREAM, 0), torch.device("cpu")
    )
    s = torch.tensor([-0.5]).exp()
    total = 0.0
    with torch.no_grad():
        for b in range(8):
            noisy = batch.images_BCHW[b] + s * batch.noise_BCHW[b]
            estimate = learner.descent.engine(noisy[None], s, batch.conditions.take([b]))
            weight = (float(s) ** 2 + 0.5**2) / (float(s) * 0.5) ** 2
            total += weight * float((estimate[0] - batch.images_BCHW[b]).square().mean())
    assert learner.step()["loss"] == pytest.approx(total / 8, rel=1e-5)


@pytest.mark.parametrize("stage", [PRETRAINING, OPTIMAL], ids=["edm", "optimal"])
def test_a_resumed_training_equals_an_unbroken_one(stage: PretrainingStage, tmp_path: Path) -> None:
    stage = stage.with_overrides({"generator.network.dropout": 0.2})
    unbroken, broken = (learner_of(stage, tmp_path / "in") for _ in range(2))
    for _ in range(3):
        unbroken.step()
        broken.step()
    torch.save(broken.state_dict().shared, tmp_path / "state.pt")
    resumed = learner_of(stage, tmp_path / "in", seed=3)
    resumed.load_state_dict(type(broken.state_dict())(torch.load(tmp_path / "state.pt")))
    for _ in range(3):
        assert unbroken.step() == resumed.step()
    one, two = unbroken.weights(), resumed.weights()
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_the_gradient_is_the_same_in_pieces(tmp_path: Path) -> None:
    found = []
    for micro_batch in (None, 3):
        learner = learner_of(OPTIMAL.but(micro_batch=micro_batch), tmp_path / "in")
        found.append([learner.step() for _ in range(3)])
    for whole, parts in zip(*found, strict=True):
        assert parts == pytest.approx(whole, rel=1e-4)


def _steps(rank: int, folder: Path) -> list[dict[str, float]]:
    learner = learner_of(OPTIMAL.but(balance="class"), folder)
    return [learner.step() for _ in range(3)]


def test_two_ranks_do_what_one_does(tmp_path: Path) -> None:
    alone = _steps(0, tmp_path / "in")
    for together in run_ranks(_steps, 2, tmp_path / "in"):
        for one, two in zip(alone, together, strict=True):
            assert two == pytest.approx(one, rel=1e-4)


def test_what_is_published_is_the_running_mean_and_reads_back(tmp_path: Path) -> None:
    learner = learner_of(PRETRAINING.but(max_steps=3), tmp_path / "in")
    last = []
    for _ in range(3):
        learner.step()
        last.append(learner.descent.engine.weights()["network.embedding.joined.weight"])
    published = learner.weights()["network.embedding.joined.weight"]
    assert not torch.allclose(published, last[-1])
    assert ((published - last[-1]).norm() < (last[0] - last[-1]).norm()).item()
    base = saved(learner.descent.engine.module, tmp_path / "out")
    generator = read_generator(GENERATOR, base, None, torch.device("cpu"))
    for name, value in generator.named_parameters():
        assert torch.equal(value, learner.descent.engine.weights()[name])
        assert not value.requires_grad


def test_the_levels_go_where_the_loss_is_above_the_optimal_one(tmp_path: Path) -> None:
    learner = learner_of(OPTIMAL, tmp_path / "in")
    assert learner.schedule is not None
    before = learner.schedule.density_K.clone()
    for _ in range(5):
        learner.step()
    assert not torch.equal(before, learner.schedule.density_K)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    images = made_up_images(GENERATOR, "test", 1)
    world = world_of({"images": written(images, tmp_path / "test")}, None)
    with pytest.raises(DataError, match="none of the images is in split 'pretrain'"):
        PretrainingLearner(PRETRAINING, world)
    with pytest.raises(ConfigError, match="no input 'images'"):
        PretrainingLearner(PRETRAINING, world_of({}, None))
    larger = PRETRAINING.with_overrides({"generator.side": 16})
    with pytest.raises(DataError, match=r"8 pixels a side.*\n.*generator.side=8"):
        PretrainingLearner(larger, world)
    pretrain = written(made_up_images(GENERATOR, "pretrain", 1), tmp_path / "pretrain")
    with pytest.raises(ConfigError, match="no input 'optimal_loss'"):
        PretrainingLearner(OPTIMAL, world_of({"images": pretrain}, None))


def test_memory_counts_weights_gradients_adam_the_mean_and_activations() -> None:
    alone = WorkerGroup(workers=1)
    stage = PRETRAINING.but(ema=None)
    counted = stage.bytes_per_worker(alone)
    numbers = sum(value.numel() for value in make_denoiser(GENERATOR).parameters())
    activations = stage.but(batch_size=16).bytes_per_worker(alone) - counted
    assert counted == 16 * numbers + activations
    assert PRETRAINING.bytes_per_worker(alone) == counted + 8 * numbers
    assert stage.but(micro_batch=4).bytes_per_worker(alone) == 16 * numbers + activations // 2
