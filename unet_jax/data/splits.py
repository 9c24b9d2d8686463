"""Which slices are for training, validation and test; patients on two sides are an error."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

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
    """How the dataset's masks were shrunk."""
    intensity_max: int
    """Largest intensity of the training slices at the network's size."""
    patients_straddling: int
    """Patients with slices both in training and in validation or test: zero but for kind `slice`."""
    train: list[int]
    val: list[int]
    test: list[int]

    def rows(self, arrays: Arrays, side: str) -> Int64[np.ndarray, " n"]:
        """Rows of the arrays on the side `train`, `val` or `test`, or of all slices, in the arrays' order."""
        if side == "all":
            return np.arange(len(arrays))
        return np.flatnonzero(np.isin(arrays.slices, getattr(self, side)))

    def to_json(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def load_split(path: Path) -> Split:
    """Read what `Split.to_json` gave; UserError if it is absent or no split."""
    try:
        return Split(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a workdir that `unet_jax.train` wrote.") from None
    except (ValueError, TypeError) as e:
        raise UserError(f"{path} is no split ({e}). Restore it, or start in an empty workdir.") from None


def make_split(arrays: Arrays, config: SplitConfig) -> Split:
    """Divide a dataset.

    `patient`: of each tumour type, patients in random order go to the side that lacks the largest part of its slices,
    so that none gets more than its fraction and one patient. `folds`: the same with equal parts, one of them for test
    and the next for validation. `official`: so with the dataset's own five folds. `slice`: slices in random order, by
    tumour type; validation is also test, as in the original notebook.

    Raises:
        UserError: a side is empty, folds are missing, or a patient is on two sides (kind `slice` excepted).
    """
    sides = {
        "patient": _by_patient,
        "folds": _by_drawn_folds,
        "official": _by_official_folds,
        "slice": _by_slice,
    }[config.kind](arrays, config)
    for name, rows in zip(SPLITS, sides, strict=True):
        if not len(rows):
            raise UserError(
                f"split {config.kind} of {len(arrays)} slices of {len(set(arrays.pids))} patients leaves none for "
                f"{name}. Use more data, or another --split.kind or fraction."
            )
    train, val, test = (set(arrays.pids[rows]) for rows in sides)
    straddling = len(train & (val | test))
    if config.kind != "slice" and (straddling or val & test):
        patient = sorted((train & (val | test)) | (val & test))[0]
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


Sides = tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"], Int64[np.ndarray, " c"]]


def _by_patient(arrays: Arrays, config: SplitConfig) -> Sides:
    fractions = np.array([1 - config.val_fraction - config.test_fraction, config.val_fraction, config.test_fraction])
    side_of = _dealt(arrays, fractions, config.seed)
    return tuple(np.flatnonzero(side_of == side) for side in range(3))  # pyright: ignore[reportReturnType]


def _by_drawn_folds(arrays: Arrays, config: SplitConfig) -> Sides:
    return _rotated(1 + _dealt(arrays, np.full(config.folds, 1 / config.folds), config.seed), config)


def _by_official_folds(arrays: Arrays, config: SplitConfig) -> Sides:
    if not np.isin(arrays.folds, range(1, 6)).all():
        missing = int((~np.isin(arrays.folds, range(1, 6))).sum())
        raise UserError(
            f"{missing} of {len(arrays)} slices have no fold from 1 to 5. Convert with the dataset's cvind.mat "
            "beside its slices, or use --split.kind patient."
        )
    return _rotated(arrays.folds, config)


def _dealt(arrays: Arrays, fractions: Float64[np.ndarray, " parts"], seed: int) -> Int64[np.ndarray, " n"]:
    """The part of each row: patients whole, and of each tumour type about the given fraction of the slices."""
    rng = np.random.default_rng(seed)
    part_of = np.zeros(len(arrays), np.int64)
    patients, first = np.unique(arrays.pids, return_index=True)
    # A patient with slices of several types counts as the type of the first of them.
    types = arrays.labels[first]
    for label in np.unique(types):
        group = rng.permutation(patients[types == label])
        members = {pid: np.flatnonzero(arrays.pids == pid) for pid in group}
        wanted = fractions * sum(len(m) for m in members.values())
        filled = np.zeros(len(fractions))
        for pid in group:
            part = int(np.argmax((wanted - filled) / wanted))
            part_of[members[pid]] = part
            filled[part] += len(members[pid])
    return part_of


def _rotated(folds: Int64[np.ndarray, " n"], config: SplitConfig) -> Sides:
    """Of folds 1 to n, `config.fold` is for test, the next one for validation, the others for training."""
    val = config.fold % config.last_fold + 1
    chosen = [~np.isin(folds, (config.fold, val)), folds == val, folds == config.fold]
    return tuple(np.flatnonzero(c) for c in chosen)  # pyright: ignore[reportReturnType]


def _by_slice(arrays: Arrays, config: SplitConfig) -> Sides:
    rng = np.random.default_rng(config.seed)
    test = np.zeros(len(arrays), bool)
    for label in np.unique(arrays.labels):
        rows = rng.permutation(np.flatnonzero(arrays.labels == label))
        test[rows[: round(config.test_fraction * len(rows))]] = True
    held_out = np.flatnonzero(test)
    return np.flatnonzero(~test), held_out, held_out
