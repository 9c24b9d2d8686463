"""Every default of the program, as frozen dataclasses; presets; validation; JSON round trip. Standard library only."""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

TUMORS = ("meningioma", "glioma", "pituitary")
"""Tumour types in the order of the dataset's labels 1, 2, 3."""

SPLITS = ("train", "val", "test")

OUT_OF_FOLD = "oof"
"""What a cross-validation's slices, each scored by the network that left it out, are called where a split is named."""

FIGSHARE_API = "https://api.figshare.com/v2"
"""Where the dataset's article is asked for."""

MaskRule = Literal["area", "any"]
PresetName = Literal["demo", "original"]
SplitKind = Literal["patient", "folds", "official", "slice"]
SplitName = Literal["val", "test", "train", "all"]


class UserError(Exception):
    """Something the person at the keyboard can mend: shown as one line without a traceback, exit code 2."""


class RunError(Exception):
    """Work that failed on its way, such as a loss that is not finite: one line without a traceback, exit code 1."""


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    width: int = 64
    """Channels of the first level; each further level has twice as many."""
    levels: int = 4
    """Levels of the contracting path. Image sides must be multiples of 2**levels."""
    classes: Literal[1, 3] = 1
    """1: tumour or not. 3: one output per tumour type; the tumour's probability is then the largest of the three."""
    norm: Literal["pool", "conv", "none"] = "pool"
    """Where batch normalisation stands: after each pooling, after each 3x3 convolution, or nowhere."""
    norm_momentum: float = 0.8
    """Momentum of the running mean and variance."""
    dropout: float = 0.1
    """Fraction of values dropped after each pooling and each concatenation."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What convolutions are computed in. Parameters, statistics, loss and optimizer are float32 in both cases."""
    remat: bool = False
    """Compute activations again for the gradient instead of keeping them: less memory, more time."""

    @property
    def stride(self) -> int:
        return 2**self.levels


@dataclass(frozen=True)
class PreprocessConfig:
    """From raw intensities to network input."""

    kind: Literal["percentile", "fixed"] = "percentile"
    """percentile: from the slice's own 1st and 99th percentile to 0 and 1. fixed: divided by `scale`."""
    scale: float = 12728.0
    """Divisor of `fixed`; the default is the largest intensity of the Figshare dataset."""


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training slices, image and mask alike."""

    horizontal_flip: bool = True
    """Mirror left and right with probability one half."""


@dataclass(frozen=True)
class LossConfig:
    """bce * binary cross-entropy + dice * Dice loss."""

    bce: float = 1.0
    """Weight of the cross-entropy, a mean over pixels."""
    dice: float = 1.0
    """Weight of the Dice loss, which takes the batch as one image."""
    smoothing: float = 1.0
    """Added to numerator and denominator of the Dice coefficient."""


@dataclass(frozen=True)
class OptimConfig:
    """Adam and its schedule."""

    epochs: int = 50
    learning_rate: float = 1e-3
    schedule: Literal["exponential", "cosine", "constant"] = "exponential"
    """How the learning rate goes from `learning_rate` to `final_learning_rate` over the run."""
    final_learning_rate: float = 1e-4
    warmup_epochs: float = 0.0
    """Linear rise from zero at the start."""
    clip_norm: float = 0.0
    """Largest global norm of the gradient; 0 clips nothing."""
    early_stopping: int = 0
    """Stop after so many epochs without a better validation IoU; 0 never stops."""


@dataclass(frozen=True)
class LoaderConfig:
    """How batches reach the device."""

    batch_size: int = 32
    pipeline: Literal["auto", "tfdata", "device"] = "auto"
    """tfdata streams from disk, device keeps the arrays in device memory; auto is tfdata where TensorFlow is there."""


@dataclass(frozen=True)
class SplitConfig:
    """Which slices are for training, validation and test."""

    kind: SplitKind = "patient"
    """patient: by tumour type, patients kept whole. folds: likewise, in `folds` equal parts. official: the dataset's
    five folds. slice: 80/20 by slice, validation is also test, patients straddle (only to compare with work that did
    so)."""
    seed: int = 0
    val_fraction: float = 0.1
    """Fraction of slices for validation, under `patient`."""
    test_fraction: float = 0.2
    """Fraction of slices for test, under `patient` and `slice`."""
    folds: int = 5
    """Number of parts under `folds`."""
    fold: int = 1
    """Under `folds` and `official`: the fold for test, from 1; the next is validation."""

    @property
    def last_fold(self) -> int:
        """The dataset's own folds are five, whatever `folds` is."""
        return self.folds if self.kind == "folds" else 5


