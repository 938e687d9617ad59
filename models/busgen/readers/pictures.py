"""Picture files, decoded to grey: what every reader makes of a PNG, JPEG, BMP or TIFF."""

# H height   W width   C channels

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.common.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm", ".jp2"})

_COLOURED = 40  # grey values between a pixel's channels from which it is coloured: JPEG's own error stays below
_DOPPLER_SHARE = 0.005  # a flow map covers more of an image than this, ticks, logos and coloured callipers less
_OVERLAY_SHARE = 0.0002
_LABEL_NUMBERS = 8  # a mask with no value above this numbers its regions, and 1 is as much of a region as 2
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Picture:
    """A picture as grey values 0 to 255, what its colours say, and the SHA-256 of its file's bytes."""

    pixels_HW: np.ndarray  # uint8
    flags: tuple[str, ...]  # "doppler" or "overlay" where it held colour, see `colour_flags`
    sha256: str


def read_picture(path: Path) -> Picture:
    """The picture of a file in grey; raises DataError where it does not decode.

    Colour becomes luma, transparent parts are laid over black, palettes are looked up. 16 and 32 bit values are spread
    over 0 to 255 by their own range, see `spread`.
    """
    data, image = _decode(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if image.mode[0] in "IF":
        return Picture(spread(np.asarray(image)), (), sha256)
    if image.mode == "L" and "transparency" not in image.info:
        return Picture(np.array(image), (), sha256)
    pixels_HWC = _over_black(image)[0]
    return Picture(luma(pixels_HWC), colour_flags(pixels_HWC), sha256)


def read_mask(path: Path) -> np.ndarray:
    """True where a mask file is lit, [H, W]; raises DataError where it does not decode.

    Lit is above half of the mask's own brightest value, so that 255 may be 128 or 65535; a mask of small numbers is
    one of labels, lit where it is not 0. What is transparent is not lit; where all is black and transparency alone
    draws a shape, that shape is.
    """
    image = _decode(path)[1]
    if image.mode[0] in "IF":
        return _lit(np.asarray(image))
    pixels_HWC, opacity_HW = _over_black(image)
    opaque_HW = opacity_HW > 127
    lit_HW = _lit(luma(pixels_HWC) * opaque_HW)
    return opaque_HW if not lit_HW.any() and not opaque_HW.all() else lit_HW


def read_coloured_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask file is green, and where it is red, each [H, W]; raises DataError where it does not decode."""
    pixels_HWC = _over_black(_decode(path)[1])[0]
    lit_HWC = pixels_HWC > 127
    red_HW, green_HW, blue_HW = lit_HWC[..., 0], lit_HWC[..., 1], lit_HWC[..., 2]
    return green_HW & ~red_HW & ~blue_HW, red_HW & ~green_HW & ~blue_HW


def luma(pixels_HWC: np.ndarray) -> np.ndarray:
    """Grey values 0 to 255 of red, green and blue ones, by ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, rounded."""
    return np.asarray(Image.fromarray(pixels_HWC).convert("L"))


def spread(values_HW: np.ndarray) -> np.ndarray:
    """Values of more than 8 bits as 0 to 255, from their own least to their own greatest.

    By their own range because such files rarely say theirs: 12 bits of 16 would come out nearly black. Values that
    all fit 0 to 255 are taken as they are, for they are 8 bits in a larger box; fractions from 0 to 1 are spread.
    """
    if not np.isfinite(values_HW).all():
        raise DataError("it holds values that are not finite; fits: grey values")
    least, greatest = float(values_HW.min()), float(values_HW.max())
    fractions = values_HW.dtype.kind == "f" and greatest <= 1
    if least >= 0 and greatest <= 255 and not fractions:
        return np.rint(values_HW).astype(np.uint8)
    return np.rint((values_HW.astype(np.float64) - least) * (255.0 / max(greatest - least, 1e-12))).astype(np.uint8)


def colour_flags(pixels_HWC: np.ndarray) -> tuple[str, ...]:
    """("doppler",) for a map of flow or stiffness, ("overlay",) for coloured marks, () for grey in three channels.

    A pixel is coloured when its channels lie further apart than compression makes them; a map covers half a percent
    of the image or more, marks cover less. A coloured frame of the scanner's interface that was not cropped away counts
    as a map.
    """
    red_HW, green_HW, blue_HW = (pixels_HWC[..., channel] for channel in range(3))
    most_HW = np.maximum(np.maximum(red_HW, green_HW), blue_HW)
    apart_HW = most_HW - np.minimum(np.minimum(red_HW, green_HW), blue_HW)
    share = float((apart_HW > _COLOURED).mean())
    if share >= _DOPPLER_SHARE:
        return ("doppler",)
    return ("overlay",) if share >= _OVERLAY_SHARE else ()


def _decode(path: Path) -> tuple[bytes, Image.Image]:
    """A file's bytes and its picture, decoded to the last row."""
    if not path.is_file():
        raise DataError("the file is missing; download or unpack the data set anew")
    data = path.read_bytes()
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except _BROKEN as fault:
        raise DataError(f"it does not decode as a picture ({str(fault) or type(fault).__name__})") from fault
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"it holds {image.n_frames} frames; fits: one picture a file")  # pyright: ignore[reportAttributeAccessIssue]  # of multi-frame formats only
    return data, image


def _over_black(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Red, green and blue of a picture laid over black, [H, W, 3], and how opaque it is, [H, W], 0 to 255."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        pixels_HWC = np.asarray(image.convert("RGB"))
        return pixels_HWC, np.full(pixels_HWC.shape[:2], 255, dtype=np.uint8)
    pixels_HWC = np.asarray(image.convert("RGBA"))
    opacity_HW = pixels_HWC[..., 3]
    over_HWC = (pixels_HWC[..., :3].astype(np.uint16) * opacity_HW[..., None] + 127) // 255
    return over_HWC.astype(np.uint8), opacity_HW


def _lit(values_HW: np.ndarray) -> np.ndarray:
    brightest = values_HW.max(initial=0.0)
    return values_HW > (0 if brightest <= _LABEL_NUMBERS else brightest / 2)
