"""The two nearest training images of an image, exactly and in pieces; by pixels, or by features."""

# N queries   R references   K windows of a query   D numbers of a window   F features   H height   W width

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.busgen.images.dataset import Images
from models.busgen.images.splits import patient_of
from models.busgen.privacy_config import PixelDistanceConfig, PrivacyConfig
from models.common.errors import DataError

Embed = Callable[[np.ndarray], np.ndarray]  # features [N, F] of pixels [N, H, W]


@dataclass(frozen=True)
class Neighbours:
    """For each query the distances of its nearest and second nearest reference, and which the nearest is.

    second_N is infinite where there is no second one.
    """

    distance_N: np.ndarray
    nearest_N: np.ndarray
    second_N: np.ndarray

    @property
    def ratio_N(self) -> np.ndarray:
        """d1 / d2: far below 1 where one training image stands out as the source (Lowe 2004, section 7.1)."""
        return np.divide(self.distance_N, self.second_N, out=np.ones_like(self.distance_N), where=self.second_N > 0.0)


class Index(Protocol):
    """Training images that an image's neighbours are looked up in."""

    def nearest(self, pixels_NHW: np.ndarray, patients: Sequence[str] | None = None) -> Neighbours:
        """patients: of the queries; references of the same patient are left out."""
        ...

    def over(self, images: Images) -> Index:
        """The same measure of distance among other images."""
        ...