@dataclass(frozen=True)
class Config:
    """All that decides the outcome of a training run; stored as config.json in the workdir."""

    preset: PresetName = "original"
    """The starting configuration; further options override it. Default: demo without --data, else original."""
    data: str | None = None
    """Folder of a converted dataset, or tfds:NAME for one that `unet_jax.tfds` prepared. Without it the embedded
    phantom is used."""
    seed: int = 0
    """Seed of the weights, the order of slices, dropout and augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    split: SplitConfig = field(default_factory=SplitConfig)


@dataclass(frozen=True)
class DistributedConfig:
    """Several processes that train one network together. Under SLURM nothing need be given."""

    coordinator: str | None = None
    """HOST:PORT of the process of index 0, the same for all."""
    num_processes: int | None = None
    """How many they are."""
    process_id: int | None = None
    """Which of them this is, from 0."""


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of the phantom."""

    patients: int = 64
    """Number of patients, spread evenly over the three tumour types."""
    seed: int = 0
    """Seed of the patients and their slices."""


@dataclass(frozen=True)
class ConvertConfig:
    """How a raw slice becomes a row of the arrays."""

    size: int = 128
    """Side of the square images and masks, in pixels."""
    mask_rule: MaskRule = "area"
    """Which pixels of the shrunk mask are tumour. area: those of which over half is. any: the original notebook's,
    wherever the smoothed mask is above zero, which grows a mask 1.3 to 2.4 times at 128."""


DEMO_CONVERT = ConvertConfig(size=64)
"""How `train` converts the phantom."""


def preset(name: PresetName, data: str | None = None) -> Config:
    """The starting configuration of that name."""
    if name == "demo":
        return Config(
            preset="demo",
            data=data,
            model=ModelConfig(width=16, norm="conv"),
            optim=OptimConfig(epochs=14, learning_rate=5e-3, final_learning_rate=3e-4),
            loader=LoaderConfig(batch_size=8),
        )
    return Config(preset="original", data=data)


def fold_configs(config: Config, folds: int) -> list[Config]:
    """The configurations of a cross-validation's runs: equal but for `split.fold`.

    Args:
        config: of any of them. Its split is by `official` folds, or by drawn ones.
        folds: their number.

    Raises:
        UserError: the official folds are five, or a value is out of range.
    """
    split = config.split
    if split.kind == "official" and folds != 5:
        raise UserError(f"--folds is {folds}; the dataset's official folds are 5.")
    if split.kind == "slice":
        raise UserError("--split.kind slice has no folds. Use patient, folds or official.")
    kind = "official" if split.kind == "official" else "folds"
    splits = [dataclasses.replace(split, kind=kind, folds=folds, fold=fold) for fold in range(1, folds + 1)]
    return [validate(dataclasses.replace(config, split=s)) for s in splits]


def validate(config: Config) -> Config:
    """Return `config` if every value is in its range; raise UserError naming the first that is not."""
    c = config
    rules: list[tuple[str, Any, bool, str]] = [
        ("data", c.data, c.data != "", "a folder"),
        # What jax.random.key tells apart.
        ("seed", c.seed, 0 <= c.seed < 2**32, "0 to 4294967295"),
        ("model.width", c.model.width, c.model.width >= 1, "at least 1"),
        ("model.levels", c.model.levels, 1 <= c.model.levels <= 8, "1 to 8"),
        ("model.norm-momentum", c.model.norm_momentum, 0 <= c.model.norm_momentum < 1, "in [0, 1)"),
        ("model.dropout", c.model.dropout, 0 <= c.model.dropout < 1, "in [0, 1)"),
        ("preprocess.scale", c.preprocess.scale, c.preprocess.scale > 0, "above 0"),
        ("loss.bce", c.loss.bce, c.loss.bce >= 0, "at least 0"),
        (
            "loss.dice",
            c.loss.dice,
            c.loss.dice >= 0 and c.loss.bce + c.loss.dice > 0,
            "at least 0, and above 0 if loss.bce is 0",
        ),
        ("loss.smoothing", c.loss.smoothing, c.loss.smoothing > 0, "above 0"),
        ("optim.epochs", c.optim.epochs, c.optim.epochs >= 1, "at least 1"),
        ("optim.learning-rate", c.optim.learning_rate, c.optim.learning_rate > 0, "above 0"),
        ("optim.final-learning-rate", c.optim.final_learning_rate, c.optim.final_learning_rate > 0, "above 0"),
        (
            "optim.warmup-epochs",
            c.optim.warmup_epochs,
            0 <= c.optim.warmup_epochs < c.optim.epochs,
            "at least 0 and less than optim.epochs",
        ),
        ("optim.clip-norm", c.optim.clip_norm, c.optim.clip_norm >= 0, "at least 0"),
        ("optim.early-stopping", c.optim.early_stopping, c.optim.early_stopping >= 0, "at least 0"),
        ("loader.batch-size", c.loader.batch_size, c.loader.batch_size >= 1, "at least 1"),
        ("split.seed", c.split.seed, c.split.seed >= 0, "at least 0"),
        ("split.val-fraction", c.split.val_fraction, 0 < c.split.val_fraction < 1, "in (0, 1)"),
        (
            "split.test-fraction",
            c.split.test_fraction,
            c.split.test_fraction > 0 and c.split.val_fraction + c.split.test_fraction < 1,
            "above 0, and less than 1 together with split.val-fraction",
        ),
        ("split.folds", c.split.folds, 3 <= c.split.folds <= 100, "3 to 100: one for test, one for validation"),
        ("split.fold", c.split.fold, 1 <= c.split.fold <= c.split.last_fold, f"1 to {c.split.last_fold}"),
    ]
    for name, value, ok, expected in rules:
        if not ok or (isinstance(value, float) and not math.isfinite(value)):
            raise UserError(f"--{name} is {value!r}; it must be {expected}.")
    return config


