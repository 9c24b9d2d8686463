"""Resampling of images, masks and probabilities: the one place, for convert, predict and eval.

Shrinking averages over area, growing interpolates bilinearly; each axis is treated on its own. Both are written with
whole weights, over a power of two, and one division at the end: for whole intensities every sum is exact, so the order
of the axes, the processor and the number of threads cannot change a bit. No BLAS is used, for the same reason.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped, UInt8

from unet_jax.config import MaskRule
from unet_jax.imaging.scan import MAX_SIDE

BACKGROUND = 2
"""Pixels of background for one of tissue that count at most: a head fills about a third of its slice or more."""
MAX_SQUARE = 1.01
"""Largest ratio of a pixel's sides that counts as square: rounding in a header moves no pixel."""
_BLOCK = 64
"""Rows made at a time, so that what lies between the steps stays in the processor's cache."""


class NativeSlice(NamedTuple):
    """Slice at its native size."""

    image: Shaped[np.ndarray, "h w"]
    """Raw intensities; of a masked array, what is masked is background and no tissue."""
    aspect: float = 1.0
    """Height of a pixel over its width."""


@dataclass(frozen=True, eq=False)
class NetworkSlice:
    """Slice at the network's size, intensities still raw."""

    image: Float32[np.ndarray, "size size"]
    p1: float
    """1st percentile of the slice at its native size."""
    p99: float
    """99th percentile of the slice at its native size."""


def to_network(image: Shaped[np.ndarray, "h w"], size: int, aspect: float = 1.0) -> NetworkSlice:
    """Bring a native slice of finite integers or floats to the network's size, with the percentiles for normalising.

    Pixels that are not square, by `aspect` as in `NativeSlice`, are made square. A slice that then is not square is
    padded centrally to a square with its own 1st percentile, which is background; so is what is masked of it.

    Integers wider than 8 bits stay whole numbers, because the arrays store them so and one slice must be the same to
    the bit whether it comes from there or from its file; 8-bit grey, too coarse for that, and floats do not.
    """
    p1, p99 = percentiles(image)
    square = square_shape(image.shape, aspect)
    plain = filled(image, p1)
    if square != image.shape:
        plain = resize(plain, square)
    resized = resize(_pad_square(plain, p1), (size, size))
    if image.dtype.kind in "iu" and image.dtype.itemsize > 1:
        resized = np.rint(resized)
    return NetworkSlice(resized, p1, p99)


def percentiles(image: Shaped[np.ndarray, "*shape"]) -> tuple[float, float]:
    """Compute the 1st and 99th percentile of finite integers or floats, to the bit as `np.percentile` in float64.

    What is masked has no value. The 1st percentile is that of the rest; for the 99th it counts as the darkest of the
    rest, as air does in the slices that a network learns from, up to BACKGROUND times as many pixels. Where all is
    masked, both are 0.
    """
    if not isinstance(image, np.ma.MaskedArray):
        return _percentiles(image)
    tissue = image.compressed()
    if not tissue.size:
        return 0.0, 0.0
    count = min(image.size - tissue.size, BACKGROUND * tissue.size)
    with_air = np.concatenate([tissue, np.full(count, tissue.min())])
    return _percentiles(tissue)[0], _percentiles(with_air)[1]


def _percentiles(image: Shaped[np.ndarray, "*shape"]) -> tuple[float, float]:
    if image.dtype.kind not in "iu" or image.dtype.itemsize > 2:
        p1, p99 = np.percentile(image.astype(np.float64), (1, 99), overwrite_input=True)
        return float(p1), float(p99)
    # Of few possible values, counting is several times as fast as sorting.
    low, counts = _histogram(image)
    cumulative = np.cumsum(counts)
    values = []
    for q in (1, 99):
        place = (image.size - 1) * (q / 100)
        before = int(place)
        fraction = place - before
        below, above = (
            float(low + int(np.searchsorted(cumulative, min(i, image.size - 1), side="right")))
            for i in (before, before + 1)
        )
        # As NumPy: from the nearer of the two, which is where rounding differs.
        step = above - below
        values.append(below + step * fraction if fraction < 0.5 else above - step * (1 - fraction))
    return values[0], values[1]


def filled(image: Shaped[np.ndarray, "h w"], value: float) -> Shaped[np.ndarray, "h w"]:
    """Give what is masked of a slice that value; the slice itself where nothing is."""
    if not isinstance(image, np.ma.MaskedArray):
        return image
    return np.where(np.ma.getmaskarray(image), value, image.data)


