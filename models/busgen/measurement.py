"""What is measured of a finished run: losses, distances, what is given away, what is explained."""

# N images   S levels   F features

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.busgen.batches import training_rows
from models.busgen.config import EvaluationStage
from models.busgen.diagnosis.classifier import features, predict, read_classifier
from models.busgen.diffusion.denoiser import Denoiser
from models.busgen.diffusion.generator import read_generator
from models.busgen.generation import images_of, make_maker, shards
from models.busgen.images.dataset import Images, as_network_input
from models.busgen.images.descriptors import NOT_KNOWN, numbers_of
from models.busgen.networks.conditions import conditions_of
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.optimal.curve import CONDITIONAL, UNCONDITIONAL, OptimalCurve
from models.busgen.optimal.losses import level_losses
from models.busgen.optimal.memorisation import Memorisation, memorisation
from models.busgen.optimal.schedule import untrained_loss
from models.busgen.privacy.copies import Privacy, measure_privacy
from models.busgen.privacy.membership import Membership, infer_membership
from models.busgen.privacy.neighbours import patient_names
from models.busgen.statistics.classical import Classical
from models.busgen.statistics.comparison import Comparison, compare
from models.busgen.statistics.estimate import Array
from models.busgen.statistics.extractors import Encoder, Extractor
from models.busgen.statistics.random_network import RandomNetwork
from models.busgen.statistics_config import ClassicalConfig, RandomNetworkConfig
from models.busgen.study import test_rows
from models.busgen.tailor.combination import Explanation, fit_combination
from models.common.contract import World
from models.common.errors import DataError

PROBES = "probes"  # the extractor whose distance is gated
_SHOWN = 24  # of the unadapted generator's images
_AT_ONCE = 256  # images of a forward pass
_CHOICE, _NOISE, _HALVES = 60, 61, 62  # what random streams are for


@dataclass(frozen=True)
class Losses:
    """Of the pretrained generator, told what the optimal loss is: mean losses of the clean image, and the optimal ones.

    untrained_S: of a network that has learnt nothing. errors_S: one standard error of train_S.
    """

    levels_S: Array
    train_S: Array
    errors_S: Array
    held_out_S: Array
    optimal_S: Array
    untrained_S: Array
    memorisation: Memorisation
    membership: Membership

    @property
    def gap(self) -> float:
        """What is left of the gap to the optimal loss that an untrained network has, each level in units of its loss.

        sum_s (J_s - J*_s) / U_s  /  sum_s (U_s - J*_s) / U_s
        """
        left_S, room_S = ((loss_S - self.optimal_S) / self.untrained_S for loss_S in (self.train_S, self.untrained_S))
        return float(left_S.sum() / room_S.sum())


def measure_losses(config: EvaluationStage, world: World) -> Losses:
    """Losses on as many images of the training as of the validation, with the same noises and the same classes."""
    generator = config.generation.generator
    images = Images.read(world.inputs["images"])
    curve = OptimalCurve.read(
        world.inputs["optimal_loss"], UNCONDITIONAL if config.condition == "none" else CONDITIONAL
    )
    random = np.random.default_rng([world.seed, _CHOICE])
    train, held_out = (images.take(rows) for rows in matched_rows(images, generator.conditions, config.images, random))

    denoiser = read_generator(generator, world.inputs["pretraining"], None, world.device)
    levels_S = np.geomspace(curve.levels_S[0], curve.levels_S[-1], config.levels)
    train_NS, held_out_NS = (_losses(config, denoiser, part, levels_S, world) for part in (train, held_out))
    return Losses(
        levels_S=levels_S,
        train_S=train_NS.mean(0),
        errors_S=train_NS.std(0, ddof=1) / np.sqrt(len(train)),
        held_out_S=held_out_NS.mean(0),
        optimal_S=curve.at(levels_S),
        untrained_S=untrained_loss(levels_S, curve),
        memorisation=memorisation(train_NS, held_out_NS, levels_S, curve),
        membership=infer_membership(
            _relative(train_NS, held_out_NS),
            _relative(held_out_NS, held_out_NS),
            patient_names(train),
            patient_names(held_out),
        ),
    )


