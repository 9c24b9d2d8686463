"""Connected components of masks: tumours found or not, and the cleaning of a predicted mask. NumPy and SciPy.

Components are 8-connected: pixels that touch at a corner belong together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from unet_jax.scoring.metrics import Counts, iou

PIXEL_CHOICES = (0, 10, 25, 50, 100, 200, 400, 800)
"""The minimal sizes tried on validation, in pixels of the native slice."""


@dataclass(frozen=True)
class Detection:
    """The tumours of one slice, or of several, as a reader counts them."""

    tumors: int
    """Components of the true mask."""
    found: int
    """Components of the true mask of which any pixel is predicted."""
    found_half: int
    """Components of the true mask of which at least half the pixels are predicted."""
    false_components: int
    """Components of the prediction without a pixel of tumour."""


@dataclass(frozen=True)
class Postprocess:
    """The way to clean a predicted mask."""

    min_pixels: int
    """Least size of a component that is kept, in pixels."""
    fill_holes: bool
    """Turn background that a kept component surrounds into tumour."""


CHOICES = tuple(Postprocess(pixels, fill_holes) for pixels in PIXEL_CHOICES for fill_holes in (False, True))
"""All that is tried on validation; the first changes nothing."""


def bounding_box(mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice] | None:
    """Find the rows and columns of the smallest box around the pixels of a mask; None where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def detect(pred: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Detection:
    """Count the tumours of a slice, those that are found, and what is predicted where there is none."""
    box = bounding_box(pred | mask)
    if box is None:
        return Detection(0, 0, 0, 0)
    pred, mask = pred[box], mask[box]
    tumors, sizes = _components(mask)
    hit = np.bincount(tumors[pred], minlength=sizes.size)[1:]
    predicted, predicted_sizes = _components(pred)
    touched = np.bincount(predicted[mask], minlength=predicted_sizes.size)[1:]
    return Detection(
        tumors=int(sizes[1:].size),
        found=int((hit > 0).sum()),
        found_half=int((2 * hit >= sizes[1:]).sum()),
        false_components=int((touched == 0).sum()),
    )


def postprocess(mask: Bool[np.ndarray, "h w"], how: Postprocess) -> Bool[np.ndarray, "h w"]:
    """Remove the small components of a mask, then fill its holes.

    A hole is background that cannot reach the image's edge by steps to the four neighbours.
    """
    result = np.zeros_like(mask)
    box = bounding_box(mask)
    if box is not None:
        labels, sizes = _components(mask[box])
        result[box] = _cleaned(labels, _kept(sizes, how), how)
    return result


def postprocess_counts(
    pred: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> dict[Postprocess, Int64[np.ndarray, " 4"]]:
    """Count the pixels of one slice under each of CHOICES: `postprocess` and counting, but labelled once.

    Returns:
        tp, fp, fn, tn for each choice. Those of several slices add up.
    """
    positives = int(mask.sum())
    box = bounding_box(pred)
    if box is None:
        return {how: np.array([0, 0, positives, mask.size - positives], np.int64) for how in CHOICES}
    labels, sizes = _components(pred[box])
    inside = mask[box]
    counts, known = {}, {}
    for how in CHOICES:
        keep = _kept(sizes, how)
        # Most choices keep the same components.
        same = (keep.tobytes(), how.fill_holes)
        if same not in known:
            cleaned = _cleaned(labels, keep, how)
            tp, predicted = int((cleaned & inside).sum()), int(cleaned.sum())
            known[same] = tp, predicted - tp, positives - tp, mask.size - positives - predicted + tp
        counts[how] = np.array(known[same], np.int64)
    return counts


def best_postprocess(counts: Mapping[Postprocess, Int64[np.ndarray, " 4"]]) -> Postprocess:
    """Choose by the highest micro-IoU; of equals what removes least, of two such what fills no holes.

    Args:
        counts: tp, fp, fn, tn for each choice, summed over the slices of validation.
    """
    return min(counts, key=lambda how: (-iou(Counts(*counts[how])), how.min_pixels, how.fill_holes))


def _components(mask: Bool[np.ndarray, "h w"]) -> tuple[Int32[np.ndarray, "h w"], Int64[np.ndarray, " n"]]:
    """Label each pixel with its component's number, 0 for background, and count the pixels of each number."""
    # Imported here, since it takes a fifth of a second, and most predictions label nothing.
    from scipy import ndimage

    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=labels)
    return labels, np.bincount(labels.ravel(), minlength=1)


def _kept(sizes: Int64[np.ndarray, " n"], how: Postprocess) -> Bool[np.ndarray, " n"]:
    """Tell of each number whether that component is large enough; never the background."""
    keep = sizes >= how.min_pixels
    keep[0] = False
    return keep


def _cleaned(
    labels: Int32[np.ndarray, "h w"], keep: Bool[np.ndarray, " n"], how: Postprocess
) -> Bool[np.ndarray, "h w"]:
    kept = keep[labels]
    if not how.fill_holes:
        return kept
    from scipy import ndimage

    return np.asarray(ndimage.binary_fill_holes(kept))


def erode(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Take away the pixels of a mask that have one of their four neighbours outside of the mask, or of the image."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
