"""The stage: the optimal loss of the images to train with, level by level, in as many slots as there are."""

# N images   H height   W width   D numbers of an image   S levels

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.busgen.images.cases import Case
from models.busgen.images.dataset import Images, as_network_input
from models.busgen.optimal.bounds import Spread, spread_of, upper_bound, violations, wiener_loss
from models.busgen.optimal.calibration import Calibration, calibrate_c
from models.busgen.optimal.curve import CONDITIONAL, OPTIMAL_LOSS_FILE, TRAINING, UNCONDITIONAL, critical_level, mixed
from models.busgen.optimal.estimators import Estimate, Sampling, estimate
from models.busgen.optimal.posterior import Array
from models.busgen.optimal_config import OptimalLossStage
from models.common.contract import World
from models.common.errors import DataError

SPLIT = "pretrain"


@dataclass(frozen=True)
class StoredImages:
    """Images of a folder as the estimators read them: the rows asked for, as the network sees them.

    With flips, number N + n is the mirror image of number n.
    """

    pixels_NHW: NDArray[np.uint8]
    rows: NDArray[np.int64]
    flips: bool
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows) * (2 if self.flips else 1)

    def __getitem__(self, numbers: NDArray[np.int64], /) -> Tensor:
        pixels = np.array(self.pixels_NHW[self.rows[numbers % len(self.rows)]])
        mirrored = numbers >= len(self.rows)
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        return torch.from_numpy(as_network_input(pixels)).flatten(1).to(self.device)

    @property
    def side(self) -> int:
        """Pixels of an edge."""
        return self.pixels_NHW.shape[1]


def levels_of(config: OptimalLossStage) -> Array:
    """The grid of levels, even in log s."""
    return np.geomspace(config.s_min, config.s_max, config.levels)


def shards(config: OptimalLossStage) -> list[dict[str, Any]]:
    """The calibration first, as it is the longest; then groups of levels, and the second moments."""
    calibration = [{"kind": "calibration"}] if config.calibration_images else []
    starts = range(0, config.levels, config.levels_at_once)
    groups = [
        {"kind": "levels", "from": start, "to": min(start + config.levels_at_once, config.levels)} for start in starts
    ]
    return [*calibration, *groups, {"kind": "spread"}]


def process(config: OptimalLossStage, shard: dict[str, Any], world: World) -> Any:
    """Of one shard: estimates by curve for a group of levels, or second moments by curve, or the calibration."""
    samples = _samples(config, world)
    if shard["kind"] == "spread":
        return {name: _spread(config, name, images) for name, images in samples.items()}
    calibration = _calibration(config, samples[UNCONDITIONAL], world) if _calibrates(config, shard) else None
    if shard["kind"] == "calibration":
        return calibration
    multiple = config.c_multiple if calibration is None else calibration.best
    assert multiple is not None, "the config asks for a calibration where there is no multiple"
    return {
        name: estimate(
            images,
            list(levels_of(config)[shard["from"] : shard["to"]]),
            Sampling(config.draws, world.seed, config.memory_gib),
            estimator=config.estimator,
            subset=config.subset,
            subset_count=config.subset_count,
            multiple=multiple,
        )
        for name, images in samples.items()
    }


def _calibrates(config: OptimalLossStage, shard: dict[str, Any]) -> bool:
    """Shards do not wait for each other: where levels need the calibration, each group makes it anew, and the same."""
    return shard["kind"] == "calibration" or (config.estimator == "cdol" and config.c_multiple is None)