class PixelIndex:
    """Neighbours by what the pixels show, whatever the brightness, the contrast, the side and a small shift.

        d(a, b) = min over shifts and flips of sqrt(2 - 2 corr(window of a, middle window of b))

    0 is the same image, sqrt(2) one that has nothing to do with it. Images without any contrast are like no other.
    """

    def __init__(self, images: Images, config: PrivacyConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.patients = _names(images)
        self.windows_RD = torch.cat(
            [
                windows(images.pixels_NHW[rows], config.pixels, device)[:, 0]
                for rows in _pieces(len(images), config.at_once)
            ]
        )

    def nearest(self, pixels_NHW: np.ndarray, patients: Sequence[str] | None = None) -> Neighbours:
        found = _Nearest(len(pixels_NHW))
        for rows in _pieces(len(pixels_NHW), self.config.at_once):
            windows_NKD = windows(pixels_NHW[rows], self.config.pixels, self.device)
            others = _other_patients(self.patients, patients, rows, self.device)
            for columns in _pieces(len(self.windows_RD), self.config.at_once):
                alike_NKR = windows_NKD @ self.windows_RD[columns].T
                distance_NR = (2.0 - 2.0 * alike_NKR.amax(dim=1)).clamp(min=0.0).sqrt()
                found.add(distance_NR, rows, columns, others)
        return found.neighbours()

    def over(self, images: Images) -> PixelIndex:
        return PixelIndex(images, self.config, self.device)


class FeatureIndex:
    """Neighbours by features, each divided by its deviation over the training images; Euclidean."""

    def __init__(self, images: Images, embed: Embed, config: PrivacyConfig, device: torch.device) -> None:
        self.config, self.device, self.embed = config, device, embed
        self.patients = _names(images)
        features_RF = np.asarray(embed(images.pixels_NHW), np.float64)
        self.mean_F = features_RF.mean(axis=0)
        deviation_F = features_RF.std(axis=0)
        self.deviation_F = np.where(deviation_F > 0.0, deviation_F, 1.0)
        self.features_RF = self._standard(features_RF)

    def nearest(self, pixels_NHW: np.ndarray, patients: Sequence[str] | None = None) -> Neighbours:
        found = _Nearest(len(pixels_NHW))
        for rows in _pieces(len(pixels_NHW), self.config.at_once):
            features_NF = self._standard(np.asarray(self.embed(pixels_NHW[rows]), np.float64))
            others = _other_patients(self.patients, patients, rows, self.device)
            for columns in _pieces(len(self.features_RF), self.config.at_once):
                distance_NR = torch.cdist(features_NF, self.features_RF[columns], compute_mode=_EXACT)
                found.add(distance_NR, rows, columns, others)
        return found.neighbours()

    def over(self, images: Images) -> FeatureIndex:
        other = copy(self)
        other.patients = _names(images)
        other.features_RF = self._standard(np.asarray(self.embed(images.pixels_NHW), np.float64))
        return other

    def _standard(self, features_NF: np.ndarray) -> Tensor:
        return torch.from_numpy((features_NF - self.mean_F) / self.deviation_F).to(self.device)


_EXACT = "donot_use_mm_for_euclid_dist"  # a matrix product would lose the digits of small distances


class _Nearest:
    """The two smallest distances of each query so far."""

    def __init__(self, queries: int) -> None:
        self.distance_N2 = np.full((queries, 2), np.inf)
        self.nearest_N2 = np.full((queries, 2), -1)

    def add(self, distance_NR: Tensor, rows: slice, columns: slice, others: Callable[[slice], Tensor] | None) -> None:
        """Distances of these queries to these references, of which those that are not `others` do not count."""
        if others is not None:
            distance_NR = distance_NR.masked_fill(~others(columns), torch.inf)
        least = torch.topk(distance_NR, min(2, distance_NR.shape[1]), dim=1, largest=False)
        distance = np.concatenate([self.distance_N2[rows], least.values.double().cpu().numpy()], axis=1)
        nearest = np.concatenate([self.nearest_N2[rows], least.indices.cpu().numpy() + columns.start], axis=1)
        order = np.argsort(distance, axis=1, kind="stable")[:, :2]
        self.distance_N2[rows] = np.take_along_axis(distance, order, axis=1)
        self.nearest_N2[rows] = np.take_along_axis(nearest, order, axis=1)

    def neighbours(self) -> Neighbours:
        if not np.isfinite(self.distance_N2[:, 0]).all():
            raise DataError("an image has no training image of another patient\nfits: images of two patients or more")
        return Neighbours(self.distance_N2[:, 0], self.nearest_N2[:, 0], self.distance_N2[:, 1])


def windows(pixels_NHW: np.ndarray, config: PixelDistanceConfig, device: torch.device) -> Tensor:
    """The windows of each image that are compared, [N, K, D], the middle one first.

    Each has mean 0 and length 1, so that the product of two is their correlation; without contrast it is 0.
    """
    image_NHW = _smooth(pixels_NHW, config, device)
    side, margin = image_NHW.shape[-1], config.shift
    inner = side - 2 * margin
    if inner < 4:
        fits = (side - 4) // 2
        raise DataError(f"a shift by {margin} of {side} pixels leaves {inner} to compare\ntry shift={fits} or less")
    views = [image_NHW, image_NHW.flip(-1)] if config.flip else [image_NHW]
    starts = sorted(range(2 * margin + 1), key=lambda start: abs(start - margin))
    cut = [view[:, a : a + inner, b : b + inner].flatten(1) for view in views for a in starts for b in starts]
    window_NKD = torch.stack(cut, dim=1)
    window_NKD = window_NKD - window_NKD.mean(dim=-1, keepdim=True)
    length_NK1 = window_NKD.norm(dim=-1, keepdim=True)
    flat = length_NK1 < 1e-3 * inner  # grey values 0 to 255: less than a thousandth of a grey value
    return torch.where(flat, 0.0, window_NKD / length_NK1.clamp(min=1e-12))


def _smooth(pixels_NHW: np.ndarray, config: PixelDistanceConfig, device: torch.device) -> Tensor:
    """The images at the side of comparison, blurred."""
    image_NHW = torch.from_numpy(np.asarray(pixels_NHW, np.float32)).to(device)
    if image_NHW.shape[-1] > config.side:
        image_NHW = functional.adaptive_avg_pool2d(image_NHW[:, None], config.side)[:, 0]
    if config.blur:
        blurred = ndimage.gaussian_filter(image_NHW.cpu().numpy(), (0.0, config.blur, config.blur), mode="nearest")
        image_NHW = torch.from_numpy(blurred).to(device)
    return image_NHW


def _other_patients(
    references: np.ndarray, patients: Sequence[str] | None, rows: slice, device: torch.device
) -> Callable[[slice], Tensor] | None:
    """Whether a reference is of another patient than the query, [N, R]; None where all count."""
    if patients is None:
        return None
    of_queries = np.asarray(patients)[rows]
    return lambda columns: torch.from_numpy(of_queries[:, None] != references[None, columns]).to(device)


def patient_names(images: Images) -> list[str]:
    """The patient of each image, told from those of other sources."""
    return [patient_of(case) for case in images.cases]


def _names(images: Images) -> np.ndarray:
    if not len(images):
        raise DataError("there is no training image to compare with\ngive the images that the generator learnt from")
    return np.asarray(patient_names(images))


def _pieces(count: int, at_once: int) -> Iterator[slice]:
    return (slice(start, min(count, start + at_once)) for start in range(0, count, at_once))
