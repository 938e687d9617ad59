"""Where a batch comes from: which images, which of them mirrored, what is left open, how much noise. Ranks draw alike.

All of it depends on (seed, stream, step) and a row's place in the global batch alone.
"""

# B rows of the global batch, or of a piece of it   C channels   H height   W width

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.busgen.diffusion.levels import stratified_uniforms
from models.busgen.diffusion.noise import noise_of
from models.busgen.diffusion_config import DropoutConfig, GeneratorConfig
from models.busgen.few_shots import FewShots
from models.busgen.images.dataset import Images, as_network_input
from models.busgen.images.splits import patient_of
from models.busgen.networks.conditions import Conditions, conditions_of
from models.common.errors import DataError
from models.common.rows import Rows, rows_at

# What a random stream is for, so that no two stages share one, nor two uses within a stage.
PRETRAINING, ADAPTATION = 20, 21
_ROWS, _CHOICES, _NOISE = 0, 1, 2
_FEW_SHOT = 22


@dataclass(frozen=True)
class Choices:
    """What chance decides for a global batch beside its rows and its noise."""

    mirrored_B: np.ndarray  # bool
    label_open_B: np.ndarray  # bool, as are the next three
    device_open_B: np.ndarray
    descriptors_open_B: np.ndarray
    mask_open_B: np.ndarray
    uniform_B: np.ndarray  # the quantile of the noise level


@dataclass(frozen=True)
class Batch:
    """Images to noise, on the device."""

    images_BCHW: Tensor  # -1 to 1
    conditions: Conditions
    noise_BCHW: Tensor  # standard normal


class RowDraw:
    """Rows in passes, so that each image comes equally often.

    groups: a name for each row; groups take turns, so that each comes as often as the others. None: one for all.
    one_of_patient: each patient comes equally often instead, with another image in each pass, so that the frames of a
    video do not crowd out a patient who has few images.
    """

    def __init__(self, images: Images, rows: Rows, groups: Sequence[str] | None, *, one_of_patient: bool) -> None:
        self.groups = [rows] if groups is None else _by(rows, groups)
        self.patients = [_by(group, _patients(images, group)) if one_of_patient else None for group in self.groups]

    def draw(self, step: int, batch_size: int, seed: tuple[int, ...]) -> Rows:
        """The rows of this step's global batch."""
        places = np.arange(step * batch_size, (step + 1) * batch_size)
        drawn = np.empty(batch_size, np.int64)
        for number, (rows, patients) in enumerate(zip(self.groups, self.patients, strict=True)):
            mine = places % len(self.groups) == number
            turns = places[mine] // len(self.groups)
            if patients is None:
                drawn[mine] = rows[rows_at(turns, len(rows), (*seed, number))]
            else:
                drawn[mine] = _frames(patients, turns, (*seed, number))
        return drawn


def row_seed(seed: int, stream: int) -> tuple[int, ...]:
    return seed, stream, _ROWS


def draw_choices(dropout: DropoutConfig, batch_size: int, *, flips: bool, seed: int, stream: int, step: int) -> Choices:
    """The choices of this step's global batch, each row by itself."""
    random = np.random.default_rng([seed, stream, _CHOICES, step])
    everything_B = random.random(batch_size) < dropout.everything

    def left_open(share: float) -> np.ndarray:
        return everything_B | (random.random(batch_size) < share)

    return Choices(
        mirrored_B=random.random(batch_size) < (0.5 if flips else 0.0),
        label_open_B=left_open(dropout.label),
        device_open_B=left_open(dropout.device),
        descriptors_open_B=left_open(dropout.descriptors),
        mask_open_B=left_open(dropout.mask),
        uniform_B=stratified_uniforms(batch_size, random),
    )