ADDED_LATER = frozenset({"model.precision", "model.remat", "split.folds"})
"""Names that a configuration of an earlier version lacks; their defaults are what that version did."""


def validate_distributed(given: DistributedConfig) -> DistributedConfig:
    """Return `given` if it says nothing or all there is to say; raise UserError naming what does not fit."""
    values = (given.coordinator, given.num_processes, given.process_id)
    if values == (None, None, None):
        return given
    if given.coordinator is None or given.num_processes is None or given.process_id is None:
        raise UserError(
            "--distributed.coordinator, --distributed.num-processes and --distributed.process-id belong together; "
            "give all three, or under SLURM none."
        )
    host, _, port = given.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--distributed.coordinator is {given.coordinator!r}; it must be HOST:PORT.")
    if given.num_processes < 1:
        raise UserError(f"--distributed.num-processes is {given.num_processes}; it must be at least 1.")
    if not 0 <= given.process_id < given.num_processes:
        raise UserError(
            f"--distributed.process-id is {given.process_id}; it must be 0 to {given.num_processes - 1}, a different "
            "one for each process."
        )
    return given


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted option names, as on the command line, to values."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), prefix + f.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, name + "."))
        else:
            flat[name] = value
    return flat


def to_json(config: Config) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str | bytes, source: str) -> Config:
    """Read what `to_json` wrote.

    Args:
        text: the JSON.
        source: what to call it in an error.

    Raises:
        UserError: not JSON, an unknown or missing name, or a value of another type or out of range. A name in
            ADDED_LATER may be missing.
    """
    try:
        raw = json.loads(text)
    except ValueError as e:
        raise UserError(f"{source} is not JSON ({e}). Restore it, or start in an empty workdir.") from None
    return validate(_build(Config, raw, source, ""))


def read_config(path: Path) -> Config:
    """The configuration stored at `path`; UserError if it is absent or wrong."""
    try:
        return from_json(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist; expected a workdir that `unet_jax.train` wrote.") from None


def _build(cls: type, raw: Any, source: str, prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(raw, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the top level'} is {raw!r}; expected an object.")
    odd = {prefix + name for name in set(raw) ^ set(hints) if name in raw or prefix + name not in ADDED_LATER}
    if odd:
        named = ", ".join(sorted(odd))
        raise UserError(f"{source} does not fit this version of unet_jax (unknown or missing: {named}).")
    values = {}
    for name, hint in hints.items():
        if name not in raw:
            continue
        value = raw[name]
        if dataclasses.is_dataclass(hint):
            value = _build(typing.cast(type, hint), value, source, f"{prefix}{name}.")
        else:
            if hint is float and type(value) is int:
                value = float(value)
            if not _fits(value, hint):
                raise UserError(f"{source}: {prefix}{name} is {value!r}; expected {getattr(hint, '__name__', hint)}.")
        values[name] = value
    return cls(**values)


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in typing.get_args(hint))
    if isinstance(hint, types.UnionType):
        return any(_fits(value, h) for h in typing.get_args(hint))
    return type(value) is hint
