"""Division of a dataset's slices into training, validation and test; a patient on two sides is an error."""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64

from unet_jax.config import SPLITS, SplitConfig, UserError
from unet_jax.data.converted.arrays import Arrays


@dataclass(frozen=True)
class Split:
    """Slice numbers of each side, with what they were drawn from; stored as split.json in the workdir."""

    kind: str
    data_digest: str
    """Digest of the converted dataset."""
    size: int
    """Side of the dataset's images in pixels."""
    mask_rule: str
    """Rule by which the dataset's masks were shrunk."""
    intensity_max: int
    """Largest intensity of the training slices at the network's size."""
    patients_straddling: int
    """Patients with slices both in training and in validation or test: zero but for the kinds `slice` and `whole`."""
    train: list[int]
    val: list[int]
    test: list[int]

    def rows(self, arrays: Arrays, side: str) -> Int64[np.ndarray, " n"]:
        """Find the rows of the arrays on the side `train`, `val` or `test`, or `all` rows, in the arrays' order."""
        if side == "all":
            return np.arange(len(arrays))
        return np.flatnonzero(np.isin(arrays.slices, getattr(self, side)))

    def to_json(self) -> str:
        """Write the split as `load_split` reads it."""
        return json.dumps(asdict(self)) + "\n"


def load_split(path: Path) -> Split:
    """Read what `Split.to_json` gave; UserError if it is absent or no split."""
    try:
        return Split(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a workdir that `unet_jax.train` wrote.") from None
    except (ValueError, TypeError) as e:
        raise UserError(f"{path} is no split ({e}). Restore it, or start in an empty workdir.") from None


def make_split(arrays: Arrays, config: SplitConfig, folds: Int[np.ndarray, " n"] | None = None) -> Split:
    """Divide a dataset into training, validation and test.

    `patient`: patients whole, each side with its fraction of every tumour type's slices to within one patient. `folds`:
    patients whole in equal folds, one of them for test and the next for validation. `official`: so with the dataset's
    own five folds. `slice`: slices whoever they are of, by tumour type; validation is also test, as in the original
    notebook. `whole`: all slices for training, every tenth of them for validation and test too.

    Args:
        arrays: the dataset.
        config: kind, seed and fractions.
        folds: fold of each slice, from 1, as `draw_folds` drew them earlier for kind `folds`; None draws them.

    Raises:
        UserError: a side is empty, folds are missing, or, but for the kinds `slice` and `whole`, a patient is on two
            sides.
    """
    if config.kind == "patient":
        sides = _by_patient(arrays, config)
    elif config.kind == "slice":
        sides = _by_slice(arrays, config)
    elif config.kind == "whole":
        every = np.arange(len(arrays))
        sides = every, every[::10], every[::10]
    elif config.kind == "official":
        sides = _by_folds(_official_folds(arrays), config)
    else:
        sides = _by_folds(draw_folds(arrays, config) if folds is None else folds, config)
    for name, rows in zip(SPLITS, sides, strict=True):
        if not len(rows):
            raise _leaves_none(arrays, config, name)
    train, val, test = (set(arrays.pids[rows]) for rows in sides)
    straddling = len(train & (val | test))
    if config.kind not in ("slice", "whole") and (straddling or val & test):
        patient = min((train & (val | test)) | (val & test))
        raise UserError(
            f"patient {patient} is on two sides of split {config.kind} (its slices are in several folds). "
            "Use --split.kind patient."
        )
    return Split(
        kind=config.kind,
        data_digest=arrays.digest,
        size=arrays.size,
        mask_rule=arrays.mask_rule,
        intensity_max=int(max(arrays.images[row].max() for row in sides[0])),
        patients_straddling=straddling,
        **{name: [int(s) for s in arrays.slices[rows]] for name, rows in zip(SPLITS, sides, strict=True)},
    )


def draw_folds(arrays: Arrays, config: SplitConfig) -> Int64[np.ndarray, " n"]:
    """Draw `config.folds` folds with patients whole and, of each tumour type, about equally many slices.

    The seed decides among patients of one type who have equally many slices: the larger ones are placed first.

    Returns:
        Fold of each slice, from 1.

    Raises:
        UserError: there are fewer patients, or fewer slices of every type, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    # A patient with slices of several types counts as the type of the first of them, here and under `patient`.
    _, first, patient_of = np.unique(arrays.pids, return_index=True, return_inverse=True)
    types = arrays.labels[first][patient_of]
    division = StratifiedGroupKFold(config.folds, shuffle=True, random_state=config.seed % 2**32)
    folds = np.zeros(len(arrays), np.int64)
    try:
        # A type of fewer slices than folds, of which it warns, is in some of the folds only.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            for fold, (_, rows) in enumerate(division.split(types, types, arrays.pids), 1):
                folds[rows] = fold
    except ValueError as e:
        raise _leaves_none(arrays, config, f"one of {config.folds} folds") from e
    return folds


Sides = tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"], Int64[np.ndarray, " c"]]


def _leaves_none(arrays: Arrays, config: SplitConfig, side: str) -> UserError:
    return UserError(
        f"split {config.kind} of {len(arrays)} slices of {len(set(arrays.pids))} patients leaves none for {side}. "
        "Use more data, or another --split.kind or fraction."
    )


def _by_patient(arrays: Arrays, config: SplitConfig) -> Sides:
    """Deal the patients of each tumour type, in random order, to the side that lacks most slices.

    The first three go one to each side. Later a side that is given a patient lacks at least as much as any other, so
    none ends a patient of the type above or below its fraction, unless the fraction is less than a patient.
    """
    # scikit-learn divides groups into equal folds, and folds joined to sides hold multiples of a fold: with twenty of
    # them 60, 13 and 27 % were missed by up to 3.7 patients. Its GroupShuffleSplit heeds neither types nor slices.
    fractions = np.array([1 - config.val_fraction - config.test_fraction, config.val_fraction, config.test_fraction])
    rng = np.random.default_rng(config.seed)
    _, first, patient_of, counts = np.unique(arrays.pids, return_index=True, return_inverse=True, return_counts=True)
    types = arrays.labels[first]
    side_of = np.zeros(len(first), np.int64)
    for label in np.unique(types):
        group = rng.permutation(np.flatnonzero(types == label))
        lacking = fractions * counts[group].sum()
        for place, patient in enumerate(group):
            side = place if place < len(lacking) else int(np.argmax(lacking))
            side_of[patient] = side
            lacking[side] -= counts[patient]
    train, val, test = (np.flatnonzero(side_of[patient_of] == side) for side in range(3))
    return train, val, test


def _by_slice(arrays: Arrays, config: SplitConfig) -> Sides:
    from sklearn.model_selection import train_test_split

    how = {"test_size": config.test_fraction, "random_state": config.seed % 2**32, "stratify": arrays.labels}
    try:
        train, test = train_test_split(np.arange(len(arrays)), **how)
    except ValueError as e:  # a type of one slice, or fewer slices to hold out than there are types
        raise _leaves_none(arrays, config, "val") from e
    return np.sort(train), np.sort(test), np.sort(test)


def _by_folds(folds: Int[np.ndarray, " n"], config: SplitConfig) -> Sides:
    """Take fold `config.fold` for test, the next one for validation, the others for training."""
    is_test, is_val = folds == config.fold, folds == config.fold % config.last_fold + 1
    return np.flatnonzero(~is_test & ~is_val), np.flatnonzero(is_val), np.flatnonzero(is_test)


def _official_folds(arrays: Arrays) -> Int[np.ndarray, " n"]:
    missing = int((~np.isin(arrays.folds, range(1, 6))).sum())
    if missing:
        raise UserError(
            f"{missing} of {len(arrays)} slices have no fold from 1 to 5. Convert with the dataset's cvind.mat "
            "beside its slices, or use --split.kind patient."
        )
    return arrays.folds