def make_batch(
    images: Images,
    config: GeneratorConfig,
    rows_B: Rows,
    choices: Choices,
    places: np.ndarray,
    noise_seed: tuple[int, int, int],
    device: torch.device,
) -> Batch:
    """The images at these places of the global batch, as the choices change them.

    rows_B: of the whole batch. noise_seed: seed, stream and step.
    """
    chosen = images.take(rows_B[places])
    mirrored_B = torch.from_numpy(choices.mirrored_B[places])
    images_BCHW = _mirror(torch.from_numpy(as_network_input(chosen.pixels_NHW)), mirrored_B)
    images_BCHW = images_BCHW.to(device).expand(-1, config.channels, -1, -1)
    conditions = conditions_of(chosen, config.conditions)
    conditions = replace(conditions, mask_B1HW=_mirror(conditions.mask_B1HW, mirrored_B))
    left_open = (choices.label_open_B, choices.device_open_B, choices.descriptors_open_B, choices.mask_open_B)
    conditions = conditions.without(*(torch.from_numpy(open_B[places]) for open_B in left_open)).to(device)
    seed, stream, step = noise_seed
    noise_BCHW = noise_of(places, tuple(images_BCHW.shape[1:]), (seed, stream, _NOISE, step), device)
    return Batch(images_BCHW, conditions, noise_BCHW)


def few_shot_rows(images: Images, few: FewShots) -> Rows:
    """The rows of a draw: so many images of each label out of the split "few_shot", positive ones first.

    Of different patients, and in different draws of different images, as far as the split has enough. Raises DataError
    where it has fewer images of a label than shots.
    """
    drawn = []
    for number, (label, shots) in enumerate(zip(few.labels, (few.shots, few.negative_shots), strict=True)):
        rows = images.rows(split="few_shot", labels=[label], classes=few.labels)
        pool = _in_turns(images, rows, (few.draw_seed, number))
        if len(pool) < (shots or 1):
            raise DataError(
                f"the split 'few_shot' has {len(pool)} images of '{label}', and {shots or 1} shots were asked for\n"
                f"fits: at most {len(pool)} shots, or more patients in that split"
            )
        drawn.append(pool[np.arange(few.draw * shots, (few.draw + 1) * shots) % len(pool)] if shots else pool)
    return np.concatenate(drawn)


def training_rows(images: Images, few: FewShots) -> Rows:
    """The rows of all that an adapted generator has learnt from: those of its pretraining, then those of the draw."""
    return np.concatenate([images.rows(split="pretrain"), few_shot_rows(images, few)])


def _in_turns(images: Images, rows: Rows, seed: tuple[int, int]) -> Rows:
    """These rows in random order: first one of each patient, then the second of each, and so on."""
    random = np.random.default_rng([seed[0], _FEW_SHOT, seed[1]])
    of_patients = [random.permutation(frames) for frames in _by(rows, _patients(images, rows))]
    order = [of_patients[place] for place in random.permutation(len(of_patients))]
    turns = itertools.zip_longest(*order)
    return np.array([row for turn in turns for row in turn if row is not None], np.int64)


def _frames(patients: list[Rows], turns: Rows, seed: tuple[int, ...]) -> list[int]:
    """The image at each turn of the passes over patients: each one's images in an order, then in another."""
    chosen = rows_at(turns, len(patients), seed)
    found = []
    for patient, visit in zip(chosen, turns // len(patients), strict=True):
        frames = patients[patient]
        time_round, place = divmod(int(visit), len(frames))
        order = np.random.default_rng([*seed, int(patient), time_round]).permutation(len(frames))
        found.append(int(frames[order[place]]))
    return found


def _patients(images: Images, rows: Rows) -> list[str]:
    return [patient_of(images.cases[row]) for row in rows]


def _by(rows: Rows, names: Sequence[str]) -> list[Rows]:
    """The rows of each name, names in order."""
    found: dict[str, list[int]] = {}
    for row, name in zip(rows, names, strict=True):
        found.setdefault(name, []).append(int(row))
    return [np.array(found[name], np.int64) for name in sorted(found)]


def _mirror(values_BCHW: Tensor, mirrored_B: Tensor) -> Tensor:
    """Left and right exchanged where a row says so."""
    return torch.where(mirrored_B[:, None, None, None], values_BCHW.flip(-1), values_BCHW)
