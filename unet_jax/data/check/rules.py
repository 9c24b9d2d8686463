"""Rules of a dataset: what can be wrong, how much it matters, and what `convert` does about it."""

from enum import Enum

# error: `convert` refuses it, or it makes training or scores wrong. warning: a person should have a look.
_REFUSED = "error", "refused: lists the file with this reason; --skip-bad leaves it out"
_TAKEN = "warning", "taken as it is"
_MAKES = "error", "makes the dataset anew"


class Rule(Enum):
    """One thing that can be wrong with a slice, a patient or a file; in the order of a report."""

    # A raw slice; the names of all but the last are those that `formats.mat` gives.
    UNREADABLE_FILE = "no MATLAB 7.3 file, or one that is cut off or garbled", _REFUSED
    MISSING_FIELD = "a field of the slice is not in the file", _REFUSED
    WRONG_FIELD = "a field has another type or rank, no usable values, or keeps them elsewhere", _REFUSED
    NOT_FINITE = "the image or the border has NaN or infinite values", _REFUSED
    NOT_INT16 = "intensities are fractional, or beyond -32768 to 32767", _REFUSED
    MASK_VALUES = "the mask has values other than 0 and 1", _REFUSED
    MASK_SHAPE = "the mask has another shape than the image", _REFUSED
    LABEL = "the label is none of 1, 2 and 3", _REFUSED
    MASK_BORDER = "the mask is not the inside of the tumour's border: IoU below 0.9", _TAKEN

    # A slice, raw or converted.
    CONSTANT_IMAGE = "every pixel of the image has the same value", _TAKEN
    EQUAL_PERCENTILES = "1st and 99th percentile agree: normalised by them, the image is black", _TAKEN
    EMPTY_MASK = "the mask marks no tumour", _TAKEN

    # Several slices together.
    DUPLICATE_IMAGE = (
        "an image stands under two numbers; it counts twice, and may be in training and test",
        ("error", "taken as it is, and named when it is done"),
    )
    PATIENT_TYPES = (
        "a patient has slices of several tumour types",
        ("warning", "taken as it is; splits count it as the first"),
    )
    FOLD_MISSING = "no fold from 1 to 5: --split.kind official refuses the dataset", _TAKEN
    PATIENT_FOLDS = "a patient is in several folds: --split.kind official refuses the dataset", _TAKEN

    # A converted dataset.
    DAMAGED_DATASET = "the converted dataset does not open", _MAKES
    CHANGED_FILE = "a file has another SHA-256 than when it was written", _MAKES
    CHANGED_CONTENT = "the rows have another digest than dataset.json names", _MAKES
    NATIVE_MASK = "a native mask cannot be read, or has another number of tumour pixels than its row", _MAKES
    LOST_TUMOR = "the tumour is too small for the mask at the network's size, which is empty", _TAKEN

    def __init__(self, meaning: str, treatment: tuple[str, str]):
        self.code, self.meaning = self.name.lower().replace("_", "-"), meaning
        self.severity, self.convert = treatment
