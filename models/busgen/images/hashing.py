"""Copies that differ in size, brightness or compression: a hash finds who may be one, a correlation who is.

Copies that were mirrored, turned or cut are not found.
"""

# N images   P pairs   T = 32, the edge of a thumbnail

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy.fft import dctn

THUMBNAIL = 32
BITS = 64
_BLOCK = 4096  # pairs compared at once
# The 64 lowest waves of the cosine transform, without the mean, which is the brightness.
_DOWN, _ALONG = np.array(
    sorted(((y, x) for y in range(16) for x in range(16) if y + x), key=lambda wave: (sum(wave), wave))[:BITS]
).T


def pixel_digest(pixels_HW: np.ndarray) -> str:
    """SHA-256 of the pixels and their shape: equal for equal images, whatever file they came in."""
    height, width = pixels_HW.shape
    return hashlib.sha256(f"{height} {width} ".encode() + np.ascontiguousarray(pixels_HW).tobytes()).hexdigest()


def thumbnail(pixels_HW: np.ndarray) -> np.ndarray:
    """All of the image in 32 by 32 pixels, stretched to a square, so that copies of any size agree: [T, T], uint8."""
    small = Image.fromarray(pixels_HW).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return np.asarray(small)


def perceptual_hash(thumbnail_TT: np.ndarray) -> np.uint64:
    """64 bits, the signs of the lowest waves of the discrete cosine transform (pHash; Zauner 2010).

    Unlike there: signs, not a comparison with the median, so that brightness and contrast change no bit, and waves in
    the order of their frequency, not a square of them.
    """
    waves = np.asarray(dctn(thumbnail_TT.astype(np.float64)))[_DOWN, _ALONG]
    return np.packbits(waves > 0).view(">u8")[0].astype(np.uint64)


def near_pairs(hashes_N: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs whose hashes differ in at most `distance` bits, in pieces: rows of the one and rows of the other.

    Exact for any number of images: of distance + 1 bands of bits, a near pair agrees in one at least, so only images
    that agree in a band are compared (Manku et al. 2007, section 3). A pair comes once. Time grows with the pairs that
    share a band: for 10^5 unlike images it is a second at a distance of 6, and twelve at 10.
    """
    edges = np.linspace(0, BITS, distance + 2).round().astype(int)
    bands = [(np.uint64(begin), np.uint64((1 << int(end - begin)) - 1)) for begin, end in pairwise(edges)]
    for place, (begin, mask) in enumerate(bands):
        keys_N = (hashes_N >> begin) & mask
        rows_N = np.argsort(keys_N, kind="stable")
        keys_N = keys_N[rows_N]
        firsts = np.arange(len(rows_N))
        for apart in range(1, len(rows_N)):
            firsts = firsts[: np.searchsorted(firsts, len(rows_N) - apart)]
            firsts = firsts[keys_N[firsts] == keys_N[firsts + apart]]
            if not len(firsts):
                break
            one, other = rows_N[firsts], rows_N[firsts + apart]
            differs = hashes_N[one] ^ hashes_N[other]
            near = np.bitwise_count(differs) <= distance
            for earlier, earlier_mask in bands[:place]:  # those that agree in an earlier band came with it
                near &= ((differs >> earlier) & earlier_mask) != 0
            if near.any():
                yield np.minimum(one[near], other[near]), np.maximum(one[near], other[near])


def correlations(thumbnails_NTT: np.ndarray, first_P: np.ndarray, second_P: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the two thumbnails of each pair: 1 for copies, whatever their brightness and contrast.

    0 where one of them has no contrast.
    """
    found_P = np.zeros(len(first_P))
    for begin in range(0, len(first_P), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        one, other = _standard(thumbnails_NTT[first_P[block]]), _standard(thumbnails_NTT[second_P[block]])
        found_P[block] = np.einsum("pt,pt->p", one, other)
    return found_P


def _standard(thumbnails_PTT: np.ndarray) -> np.ndarray:
    """Flat, with mean 0 and length 1."""
    values = thumbnails_PTT.reshape(len(thumbnails_PTT), -1).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)