def matched_rows(
    images: Images, conditions: ConditionsConfig, most: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """As many rows of the training as of the validation, in either by the training's share of each class.

    As many as the validation has of the class that it is shortest of, and `most` in all.
    """
    by_class = [
        tuple(
            images.rows(split=split, labels=[name], classes=conditions.classes) for split in ("pretrain", "validation")
        )
        for name in conditions.classes
    ]
    by_class = [pair for pair in by_class if all(len(rows) for rows in pair)]
    total = sum(len(train) for train, _ in by_class)
    if not total:
        raise DataError("no class is in both splits, 'pretrain' and 'validation'\nhold out patients of each class")
    scale = min(most / total, *(len(held_out) / len(train) for train, held_out in by_class))
    drawn = [
        [random.permutation(rows)[: max(1, int(scale * len(pair[0]) + 1e-9))] for rows in pair] for pair in by_class
    ]
    train, held_out = (np.concatenate(rows) for rows in zip(*drawn, strict=True))
    return train, held_out


def _losses(config: EvaluationStage, denoiser: Denoiser, images: Images, levels_S: Array, world: World) -> Array:
    """[N, S]. Of an image no more is told than the optimal loss is restricted to."""
    generator = config.generation.generator
    told = conditions_of(images, generator.conditions)
    left_open = config.condition == "none", config.condition != "class_and_device", True, True
    conditions = told.without(*(torch.full((len(images),), is_open) for is_open in left_open)).to(world.device)
    pixels = torch.from_numpy(as_network_input(images.pixels_NHW)).to(world.device)
    return level_losses(
        denoiser, pixels.expand(-1, generator.channels, -1, -1), conditions, levels_S.tolist(), world.seed + _NOISE
    )


def _relative(losses_NS: Array, by_NS: Array) -> Array:
    """The mean over levels of the losses, each level in units of what it is on average: [N]."""
    return (losses_NS / by_NS.mean(0)).mean(1)


@dataclass(frozen=True)
class Distances:
    """Of the adapted generator's images and of the unadapted one's, each from held-out real ones, by extractor."""

    adapted: dict[str, Comparison]
    unadapted: dict[str, Comparison]
    unadapted_shown: Images  # a few of its images


def measure_distances(config: EvaluationStage, world: World) -> Distances:
    """The same wishes and noises for both generators; distances are from the test's real images."""
    generation = config.generation
    task = generation.adaptation
    images = Images.read(world.inputs["images"])
    real = images.take(test_rows(images, task.positive, task.negative))
    adapted = Images.read(world.inputs["generated"])
    count = min(config.images, len(adapted))
    unadapted = unadapted_images(config, world, count)
    probes = read_classifier(world.inputs["probes"], world.device)
    extractors: list[Extractor] = [
        Encoder(PROBES, lambda pixels_NHW: features(probes, pixels_NHW), images_at_once=_AT_ONCE),
        Classical(ClassicalConfig(patch=max(2, min(8, images.side // 4)))),
        RandomNetwork(RandomNetworkConfig(), world.device),
    ]

    real_features = {one.name: one.features(real.pixels_NHW, real.masks_NHW) for one in extractors}

    def compared(pixels_NHW: np.ndarray, masks_NHW: np.ndarray) -> dict[str, Comparison]:
        return {
            extractor.name: compare(
                extractor.name,
                real_features[extractor.name],
                extractor.features(pixels_NHW, masks_NHW),
                config.distances,
                np.random.default_rng([world.seed, _HALVES]),
                patients_N=patient_names(real),
            )
            for extractor in extractors
        }

    return Distances(
        adapted=compared(adapted.pixels_NHW[:count], adapted.masks_NHW[:count]),
        unadapted=compared(unadapted.pixels_NHW, unadapted.masks_NHW),
        unadapted_shown=unadapted.take(np.arange(min(_SHOWN, len(unadapted)))),
    )


def unadapted_images(config: EvaluationStage, world: World, count: int) -> Images:
    """The first images that the generator makes of the same wishes as it was pretrained."""
    generation = config.generation
    maker = make_maker(generation, world, world.inputs["pretraining"], None)
    parts = [maker.make(**shard) for shard in shards(generation) if shard["first"] < count]
    made = images_of(generation, parts)
    return made.take(np.arange(min(count, len(made))))


def search_for_copies(config: EvaluationStage, world: World) -> Privacy:
    """Among the generated images; of all real ones that base and adapter learnt from."""
    task = config.generation.adaptation
    images = Images.read(world.inputs["images"])
    held_out = images.take(np.concatenate([images.rows(split=split) for split in ("validation", "test")]))
    probes = read_classifier(world.inputs["probes"], world.device)
    return measure_privacy(
        images.take(training_rows(images, task)),
        held_out,
        Images.read(world.inputs["generated"]),
        config.generation.privacy,
        world.seed,
        world.device,
        embed=lambda pixels_NHW: features(probes, pixels_NHW),
    )


@dataclass(frozen=True)
class Explained:
    """The diagnosis by descriptors: its logits on the test, and what moved them.

    weights: of each descriptor's value in the regression.
    """

    logits: list[float]
    explanations: list[Explanation]
    weights: dict[str, float]
    probes_right: dict[str, float]  # share of test images whose value of a descriptor the probes name


def explain_diagnosis(config: EvaluationStage, world: World) -> Explained:
    """Fitted on validation images, of what pretraining knew; applied to the test, whose labels it does not see."""
    task, images = config.generation.adaptation, Images.read(world.inputs["images"])
    probes = read_classifier(world.inputs["probes"], world.device)
    heads = tuple(name for name in config.generation.generator.conditions.descriptors if name in probes.heads)
    positive, negative = (task.parents.get(name, name) for name in task.labels)
    fitted = images.take(images.rows(split="validation", labels=(positive, negative), classes=(positive, negative)))
    malignant_N = fitted.are(positive, (positive, negative))
    combination = fit_combination(predict(probes, fitted.pixels_NHW), malignant_N, heads, config.combination)
    test = images.take(test_rows(images, task.positive, task.negative))
    found = predict(probes, test.pixels_NHW)
    return Explained(
        logits=combination.logits(found).tolist(),
        explanations=combination.explain(found),
        weights={
            f"{column.attribute} {column.value}".strip(): float(weight)
            for column, weight in zip(combination.columns, combination.weights_P, strict=True)
        },
        probes_right={name: _right(found[name], name, test) for name in heads},
    )


def _right(logits_NV: np.ndarray, descriptor: str, images: Images) -> float:
    value_N = np.array([numbers_of(case.descriptors, [descriptor])[0] for case in images.cases])
    known_N = value_N != NOT_KNOWN
    return float((logits_NV.argmax(1) + 1 == value_N)[known_N].mean()) if known_N.any() else float("nan")
