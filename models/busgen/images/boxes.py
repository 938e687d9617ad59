"""Boxes and masks: the box around what a mask marks, and the share of each pixel that boxes cover."""

# H height   W width   S pixels of a square image's edge

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.busgen.images.cases import Box


def mask_boxes(mask_HW: np.ndarray | None) -> tuple[Box, ...]:
    """The smallest box of whole pixels around all that the mask marks; none where it marks nothing."""
    if mask_HW is None or not mask_HW.any():
        return ()
    height, width = mask_HW.shape
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    edges = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
    return (Box(*map(float, edges)),)


def box_mask(boxes: Sequence[Box], side: int) -> np.ndarray:
    """The union of the boxes on a square grid, [S, S]: the share of each pixel, the largest where two boxes meet."""
    edges = np.arange(side + 1) / side
    union_SS = np.zeros((side, side))
    for box in boxes:
        across, down = _covered(edges, box.left, box.right), _covered(edges, box.top, box.bottom)
        union_SS = np.maximum(union_SS, np.outer(down, across))
    return union_SS


def _covered(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """The share of each cell between two edges that lies from low to high."""
    overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.clip(overlap, 0.0, None) / np.diff(edges)