def square_shape(shape: tuple[int, ...], aspect: float) -> tuple[int, int]:
    """Compute the shape of a slice when its pixels are made square, as fine as their shorter side.

    Coarser, though, where a side would be over MAX_SIDE.
    """
    height, width = shape
    if 1 / MAX_SQUARE <= aspect <= MAX_SQUARE:
        return height, width
    long, wide = height * max(aspect, 1.0), width / min(aspect, 1.0)
    shrink = min(1.0, MAX_SIDE / max(long, wide))
    return max(1, round(long * shrink)), max(1, round(wide * shrink))


def _histogram(image: Shaped[np.ndarray, "*shape"]) -> tuple[int, Int64[np.ndarray, " values"]]:
    """Count the pixels of each value, from the one returned on, of a slice of integers of 8 or 16 bits."""
    image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    low = image.min()
    # In unsigned arithmetic, where the difference fits whatever the two are.
    above = image.view(f"u{image.itemsize}") - low.view(f"u{image.itemsize}")
    if image.itemsize == 1 and image.size % 2 == 0:
        # Two pixels at a time: counting takes most of the time.
        pairs = np.bincount(above.ravel().view(np.uint16), minlength=2**16).reshape(256, 256)
        return int(low), pairs.sum(axis=0) + pairs.sum(axis=1)
    return int(low), np.bincount(above.ravel())


def from_network(
    probs: Shaped[np.ndarray, "size size"], shape: tuple[int, int], aspect: float = 1.0
) -> Float32[np.ndarray, "h w"]:
    """Bring probabilities, of any floating type, to a slice's native shape, by the inverse geometry of `to_network`.

    The result stays in the range of `probs`.
    """
    square = square_shape(shape, aspect)
    side, (top, left) = max(square), _margins(square)
    large = resize(probs, (side, side))[top : top + square[0], left : left + square[1]]
    return np.ascontiguousarray(large) if square == shape else resize(large, shape)


def resize_mask(mask: Shaped[np.ndarray, "h w"], size: int, rule: MaskRule) -> UInt8[np.ndarray, "size size"]:
    """Bring a native mask to the network's size, by the geometry of `to_network`.

    Args:
        mask: 0 and 1, or bool.
        rule: `area`: tumour where strictly more than half of the pixel is (a mask that has to grow: where its
            bilinear interpolation is above 0.5). `any`: the original notebook's `skimage.transform.resize(mask) > 0`,
            tumour where any is within reach of the blur that scikit-image applies before it shrinks. At a quarter of
            the side that makes masks 1.3 to 2.4 times as large; it is there for comparison.
    """
    square = _pad_square(mask, 0.0)
    if rule == "any":
        reached = _reach_rows(_reach_rows(square > 0, size).T, size).T
        return np.ascontiguousarray(reached, np.uint8)
    return (_resampled(square, (size, size), np.float64) > 0.5).astype(np.uint8)


def resize(image: Shaped[np.ndarray, "h w"], shape: tuple[int, int]) -> Float32[np.ndarray, "h2 w2"]:
    """Resample to another shape: per axis the area average when it shrinks, bilinear when it grows.

    Bilinear samples stand at pixel centres (half-pixel convention); beyond the outermost centre the edge repeats.

    Args:
        image: any numeric type, finite.
        shape: height and width of the result, at least 1 each.

    Returns:
        Computed in float64, rounded to float32 once.
    """
    return _resampled(image, shape, np.float32)


class _Taps(NamedTuple):
    """The pixels of the input that make each one of the output, along an axis."""

    inputs: Int64[np.ndarray, "taps size"]
    weight: Float64[np.ndarray, "taps size"]
    whole: int
    """Sum of the weights of each pixel of the output."""


def _resampled(image: np.ndarray, shape: tuple[int, int], dtype: Any) -> Float[np.ndarray, "h2 w2"]:
    """Resample as `resize`, in float64, and round to a type once."""
    if min(*image.shape, *shape) < 1:
        raise ValueError(f"cannot resize {image.shape} to {shape}; every side must be at least 1")
    rows, columns = map(_taps, image.shape, shape)
    whole = rows.whole * columns.whole
    # Whole rows are quicker to gather than columns, so the larger array is made of them.
    if shape[0] <= image.shape[0]:
        return _along_columns(_along_rows(image, rows, 1, np.float64), columns, whole, dtype)
    return _along_rows(_along_columns(image, columns, 1, np.float64), rows, whole, dtype)


