"""What an evaluation could have found, made up but for its search for copies, its meters and its regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.busgen.arms import ArmName
from models.busgen.batches import few_shot_rows
from models.busgen.config import EvaluationStage, GenerationStage, StudyConfig
from models.busgen.diagnosis.rehearsal import made_up_images
from models.busgen.diffusion_config import AdaptationStage, GeneratorConfig
from models.busgen.findings import Found
from models.busgen.images.cases import Case
from models.busgen.images.dataset import Images
from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.measurement import Distances, Explained, Losses
from models.busgen.network_config import DiTConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.optimal.curve import OptimalCurve
from models.busgen.optimal.memorisation import memorisation
from models.busgen.privacy.copies import Privacy, measure_privacy
from models.busgen.privacy.membership import infer_membership
from models.busgen.privacy.neighbours import patient_names
from models.busgen.privacy_config import PlantConfig, PrivacyConfig
from models.busgen.statistics.comparison import Comparison, compare
from models.busgen.statistics_config import DistancesConfig, IntervalConfig
from models.busgen.study import Draw
from models.busgen.tailor.combination import fit_combination
from models.busgen.tailor_config import CombinationConfig

POSITIVE, NEGATIVE = "dcis", "benign"
SEED, SHOTS = 7, 4
QUARANTINED = [{"source": "made up", "file": "broken.png", "reason": "empty image: every pixel is 0"}]
_IMAGES = {"pretrain": 30, "validation": 20, "few_shot": 12, "test": 40}
_GENERATED = 24
_WEIGHED = ("margin", "calcifications")


def made_up_found(
    *,
    side: int = 16,
    draws: int = 3,
    arms: tuple[ArmName, ...] = ("real", "generated", "both"),
    sizes: tuple[int, ...] = (12,),
    devices: Sequence[str] = ("one", "two"),
    descriptors: bool = True,
    features: bool = True,
    quarantined: Sequence[Mapping[str, str]] = QUARANTINED,
    optimal_share: float = 0.6,
    copied: int = 0,
    negative_shots: int | None = SHOTS,
) -> Found:
    """optimal_share: of the untrained loss. copied: generated images that are those of the training, mirrored."""
    config = _config(side, draws, arms, sizes, devices, negative_shots)
    images = _images(side, devices, quarantined, descriptors=descriptors)
    test_rows_N = images.rows(split="test", labels=(POSITIVE, NEGATIVE), classes=(POSITIVE, NEGATIVE))
    blank = _found(config, images, images, test_rows_N)
    train = images.take(blank.training_rows_R)
    few = few_shot_rows(images, config.generation.adaptation)
    assert train.cases == images.take(images.rows(split="pretrain")).cases + images.take(few).cases
    generated = _generated(side, devices, train, copied)
    return replace(
        blank,
        generated=generated,
        classifier_N=_logits(blank.positive_N, 1.4, SEED),
        draws=[_draw(config, draw, blank.positive_N) for draw in range(draws)],
        losses=_losses(images, optimal_share),
        distances=_distances(images.take(test_rows_N), generated),
        privacy=_privacy(config, train, images.take(test_rows_N), generated, features=features),
        explained=_explained(images.take(test_rows_N), descriptors=descriptors),
    )


def _config(
    side: int,
    draws: int,
    arms: tuple[ArmName, ...],
    sizes: tuple[int, ...],
    devices: Sequence[str],
    negative_shots: int | None,
) -> EvaluationStage:
    conditions = ConditionsConfig(classes=("normal", "benign", "malignant", "dcis"), devices=tuple(devices))
    generator = GeneratorConfig(
        network=DiTConfig(patch=4, width=16, layers=1, heads=2), conditions=conditions, side=side
    )
    generation = GenerationStage(
        generator=generator,
        adaptation=AdaptationStage(generator=generator, shots=SHOTS, negative_shots=negative_shots),
        privacy=PrivacyConfig(plant=PlantConfig(copies=5, noise=1.0)),
        images=_GENERATED,
    )
    return EvaluationStage(
        generation=generation,
        study=StudyConfig(draws=draws, arms=arms, sizes=sizes),
        condition="class",
        intervals=IntervalConfig(resamples=100, reliability_bins=5),
        distances=DistancesConfig(repeats=3, neighbours=3, kernel_blocks=2, extrapolation_sizes=3),
    )


def _found(config: EvaluationStage, images: Images, generated: Images, test_rows_N: np.ndarray) -> Found:
    """Without what is measured."""
    nothing: Any = None
    return Found(config, SEED, images, generated, test_rows_N, np.zeros(0), [], nothing, nothing, nothing, nothing)


def _images(
    side: int, devices: Sequence[str], quarantined: Sequence[Mapping[str, str]], *, descriptors: bool
) -> Images:
    """Every split with its own patients; pretraining and validation have no DCIS."""
    parts = []
    for place, (split, count) in enumerate(_IMAGES.items()):
        positive = "malignant" if split in ("pretrain", "validation") else POSITIVE
        part = made_up_images(count, side, positive, NEGATIVE, split, SEED + place)
        cases = [replace(case, patient=f"{split} {case.patient}") for case in part.cases]
        cases = [case if descriptors else replace(case, descriptors={}) for case in cases]
        parts.append(replace(part, cases=tuple(_with_device(case, devices, n // 2) for n, case in enumerate(cases))))
    audit = {
        "quarantined": [dict(one) for one in quarantined],
        "copies": {"exact": [["a", "b"]], "near": [], "alike_frames": 3},
        "flags": {"calipers": 2},
    }
    return Images(*_joined(parts), audit)


def _joined(parts: Sequence[Images]) -> tuple[np.ndarray, np.ndarray, tuple[Case, ...]]:
    return (
        np.concatenate([part.pixels_NHW for part in parts]),
        np.concatenate([part.masks_NHW for part in parts]),
        tuple(case for part in parts for case in part.cases),
    )


def _with_device(case: Case, devices: Sequence[str], number: int) -> Case:
    return replace(case, device=devices[number % len(devices)]) if devices else case


def _generated(side: int, devices: Sequence[str], train: Images, copied: int) -> Images:
    made = made_up_images(_GENERATED, side, POSITIVE, NEGATIVE, "", SEED + 50)
    pixels = made.pixels_NHW.copy()
    pixels[:copied] = train.pixels_NHW[:copied, :, ::-1]
    cases = (
        replace(_with_device(case, devices, n // 2), source="generated", patient=f"generated {n}")
        for n, case in enumerate(made.cases)
    )
    return Images(pixels, made.masks_NHW, tuple(cases), {"dropped": 2})


def _logits(positive_N: np.ndarray, apart: float, seed: int) -> np.ndarray:
    random = np.random.default_rng([SEED, seed])
    return random.normal(size=len(positive_N)) + apart * (positive_N - 0.5)


def _draw(config: EvaluationStage, draw: int, positive_N: np.ndarray) -> Draw:
    apart = {"real": 0.8, "generated": 1.0, "both": 1.5, "transfer": 1.2, "transfer_both": 1.6, "many_real": 2.2}
    logits = {
        arm: _logits(positive_N, apart[arm], 100 * draw + place).tolist() for place, arm in enumerate(config.study.arms)
    }
    sizes = {size: _logits(positive_N, 1.1, 100 * draw + 50 + size).tolist() for size in config.study.sizes}
    return Draw(draw, logits, sizes | {_GENERATED: logits["both"]}, _GENERATED, dropped=draw)


def _losses(images: Images, optimal_share: float) -> Losses:
    random, pixels, variance = np.random.default_rng(SEED), images.side**2, 0.2
    levels_S = np.geomspace(0.02, 50.0, 9)
    untrained_S = pixels * variance * levels_S**2 / (variance + levels_S**2)
    grid_S = np.geomspace(0.01, 80.0, 30)
    rising_S = pixels * variance * grid_S**2 / (variance + grid_S**2) * grid_S**2 / (0.1 + grid_S**2)
    optimal_S = optimal_share * rising_S
    curve = OptimalCurve(grid_S, optimal_S, 0.01 * optimal_S, pixels * variance, pixels, 0.1)
    train, held_out = (images.take(images.rows(split=split)[:16]) for split in ("pretrain", "validation"))
    train_NS, held_out_NS = (
        curve.at(levels_S) + share * (untrained_S - curve.at(levels_S)) * random.uniform(0.8, 1.2, (16, 9))
        for share in (0.4, 0.5)
    )
    patients = patient_names(train), patient_names(held_out)
    return Losses(
        levels_S=levels_S,
        train_S=train_NS.mean(0),
        errors_S=train_NS.std(0, ddof=1) / 4,
        held_out_S=held_out_NS.mean(0),
        optimal_S=curve.at(levels_S),
        untrained_S=untrained_S,
        memorisation=memorisation(train_NS, held_out_NS, levels_S, curve),
        membership=infer_membership(train_NS.mean(1), held_out_NS.mean(1), *patients),
    )


def _distances(real: Images, generated: Images) -> Distances:
    def compared(away: float) -> dict[str, Comparison]:
        random = np.random.default_rng(SEED)
        config = DistancesConfig(repeats=3, neighbours=3, kernel_blocks=2, extrapolation_sizes=3)
        return {
            name: compare(name, random.normal(size=(40, 3)), random.normal(away, 1.0, (24, 3)), config, random)
            for name in ("probes", "classical", "random")
        }

    return Distances(compared(0.5), compared(1.5), generated.take(np.arange(len(generated))[::-1]))


def _privacy(config: EvaluationStage, train: Images, held_out: Images, generated: Images, *, features: bool) -> Privacy:
    def embed(pixels_NHW: np.ndarray) -> np.ndarray:
        return pixels_NHW.reshape(len(pixels_NHW), -1)[:, ::17].astype(np.float64)

    settings = config.generation.privacy
    return measure_privacy(train, held_out, generated, settings, SEED, torch.device("cpu"), embed if features else None)


def _explained(test: Images, *, descriptors: bool) -> Explained:
    """A regression on made-up probes, which know the label well and each descriptor a little."""
    random = np.random.default_rng(SEED)
    positive_N = np.array([case.subtype == POSITIVE for case in test.cases])
    heads = _WEIGHED if descriptors else ()
    found = {"label": _logits(positive_N, 1.0, 3)}
    for name in heads:
        found[name] = random.normal(size=(len(test), len(DESCRIPTORS[name])))
        found[name][positive_N, 1] += 1.0
    combination = fit_combination(found, positive_N, heads, CombinationConfig())
    columns = zip(combination.columns, combination.weights_P, strict=True)
    return Explained(
        logits=combination.logits(found).tolist(),
        explanations=combination.explain(found),
        weights={f"{column.attribute} {column.value}".strip(): float(weight) for column, weight in columns},
        probes_right=dict.fromkeys(heads, 0.75),
    )
