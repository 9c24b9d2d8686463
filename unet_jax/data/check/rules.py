"""What can be wrong with a dataset: each rule by name, how much it matters, and what `convert` does about it."""

from dataclasses import dataclass
from typing import Literal

from unet_jax.imaging.formats import mat

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong with a slice, a patient or a file."""

    name: str
    severity: Severity
    """error: `convert` refuses it, or it makes training or scores wrong. warning: a person should have a look."""
    meaning: str
    convert: str
    """What `convert` does with it."""


_REFUSED = "refused: lists the file with this reason; --skip-bad leaves it out"
_TAKEN = "taken as it is"
_MAKES = "makes the dataset anew"

# Of a raw slice.
UNREADABLE = Rule(mat.UNREADABLE, "error", "no MATLAB 7.3 file, or one that is cut off or garbled", _REFUSED)
MISSING_FIELD = Rule(mat.MISSING_FIELD, "error", "a field of the slice is not in the file", _REFUSED)
WRONG_FIELD = Rule(
    mat.WRONG_FIELD, "error", "a field has another type or rank, no usable values, or keeps them elsewhere", _REFUSED
)
NOT_FINITE = Rule(mat.NOT_FINITE, "error", "the image or the border has NaN or infinite values", _REFUSED)
NOT_INT16 = Rule(mat.NOT_INT16, "error", "intensities are fractional, or beyond -32768 to 32767", _REFUSED)
MASK_VALUES = Rule(mat.MASK_VALUES, "error", "the mask has values other than 0 and 1", _REFUSED)
MASK_SHAPE = Rule(mat.MASK_SHAPE, "error", "the mask has another shape than the image", _REFUSED)
LABEL = Rule(mat.LABEL, "error", "the label is none of 1, 2 and 3", _REFUSED)
MASK_BORDER = Rule("mask-border", "warning", "the mask is not the inside of the tumour's border: IoU below 0.9", _TAKEN)

# Of a slice, raw or converted.
CONSTANT_IMAGE = Rule("constant-image", "warning", "every pixel of the image has the same value", _TAKEN)
EQUAL_PERCENTILES = Rule(
    "equal-percentiles", "warning", "1st and 99th percentile agree: normalised by them, the image is black", _TAKEN
)
EMPTY_MASK = Rule("empty-mask", "warning", "the mask marks no tumour", _TAKEN)

# Of several slices together.
DUPLICATE_IMAGE = Rule(
    "duplicate-image", "error", "an image stands under two numbers; it counts twice, and may be in training and test",
    f"{_TAKEN}, and named when it is done",
)  # fmt: skip
PATIENT_TYPES = Rule(
    "patient-types",
    "warning",
    "a patient has slices of several tumour types",
    f"{_TAKEN}; splits count it as the first",
)
FOLD_MISSING = Rule("fold-missing", "warning", "no fold from 1 to 5: --split.kind official refuses the dataset", _TAKEN)
PATIENT_FOLDS = Rule(
    "patient-folds", "warning", "a patient is in several folds: --split.kind official refuses the dataset", _TAKEN
)

# Of a converted dataset.
DAMAGED = Rule("damaged-dataset", "error", "the converted dataset does not open", _MAKES)
CHANGED_FILE = Rule("changed-file", "error", "a file has another SHA-256 than when it was written", _MAKES)
CHANGED_CONTENT = Rule("changed-content", "error", "the rows have another digest than dataset.json names", _MAKES)
NATIVE_MASK = Rule(
    "native-mask", "error", "a native mask cannot be read, or has another number of tumour pixels than its row", _MAKES
)
LOST_TUMOR = Rule(
    "lost-tumor", "warning", "the tumour is too small for the mask at the network's size, which is empty", _TAKEN
)

RULES = (
    UNREADABLE,
    MISSING_FIELD,
    WRONG_FIELD,
    NOT_FINITE,
    NOT_INT16,
    MASK_VALUES,
    MASK_SHAPE,
    LABEL,
    MASK_BORDER,
    CONSTANT_IMAGE,
    EQUAL_PERCENTILES,
    EMPTY_MASK,
    DUPLICATE_IMAGE,
    PATIENT_TYPES,
    FOLD_MISSING,
    PATIENT_FOLDS,
    DAMAGED,
    CHANGED_FILE,
    CHANGED_CONTENT,
    NATIVE_MASK,
    LOST_TUMOR,
)
"""In the order of a report."""

BY_NAME = {rule.name: rule for rule in RULES}
