"""Connected parts of masks: tumours found or not, and the cleaning of a predicted mask. NumPy and SciPy on the host.

Parts are 8-connected: pixels that touch at a corner belong together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Int32, Int64
from scipy import ndimage

_EIGHT = np.ones((3, 3), bool)
_FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)

PIXEL_CHOICES = (0, 10, 25, 50, 100, 200, 400, 800)
"""The smallest sizes tried on validation, in pixels of the native slice."""


@dataclass(frozen=True)
class Detection:
    """The tumours of one slice, or of several, as a reader counts them."""

    tumors: int
    """Connected parts of the true mask."""
    found: int
    """Those of which any pixel is predicted."""
    found_half: int
    """Those of which at least half the pixels are predicted."""
    false_components: int
    """Connected parts of the prediction without a pixel of tumour."""


@dataclass(frozen=True)
class Postprocess:
    """How a predicted mask is cleaned."""

    min_pixels: int
    """Connected parts of fewer pixels are removed."""
    fill_holes: bool
    """Then background that a part surrounds becomes tumour."""


CHOICES = tuple(Postprocess(*choice) for choice in product(PIXEL_CHOICES, (False, True)))
"""What is tried on validation; the first changes nothing."""


def bounding_box(mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice] | None:
    """The smallest box around the pixels of a mask.

    Returns:
        Rows and columns, to index with; None where the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def detect(pred: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Detection:
    """Count the tumours of a slice that are found, and what is found without being one.

    Args:
        pred: predicted tumour.
        mask: true tumour.

    Returns:
        The counts; they add up over slices.
    """
    box = bounding_box(pred | mask)
    if box is None:
        return Detection(0, 0, 0, 0)
    pred, mask = pred[box], mask[box]
    tumors, sizes = _parts(mask)
    hit = np.bincount(tumors[pred], minlength=sizes.size)[1:]
    predicted, predicted_sizes = _parts(pred)
    touched = np.bincount(predicted[mask], minlength=predicted_sizes.size)[1:]
    return Detection(
        tumors=int(sizes[1:].size),
        found=int((hit > 0).sum()),
        found_half=int((2 * hit >= sizes[1:]).sum()),
        false_components=int((touched == 0).sum()),
    )


def postprocess(mask: Bool[np.ndarray, "h w"], how: Postprocess) -> Bool[np.ndarray, "h w"]:
    """A mask without its small parts, then without holes.

    Args:
        mask: the prediction; left as it is.
        how: a hole is background that cannot reach the image's edge by steps to the four neighbours.

    Returns:
        The cleaned mask, of the same shape.
    """
    result = np.zeros_like(mask)
    box = bounding_box(mask)
    if box is not None:
        labels, sizes = _parts(mask[box])
        result[box] = _cleaned(labels, _kept(sizes, how), how)
    return result


def postprocess_counts(
    pred: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> dict[Postprocess, Int64[np.ndarray, " 4"]]:
    """Counts of one slice under each of CHOICES; equal to `postprocess` and counting, but labelled once.

    Args:
        pred: the prediction as it comes from the threshold, at native size.
        mask: true tumour.

    Returns:
        tp, fp, fn, tn for each choice. Those of several slices add up.
    """
    positives = int(mask.sum())
    box = bounding_box(pred)
    if box is None:
        return {how: np.array([0, 0, positives, mask.size - positives], np.int64) for how in CHOICES}
    labels, sizes = _parts(pred[box])
    inside = mask[box]
    counts, known = {}, {}
    for how in CHOICES:
        keep = _kept(sizes, how)
        # Most choices keep the same parts.
        same = (keep.tobytes(), how.fill_holes)
        if same not in known:
            cleaned = _cleaned(labels, keep, how)
            tp, predicted = int((cleaned & inside).sum()), int(cleaned.sum())
            known[same] = tp, predicted - tp, positives - tp, mask.size - positives - predicted + tp
        counts[how] = np.array(known[same], np.int64)
    return counts


def best_postprocess(counts: Mapping[Postprocess, Int64[np.ndarray, " 4"]]) -> Postprocess:
    """The choice of the highest micro-IoU; of equals the one that removes least, of two such the one that fills none.

    Args:
        counts: tp, fp, fn, tn for each choice, summed over the slices of validation.

    Returns:
        The best of them.
    """

    def rank(how: Postprocess) -> tuple[float, int, bool]:
        tp, fp, fn, _ = (int(n) for n in counts[how])
        union = tp + fp + fn
        return -(tp / union if union else 1.0), how.min_pixels, how.fill_holes

    return min(counts, key=rank)


def _parts(mask: Bool[np.ndarray, "h w"]) -> tuple[Int32[np.ndarray, "h w"], Int64[np.ndarray, " n"]]:
    """The number of each pixel's part, 0 for background, and the pixels of each, background first."""
    labels = _labelled(mask, _EIGHT)
    return labels, np.bincount(labels.ravel(), minlength=1)


def _labelled(mask: Bool[np.ndarray, "h w"], neighbours: Bool[np.ndarray, "3 3"]) -> Int32[np.ndarray, "h w"]:
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, neighbours, output=labels)
    return labels


def _kept(sizes: Int64[np.ndarray, " n"], how: Postprocess) -> Bool[np.ndarray, " n"]:
    """Which parts are large enough; not the background."""
    keep = sizes >= how.min_pixels
    keep[0] = False
    return keep


def _cleaned(
    labels: Int32[np.ndarray, "h w"], keep: Bool[np.ndarray, " n"], how: Postprocess
) -> Bool[np.ndarray, "h w"]:
    kept = keep[labels]
    if not how.fill_holes:
        return kept
    # One pixel of background all around makes all that is outside one part, the first that is labelled. Four
    # neighbours, because a ring that holds together at its corners is closed.
    outside = _labelled(~np.pad(kept, 1), _FOUR)
    return (outside != outside[0, 0])[1:-1, 1:-1]


def erode(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Take away the pixels of a mask that have one of their four neighbours outside of the mask, or of the image."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
