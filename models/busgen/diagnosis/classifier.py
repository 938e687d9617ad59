"""A classifier learnt from real images, generated ones, or both."""

# B images of the global batch   V values of a head   F features

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.busgen.diagnosis.augmentation import augment, draw_alterations
from models.busgen.diagnosis.network import LABEL, PATHOLOGY, Classifier, make_classifier
from models.busgen.diagnosis.samples import UNKNOWN, Batch, Targets, draw_batch, make_pools
from models.busgen.diagnosis_config import ClassifierConfig, ClassifierStage
from models.busgen.images.dataset import as_network_input
from models.common.contract import LearnerState, Metrics, World
from models.common.errors import CheckpointError
from models.common.warmup_descent import Descent
from models.common.weights import load_stage_config, load_weights

_AUGMENT = 31  # what a random stream is for
_AT_ONCE = 256  # images of a forward pass that learns nothing


def head_loss(logits_BV: Tensor, target_B: Tensor, known: int) -> Tensor:
    """How surprised a head is, summed over the images whose target is known and divided by `known`.

    l = -log p(target): of a softmax over the values, of a sigmoid where there is a single logit.
    """
    sure_B = target_B != UNKNOWN
    if logits_BV.shape[1] == 1:
        surprise_B = functional.binary_cross_entropy_with_logits(
            logits_BV[:, 0], target_B.clamp(min=0).float(), reduction="none"
        )
    else:
        surprise_B = functional.cross_entropy(logits_BV, target_B.clamp(min=0), reduction="none")
    return (surprise_B * sure_B).sum() / max(1, known)


class ClassifierLearner:
    """Trains all heads on the same batches."""

    def __init__(self, config: ClassifierStage, world: World) -> None:
        self.config = config
        self.world = world
        self.pools = make_pools(config, world)
        network = start_classifier(config, world.start_from)
        self.descent = Descent(network, config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world, step = self.config, self.world, self.descent.steps_done
        share = world.share(config.batch_size)
        batch = draw_batch(self.pools, step, world.seed, share)
        logits = self.descent.engine(self._altered(batch, step, share))
        parts = {name: value.float() for name, value in logits.items()}
        losses = head_losses(config, parts, batch.targets, share)
        loss = torch.stack(list(losses.values())).sum() * world.size  # the engine takes the mean over ranks
        rate, gradient_norm = self.descent.update(loss)
        told = {"loss": loss, **{f"{name}_loss": value * world.size for name, value in losses.items()}}
        if LABEL in parts:
            told["accuracy"] = _right(parts[LABEL], batch.targets, share) * world.size
        means = world.mean(torch.stack([value.detach() for value in told.values()])).tolist()
        return dict(zip(told, means, strict=True)) | {"learning_rate": rate, "gradient_norm": gradient_norm}

    def _altered(self, batch: Batch, step: int, share: slice) -> Tensor:
        """This rank's images, augmented with its share of the global batch's random numbers."""
        device, config = self.world.device, self.config
        image = batch.image_B1HW.to(device)
        generator = np.random.default_rng([self.world.seed, _AUGMENT, step])
        altered = draw_alterations(config.augmentation, config.batch_size, image.shape[-1], generator)
        return augment(image, altered.take(share).to(device), config.augmentation)

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()


def head_losses(
    config: ClassifierConfig, logits: dict[str, Tensor], targets: Targets, share: slice
) -> dict[str, Tensor]:
    """This share's part of each head's weighted mean over the global batch; the parts of all shares add up to it."""
    losses = {}
    for name, logits_BV in logits.items():
        target_B = _target(config, targets, name)
        weight = config.label_weight if name == LABEL else config.pathology_weight
        if name not in (LABEL, PATHOLOGY):
            weight = config.descriptor_weight / len(config.descriptors)
        mine_B = torch.from_numpy(target_B[share]).to(logits_BV.device)
        losses[name] = weight * head_loss(logits_BV, mine_B, int((target_B != UNKNOWN).sum()))
    return losses


def _target(config: ClassifierConfig, targets: Targets, head: str) -> np.ndarray:
    if head == LABEL:
        return targets.label_N
    if head == PATHOLOGY:
        return targets.pathology_N
    return targets.descriptors_NA[:, config.descriptors.index(head)]


def _right(logit_B1: Tensor, targets: Targets, share: slice) -> Tensor:
    """This share's part of how often the label is right, at a threshold of one half."""
    target_B = torch.from_numpy(targets.label_N[share]).to(logit_B1.device)
    right_B = ((logit_B1[:, 0] > 0) == (target_B == 1)) & (target_B != UNKNOWN)
    return right_B.sum() / max(1, int((targets.label_N != UNKNOWN).sum()))


def start_classifier(config: ClassifierConfig, start_from: Path | None) -> Classifier:
    """A fresh classifier, or one that continues a trained one; the head of the label is fresh in any case.

    Raises CheckpointError where the two networks are not of one shape.
    """
    network = make_classifier(config)
    if start_from is None:
        return network
    own, found = network.state_dict(), load_weights(start_from)
    shared = {name: value for name, value in found.items() if name in own and not name.startswith(f"heads.{LABEL}.")}
    missing = [name for name in own if not name.startswith("heads.") and name not in shared]
    unlike = [name for name, value in shared.items() if value.shape != own[name].shape]
    if missing or unlike:
        raise CheckpointError(
            f"{start_from} is a classifier of another shape: {(missing + unlike)[0]} does not fit\n"
            "give both stages the same network"
        )
    network.load_state_dict({**own, **shared})
    return network


def read_classifier(folder: Path, device: torch.device) -> Classifier:
    """The trained classifier of a stage's folder."""
    config = ClassifierStage.model_validate(load_stage_config(folder))
    network = make_classifier(config)
    network.load_state_dict(load_weights(folder))
    return network.to(device).eval()


@torch.no_grad()
def predict(network: Classifier, pixels_NHW: np.ndarray, at_once: int = _AT_ONCE) -> dict[str, np.ndarray]:
    """The logits of each head: [N] of the label, [N, V] of the others."""
    pieces = [network(image) for image in _over(network, pixels_NHW, at_once)]
    together = {name: torch.cat([piece[name].cpu() for piece in pieces]).double().numpy() for name in network.heads}
    return {name: value[:, 0] if value.shape[1] == 1 else value for name, value in together.items()}


@torch.no_grad()
def features(network: Classifier, pixels_NHW: np.ndarray, at_once: int = _AT_ONCE) -> np.ndarray:
    """What the heads read of each image, [N, F]: an embedding for distances between images and between sets of them."""
    pieces = [network.features(image).cpu() for image in _over(network, pixels_NHW, at_once)]
    return torch.cat(pieces).double().numpy()


def _over(network: Classifier, pixels_NHW: np.ndarray, at_once: int) -> Iterator[Tensor]:
    """The images in pieces, where the network is."""
    device = next(network.parameters()).device
    for start in range(0, len(pixels_NHW), at_once):
        yield torch.from_numpy(as_network_input(pixels_NHW[start : start + at_once])).to(device)
