"""What the generator and its images are worth: measured in parts, compared, gated and shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.busgen import figures, samples, tables
from models.busgen.config import EvaluationStage
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.findings import Found, make_metrics
from models.busgen.images.dataset import Images
from models.busgen.measurement import (
    PROBES,
    explain_diagnosis,
    measure_distances,
    measure_losses,
    search_for_copies,
)
from models.busgen.privacy.copies import NEAREST
from models.busgen.study import Draw, test_rows
from models.common.contract import World
from models.common.report import Gate, Report

_PARTS = ("distances", "losses", "privacy", "explained", "classifier")  # longest first


def shards(config: EvaluationStage) -> list[dict[str, Any]]:
    """Each thing that is measured."""
    return [{"part": part} for part in _PARTS]


def process(config: EvaluationStage, shard: dict[str, Any], world: World) -> Any:
    match shard["part"]:
        case "distances":
            return measure_distances(config, world)
        case "losses":
            return measure_losses(config, world)
        case "privacy":
            return search_for_copies(config, world)
        case "explained":
            return explain_diagnosis(config, world)
        case _:
            return world.seed, _classifier_logits(config, world)


def _classifier_logits(config: EvaluationStage, world: World) -> np.ndarray:
    """Of the published classifier, for the test images."""
    task, images = config.generation.adaptation, Images.read(world.inputs["images"])
    rows = test_rows(images, task.positive, task.negative)
    network = read_classifier(world.inputs["classifier"], world.device)
    return predict(network, np.asarray(images.pixels_NHW[rows]))["label"]


def collect(config: EvaluationStage, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
    """Brings the parts together in a report."""
    distances, losses, privacy, explained, (seed, classifier_N) = parts
    task, images = config.generation.adaptation, Images.read(inputs["images"])
    found = Found(
        config=config,
        seed=seed,
        images=images,
        generated=Images.read(inputs["generated"]),
        test_rows_N=test_rows(images, task.positive, task.negative),
        classifier_N=classifier_N,
        draws=[Draw.read(inputs[f"draw_{draw}"]) for draw in range(config.study.draws)],
        losses=losses,
        distances=distances,
        privacy=privacy,
        explained=explained,
    )
    make_report(found).write(folder)


def make_report(found: Found) -> Report:
    task = found.config.generation.adaptation
    return Report(
        workload="busgen",
        title=f"BUSGen: {task.positive} against {task.negative}, of which {task.shots or 'all'} images are known",
        summary=_summary(found),
        metrics=make_metrics(found),
        gates=_gates(found),
        headline=tables.headline(found),
        figures=tuple(figures.all_figures(found)),
        tables=tuple(tables.all_tables(found)),
        samples=tuple(samples.make_samples(found)),
    )


def _summary(found: Found) -> str:
    sources = {case.source for case in found.images.cases}
    told = "Phantom results are not clinical. " if "phantom" in sources else "These results are not clinical. "
    gain, real, both = found.gain("both", "real"), found.over_draws("real"), found.over_draws("both")
    pixels, task = found.privacy.by_pixels, found.config.generation.adaptation
    return (
        f"{told}Over {len(found.draws)} draws of {task.shots or 'all'} {task.positive} lesions, "
        f"{found.draws[0].generated} generated images beside the few real ones bring the mean AUC from "
        f"{real.value:.3f} to {both.value:.3f}: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]. "
        f"The adapted generator's FD-{PROBES} to held-out images is {found.distance_share:.0%} of the unadapted one's; "
        f"{pixels.copied.found} of {pixels.copied.of} generated images are copies, and the detector finds "
        f"{pixels.planted_found} of {pixels.planted} planted ones."
    )


def _gates(found: Found) -> tuple[Gate, ...]:
    gates, pixels = found.config, found.privacy.by_pixels
    return (
        Gate(
            name="mean AUC, few real + generated above few real",
            value=found.gain("both", "real").value,
            at_least=gates.least_gain,
        ),
        Gate(name="gap to the optimal loss, of an untrained network's", value=found.losses.gap, at_most=gates.most_gap),
        Gate(
            name=f"FD-{PROBES} to held-out images, of the unadapted generator's",
            value=found.distance_share,
            at_most=gates.most_distance,
        ),
        Gate(
            name="planted copies found",
            value=pixels.planted_found / max(1, pixels.planted),
            at_least=gates.least_planted_found,
        ),
        Gate(name="generated images that are copies", value=pixels.copied.value, at_most=gates.most_copies),
        Gate(
            name=f"distance to the training of the nearest {NEAREST:.0%}, of held-out images'",
            value=pixels.distance_of_nearest,
            at_least=gates.least_distance,
        ),
        *_memory_gate(found),
    )


def _memory_gate(found: Found) -> tuple[Gate, ...]:
    """One, or none where the meter cannot tell."""
    meter, bound = found.losses.memorisation, found.config.memorisation
    if not meter.tells:
        return ()
    name = f"share of the training that is remembered, less {bound.errors:g} standard errors"
    return (Gate(name=name, value=meter.surely(bound.errors), at_most=bound.most),)