def _calibration(config: OptimalLossStage, images: StoredImages, world: World) -> Calibration:
    return calibrate_c(
        images,
        list(levels_of(config)),
        Sampling(config.draws, world.seed, config.memory_gib),
        subset=min(config.subset, max(2, len(images) // 2)),  # as there is nothing to correct where all are in it
        subset_count=config.subset_count,
        images=config.calibration_images,
    )


def _spread(config: OptimalLossStage, name: str, images: StoredImages) -> Spread:
    at_once = max(1, int(config.memory_gib * 2**30) // (64 * images.side**2))
    return spread_of(images, at_once=at_once, most_axes=config.spectrum_images if name == UNCONDITIONAL else 0)


def _samples(config: OptimalLossStage, world: World) -> dict[str, StoredImages]:
    """All images to train with, and those of each condition, by the curve's name."""
    images = Images.read(world.inputs["images"])
    rows = images.rows(split=SPLIT)
    if len(rows) < 2:
        raise DataError(f"{world.inputs['images']} has {len(rows)} images of split '{SPLIT}'\nfits: at least 2")
    found = StoredImages(images.pixels_NHW, rows, config.flips, world.device)
    groups = _by_condition(config, images.cases, rows)
    return {UNCONDITIONAL: found} | {name: replace(found, rows=among) for name, among in groups.items()}


def _by_condition(
    config: OptimalLossStage, cases: Sequence[Case], rows: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """The rows of each condition that occurs, by its name.

    Where a lesion lies is no condition here: it makes every image one of a kind, and its optimal loss zero.
    """
    if config.condition == "none":
        return {}
    names = []
    for row in rows:
        case = cases[row]
        label = case.label(config.classes)
        if label not in config.classes:
            raise DataError(
                f"{case.name}: its class is '{label}'\nfits: {', '.join(config.classes)}; list it in classes"
            )
        names.append(label if config.condition == "class" else f"{label}, {case.device or 'unknown device'}")
    return {name: rows[np.array(names) == name] for name in sorted(set(names))}


def collect(config: OptimalLossStage, parts: list[Any], folder: Path) -> None:
    """Writes the curves with their errors, the bounds, and what the estimates break of them."""
    by_kind: dict[str, list[Any]] = {"calibration": [], "levels": [], "spread": []}
    for shard, part in zip(shards(config), parts, strict=True):
        by_kind[shard["kind"]].append(part)
    spreads: dict[str, Spread] = by_kind["spread"][0]
    estimates = {name: Estimate.joined([part[name] for part in by_kind["levels"]]) for name in spreads}
    levels, whole = levels_of(config), spreads[UNCONDITIONAL]
    curves = {
        name: _curve(config, found.j_star_S, found.error_S, spreads[name].total_variance)
        | {"images": spreads[name].images, **found.as_json()}
        for name, found in estimates.items()
    }
    curves |= _combined(config, estimates, spreads)
    calibration = by_kind["calibration"]
    result = {
        "levels": levels.tolist(),
        "images": whole.images,
        "pixels": whole.pixels,
        "draws": config.draws,
        "estimator": config.estimator,
        "subset": None if config.estimator == "exact" else min(config.subset, whole.images),
        "c_multiple": config.c_multiple if config.estimator == "cdol" else None,
        "calibration": calibration[0].as_json() if calibration else None,
        "curves": curves,
        "upper_bound": upper_bound(whole, levels).tolist(),
        "linear": None if whole.variances_I is None else wiener_loss(whole.variances_I, levels).tolist(),
        "violations": violations(levels, estimates[UNCONDITIONAL].j_star_S, estimates[UNCONDITIONAL].error_S, whole),
    }
    (folder / OPTIMAL_LOSS_FILE).write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def _combined(
    config: OptimalLossStage, estimates: Mapping[str, Estimate], spreads: Mapping[str, Spread]
) -> dict[str, Any]:
    """The conditional curve, each condition by its share of the images, and what a training with dropout meets."""
    whole = estimates[UNCONDITIONAL]
    everything = spreads[UNCONDITIONAL]
    conditions = [name for name in estimates if name != UNCONDITIONAL]
    if not conditions:
        return {TRAINING: _curve(config, whole.j_star_S, whole.error_S, everything.total_variance)}
    shares = {name: spreads[name].images / everything.images for name in conditions}
    j_star = np.sum([shares[name] * estimates[name].j_star_S for name in conditions], axis=0)
    error = np.sqrt(np.sum([np.square(shares[name] * estimates[name].error_S) for name in conditions], axis=0))
    variance = sum(shares[name] * spreads[name].total_variance for name in conditions)
    p = config.condition_dropout
    return {
        CONDITIONAL: _curve(config, j_star, error, variance),
        TRAINING: _curve(
            config,
            mixed(j_star, whole.j_star_S, p),
            mixed(error, whole.error_S, p),  # the two share draws and images: taken to err together
            float(mixed(variance, everything.total_variance, p)),
        ),
    }


def _curve(config: OptimalLossStage, j_star_S: Array, error_S: Array, total_variance: float) -> dict[str, Any]:
    """A curve as `OptimalCurve` reads it."""
    return {
        "j_star": j_star_S.tolist(),
        "error": error_S.tolist(),
        "total_variance": total_variance,
        "critical": critical_level(levels_of(config), j_star_S, total_variance, config.critical_share),
    }
