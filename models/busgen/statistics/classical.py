"""Classical features of an ultrasound image: speckle, texture, spectrum, greys, and the lesion's contrast."""

# N images   H height   W width   F features

from __future__ import annotations

import numpy as np

from models.busgen.statistics.estimate import Array
from models.busgen.statistics.speckle import (
    envelope_of,
    lesion_contrast,
    nakagami_m,
    patches_of,
    posterior_contrast,
    speckle_snr,
)
from models.busgen.statistics.texture import co_occurrence, grey_moments, radial_spectrum
from models.busgen.statistics_config import ClassicalConfig

_IMAGES = 256  # at once, so that temporary arrays stay small


class Classical:
    """The extractor of these features; two of a lesion among them where masks are given."""

    name = "classical"

    def __init__(self, config: ClassicalConfig) -> None:
        self.config = config

    def names(self, *, with_masks: bool) -> tuple[str, ...]:
        """What each feature is, in order."""
        rings = (f"spectrum_{ring}" for ring in range(self.config.spectrum_bins))
        lesion = ("lesion_contrast_db", "posterior_contrast_db") if with_masks else ()
        return (
            *("speckle_snr", "speckle_snr_spread", "nakagami_m", "nakagami_m_spread"),
            *("contrast", "homogeneity", "energy", "correlation"),
            *("grey_mean", "grey_deviation", "grey_skewness", "grey_kurtosis"),
            *rings,
            *lesion,
        )

    def features(self, pixels_NHW: np.ndarray, masks_NHW: np.ndarray | None) -> Array:
        """[N, F], in the order of `names`."""
        parts = []
        for start in range(0, len(pixels_NHW), _IMAGES):
            chunk = slice(start, start + _IMAGES)
            parts.append(self._features(pixels_NHW[chunk], None if masks_NHW is None else masks_NHW[chunk]))
        return np.concatenate(parts)

    def _features(self, pixels_NHW: np.ndarray, masks_NHW: np.ndarray | None) -> Array:
        config = self.config
        envelope_NPA = patches_of(envelope_of(pixels_NHW, config.dynamic_range_db), config.patch)
        texture = co_occurrence(pixels_NHW, config.grey_levels)
        columns = [
            *_median_and_spread(speckle_snr(envelope_NPA)),
            *_median_and_spread(nakagami_m(envelope_NPA)),
            *(texture.contrast, texture.homogeneity, texture.energy, texture.correlation),
            *grey_moments(pixels_NHW).T,
            *radial_spectrum(pixels_NHW, config.spectrum_bins).T,
        ]
        if masks_NHW is not None:
            reach = max(1, round(config.ring * pixels_NHW.shape[1]))
            for contrast in (lesion_contrast, posterior_contrast):
                columns.append(contrast(pixels_NHW, masks_NHW, reach, config.dynamic_range_db))
        return np.stack(columns, axis=1)


def _median_and_spread(values_NP: Array) -> tuple[Array, Array]:
    """Of an image's patches: the median, as a few patches hold edges, and the deviation."""
    return np.median(values_NP, axis=1), values_NP.std(axis=1)