def _along_rows(image: np.ndarray, taps: _Taps, whole: int, dtype: Any) -> Float[np.ndarray, "size w"]:
    """Compute the weighted sums of rows, divided by `whole`."""
    out = np.empty((taps.inputs.shape[1], image.shape[1]), dtype)
    for block in _blocks(len(out)):
        inputs, weight = taps.inputs[:, block], taps.weight[:, block, None]
        out[block] = _weighted_mean((image[i] for i in inputs), weight, whole)
    return out


def _along_columns(image: np.ndarray, taps: _Taps, whole: int, dtype: Any) -> Float[np.ndarray, "h size"]:
    """Compute the weighted sums of columns, divided by `whole`."""
    out = np.empty((len(image), taps.inputs.shape[1]), dtype)
    for block in _blocks(len(out)):
        rows = image[block]
        out[block] = _weighted_mean((rows.take(i, axis=1) for i in taps.inputs), taps.weight, whole)
    return out


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]


def _weighted_mean(parts: Iterable[np.ndarray], weights: np.ndarray, whole: int) -> Float64[np.ndarray, "rows columns"]:
    total = None
    for part, weight in zip(parts, weights, strict=True):
        product = part * weight
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None
    return total if whole == 1 else np.divide(total, whole, out=total)


@functools.lru_cache(maxsize=32)
def _taps(n: int, size: int) -> _Taps:
    """Weigh the pixels of an axis of length `n` for one of length `size`.

    The weights are integers over a power of two, by which the largest is divided that `whole` has: no bit of a sum
    changes, and where nothing else is left of `whole`, as for 512 pixels, there is no division.
    """
    if n == size:
        return _Taps(np.arange(n)[None], np.ones((1, n)), 1)
    index, weight, whole = _area(n, size) if size < n else _bilinear(n, size)
    power = whole & -whole
    return _Taps(index, weight / power, whole // power)


def _area(n: int, size: int) -> tuple[Int64[np.ndarray, "taps size"], Int64[np.ndarray, "taps size"], int]:
    """List the input rows under each output row, and their overlap in units of 1/size of an input row (`n` in all)."""
    start = np.arange(size) * n
    index = start // size + np.arange(-(-n // size) + 1)[:, None]
    overlap = np.minimum(start + n, (index + 1) * size) - np.maximum(start, index * size)
    used = (overlap > 0).any(axis=1)
    return np.minimum(index, n - 1)[used], np.maximum(overlap, 0)[used], n


def _bilinear(n: int, size: int) -> tuple[Int64[np.ndarray, "2 size"], Int64[np.ndarray, "2 size"], int]:
    """List the two input rows nearest to each output row's centre, and their weights in units of 1/(2 size)."""
    below, fraction = _centres(n, size)
    index = np.clip(np.stack([below, below + 1]), 0, n - 1)
    return index, np.stack([2 * size - fraction, fraction]), 2 * size


def _centres(n: int, size: int) -> tuple[Int64[np.ndarray, " size"], Int64[np.ndarray, " size"]]:
    """Find the input row above each output row's centre, and the distance from there in units of 1/(2 size)."""
    return np.divmod((2 * np.arange(size) + 1) * n - size, 2 * size)


def _reach_rows(mask: Bool[np.ndarray, "n w"], size: int) -> Bool[np.ndarray, "size w"]:
    """Mark where linear interpolation of the mask, blurred first if it shrinks, is above 0.

    scikit-image blurs by a Gaussian of sigma (n / size - 1) / 2, cut off at 4 sigma.
    """
    n = len(mask)
    if n == size:
        return mask
    radius = int(4 * max(0.0, (n / size - 1) / 2) + 0.5)
    below, fraction = _centres(n, size)
    first, last = np.maximum(below - radius, 0), np.minimum(below + (fraction > 0) + radius, n - 1)
    count = np.concatenate([np.zeros((1, mask.shape[1]), int), np.cumsum(mask, axis=0)])
    return count[last + 1] > count[first]


def _margins(shape: tuple[int, ...]) -> tuple[int, int]:
    """Count the rows above and the columns to the left of a slice in the middle of its square."""
    side = max(shape)
    return (side - shape[0]) // 2, (side - shape[1]) // 2


def _pad_square(image: np.ndarray, value: float) -> np.ndarray:
    side, before = max(image.shape), _margins(image.shape)
    if min(image.shape) == side:
        return image
    widths = [(first, side - n - first) for n, first in zip(image.shape, before, strict=True)]
    return np.pad(image.astype(np.float64), widths, constant_values=value)
