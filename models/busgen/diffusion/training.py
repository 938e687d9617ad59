"""A step of learning to denoise, as pretraining and adaptation take it."""

# B images of a piece   K bins of log s

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from models.busgen.batches import Choices, RowDraw, draw_choices, make_batch, row_seed
from models.busgen.diffusion.denoiser import Denoiser
from models.busgen.diffusion.ema import WeightAverage
from models.busgen.diffusion.levels import draw_levels
from models.busgen.diffusion.losses import denoising_loss, image_loss, loss_weight
from models.busgen.diffusion.noise import seed_of
from models.busgen.diffusion_config import AdaptationStage, DiffusionConfig, PretrainingStage
from models.busgen.images.dataset import Images
from models.busgen.optimal.schedule import AdaptiveSchedule
from models.common.contract import LearnerState, Metrics, World
from models.common.rows import Rows
from models.common.warmup_descent import Descent

_NETWORK = 3  # the stream of a network's own chance, beside those of `batches`


class DenoisingLearner:
    """Learns to denoise these rows of the images; publishes the running mean of what it trains.

    stream: what this stage's chance is drawn from. diffusion: levels and weight of this training.
    schedule: of levels or weight that go by the optimal loss.
    """

    def __init__(
        self,
        config: PretrainingStage | AdaptationStage,
        world: World,
        denoiser: Denoiser,
        images: Images,
        rows: Rows,
        stream: int,
        diffusion: DiffusionConfig,
        schedule: AdaptiveSchedule | None = None,
    ) -> None:
        self.config, self.world, self.stream = config, world, stream
        self.diffusion, self.schedule, self.images = diffusion, schedule, images
        classes = config.generator.conditions.classes
        groups = [images.cases[row].label(classes) for row in rows] if config.balance == "class" else None
        self.rows = RowDraw(images, rows, groups, one_of_patient=config.frames == "one_of_patient")
        self.average = None
        if config.ema is not None:  # before the engine spreads the weights over the ranks
            trained = {name: value for name, value in denoiser.named_parameters() if value.requires_grad}
            self.average = WeightAverage(config.ema, trained, config.batch_size)
        self.descent = Descent(denoiser, config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world, step = self.config, self.world, self.descent.steps_done
        rows_B = self.rows.draw(step, config.batch_size, row_seed(world.seed, self.stream))
        choices = draw_choices(
            config.dropout, config.batch_size, flips=config.flips, seed=world.seed, stream=self.stream, step=step
        )
        places = np.arange(config.batch_size)[world.share(config.batch_size)]
        at_once = config.micro_batch or len(places)
        parts = [places[start : start + at_once] for start in range(0, len(places), at_once)]
        told: list[Tensor] = []
        tallies: list[Tensor] = []
        rate, gradient_norm = self.descent.update(self._losses(rows_B, choices, parts, told, tallies), len(parts))
        if self.schedule is not None:
            self.schedule.update(world.sum(torch.stack(tallies).sum(dim=0)))
        self._average()
        loss, on_image = world.mean(torch.stack(told).sum(dim=0)).tolist()
        return {"loss": loss, "image_loss": on_image, "learning_rate": rate, "gradient_norm": gradient_norm}

    def _losses(
        self, rows_B: Rows, choices: Choices, parts: list[np.ndarray], told: list[Tensor], tallies: list[Tensor]
    ) -> Iterator[Tensor]:
        """The loss of each piece of this rank's images; adds it to what is told."""
        config, world, step = self.config, self.world, self.descent.steps_done
        share = config.batch_size // world.size
        for number, places in enumerate(parts):
            noise_seed = world.seed, self.stream, step
            batch = make_batch(self.images, config.generator, rows_B, choices, places, noise_seed, world.device)
            s_B = self._levels(choices.uniform_B[places])
            noisy_BCHW = batch.images_BCHW + s_B[:, None, None, None] * batch.noise_BCHW
            with _chance(seed_of(world.seed, self.stream, _NETWORK, step, world.rank, number), world.device):
                estimate_BCHW = self.descent.engine(noisy_BCHW, s_B, batch.conditions)
            loss = denoising_loss(estimate_BCHW, batch.images_BCHW, self._weight(s_B)).sum() / share
            on_image_B = image_loss(estimate_BCHW.detach(), batch.images_BCHW)
            told.append(torch.stack([loss.detach(), on_image_B.sum() / share]))
            if self.schedule is not None:
                tallies.append(self.schedule.tally(s_B, on_image_B * batch.images_BCHW[0].numel()))
            yield loss

    def _levels(self, uniform_B: np.ndarray) -> Tensor:
        """s of these quantiles, on the device."""
        levels = self.diffusion.levels
        if levels.kind == "optimal":
            assert self.schedule is not None, "levels by the optimal loss need a schedule"
            s_B = self.schedule.levels_at(torch.from_numpy(uniform_B))
        else:
            s_B = torch.from_numpy(draw_levels(levels, uniform_B)).float()
        return s_B.clamp(self.diffusion.s_min, self.diffusion.s_max).to(self.world.device)

    def _weight(self, s_B: Tensor) -> Tensor:
        """w(s) of a loss of the image that is a mean over its pixels."""
        if self.diffusion.weight != "optimal":
            return loss_weight(self.diffusion.weight, s_B, self.diffusion.sigma_data)
        assert self.schedule is not None, "a weight by the optimal loss needs a schedule"
        return self.schedule.weight_of(s_B) * self.schedule.per_pixel

    def _average(self) -> None:
        step = self.descent.steps_done
        if self.average is not None and self.average.is_due(step, self.config.max_steps):
            self.average.take(self.descent.engine.weights(), step)

    def state_dict(self) -> LearnerState:
        average = None if self.average is None else self.average.state_dict()
        schedule = None if self.schedule is None else self.schedule.state_dict()
        return self.descent.state_dict(average=average, schedule=schedule)

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)
        if self.average is not None:
            self.average.load_state_dict(state.shared["average"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state.shared["schedule"])

    def weights(self) -> dict[str, Tensor]:
        """The running mean of the trained weights, or the last ones where none is kept."""
        if self.average is None:
            return self.descent.engine.weights()
        return {name: value.clone() for name, value in self.average.mean.items()}


@contextmanager
def _chance(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own generators at this seed meanwhile, as a network's dropout draws from them; then as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
