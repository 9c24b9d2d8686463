"""Every default of the program, as frozen dataclasses."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from unet_jax.config.checks import Checked, Rule, added, option_name
from unet_jax.config.errors import UserError
from unet_jax.config.optim import OptimConfig

TUMORS = ("meningioma", "glioma", "pituitary")
"""Tumour types in the order of the dataset's labels 1, 2, 3."""

SPLITS = ("train", "val", "test")

OUT_OF_FOLD = "oof"
"""Name, where a split is named, of a cross-validation's slices, each scored by the network that left it out."""

FIGSHARE_API = "https://api.figshare.com/v2"
"""Root of the API that has the dataset's article."""

MaskRule = Literal["area", "any"]
PresetName = Literal["demo", "original", "best"]
SplitKind = Literal["patient", "folds", "official", "slice", "whole"]
SplitName = Literal["val", "test", "train", "all"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The network."""

    width: int = 64
    """Channels of the first level; each further level has twice as many."""
    levels: int = 4
    """Levels of the contracting path. Image sides must be multiples of 2**levels. 5 for efficientnet_lite0."""
    classes: Literal[1, 3] = 1
    """1: tumour or not. 3: one output per tumour type; the tumour's probability is then the largest of the three."""
    norm: Literal["pool", "conv", "none"] = "pool"
    """Place of batch normalisation: after each pooling, after each 3x3 convolution, or nowhere."""
    norm_momentum: float = 0.8
    """Momentum of the running mean and variance."""
    dropout: float = 0.1
    """Fraction of values dropped after each pooling and each concatenation."""
    precision: Precision = added("float32", since="0.1.0")
    """Type that convolutions are computed in; parameters, statistics, loss and optimizer are float32. auto, the default
    of a new run: bfloat16 on a CPU that multiplies it, else float32. May be given anew when a run is resumed; auto then
    is what it has."""
    remat: bool = added(False, since="0.1.0")
    """Compute activations again for the gradient instead of keeping them: less memory, more time."""
    encoder: Literal["plain", "efficientnet_lite0"] = added("plain", since="0.2.0")
    """Contracting path. plain: two 3x3 convolutions a level. efficientnet_lite0: inverted residuals, 3.0 million
    values, which may start from `encoder_weights`."""
    encoder_weights: str = added("none", since="0.2.0")
    """Weights that the encoder of a new run starts from: none (drawn), a .safetensors file, or hf:REPO[@REVISION]."""
    decoder_widths: tuple[int, ...] = added((), since="0.2.0")
    """Channels of the decoder's levels, from full size down. Without any: `width`, and twice as many each level."""

    @property
    def stride(self) -> int:
        """Number that image sides must be multiples of."""
        return 2**self.levels

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level of the plain encoder, from full size down."""
        return tuple(self.width * 2**level for level in range(self.levels))

    @property
    def upward_widths(self) -> tuple[int, ...]:
        """Channels of each level of the decoder, from full size down."""
        return self.decoder_widths or self.widths

    def rules(self) -> Iterable[Rule]:
        yield Rule("width", self.width >= 1, "at least 1")
        yield Rule("levels", 1 <= self.levels <= 8, "1 to 8")
        plain = self.encoder == "plain"
        yield Rule("levels", plain or self.levels == 5, f"5 under --model.encoder {self.encoder}")
        yield Rule("norm_momentum", 0 <= self.norm_momentum < 1, "in [0, 1)")
        yield Rule("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        weights = self.encoder_weights
        source = weights == "none" or weights.endswith(".safetensors") or weights.startswith("hf:")
        yield Rule("encoder_weights", source, "none, a .safetensors file, or hf:REPO[@REVISION]")
        yield Rule("encoder_weights", not plain or weights == "none", "none under --model.encoder plain")
        fits = len(self.decoder_widths) in (0, self.levels) and all(width >= 1 for width in self.decoder_widths)
        yield Rule(
            "decoder_widths", fits, f"{self.levels} numbers of at least 1, one for each of model.levels, or none"
        )


@dataclass(frozen=True)
class PreprocessConfig(Checked):
    """From raw intensities to network input."""

    kind: Literal["percentile", "fixed"] = "percentile"
    """percentile: from the slice's own 1st and 99th percentile to 0 and 1. fixed: divided by `scale`."""
    scale: float = 12728.0
    """Divisor of `fixed`; the default is the largest intensity of the Figshare dataset."""

    def rules(self) -> Iterable[Rule]:
        yield Rule("scale", self.scale > 0, "above 0")


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Random changes of training slices, drawn anew for every slice.

    A strength of 0 is off; NAME-p is the probability that NAME changes a slice.
    """

    horizontal_flip: bool = True
    """Mirror left and right, image and mask alike, with probability one half."""
    vertical_flip: bool = added(False, since="0.2.0")
    """Mirror above and below, image and mask alike, with probability one half."""
    rotation: float = added(0.0, since="0.2.0")
    """Turn image and mask by up to so many degrees either way."""
    rotation_p: float = added(0.5, since="0.2.0")
    zoom: float = added(0.0, since="0.2.0")
    """Enlarge or shrink image and mask by a factor of up to 1 + zoom."""
    zoom_p: float = added(0.5, since="0.2.0")
    stretch: float = added(0.0, since="0.2.0")
    """Change the height of image and mask against their width by a factor of up to 1 + stretch."""
    stretch_p: float = added(0.5, since="0.2.0")
    shear: float = added(0.0, since="0.2.0")
    """Slant image and mask by up to so many degrees either way."""
    shear_p: float = added(0.5, since="0.2.0")
    shift: float = added(0.0, since="0.2.0")
    """Move image and mask along each axis by up to that fraction of the side."""
    shift_p: float = added(0.5, since="0.2.0")
    elastic: float = added(0.0, since="0.2.0")
    """Bend image and mask: smooth displacements of up to that fraction of the side."""
    elastic_p: float = added(0.5, since="0.2.0")
    blur: float = added(0.0, since="0.2.0")
    """Blur with a Gaussian of a standard deviation of up to so many pixels."""
    blur_p: float = added(0.5, since="0.2.0")
    low_resolution: float = added(0.0, since="0.2.0")
    """Coarsen, as if pixels were up to 1 + low-resolution times as large."""
    low_resolution_p: float = added(0.5, since="0.2.0")
    bias_field: float = added(0.0, since="0.2.0")
    """Brighten and darken smoothly over the image, by up to that fraction."""
    bias_field_p: float = added(0.5, since="0.2.0")
    noise: float = added(0.0, since="0.2.0")
    """Add Gaussian noise of a standard deviation of up to that; intensities reach from 0 to 1."""
    noise_p: float = added(0.5, since="0.2.0")
    contrast: float = added(0.0, since="0.2.0")
    """Scale distances from the mean intensity by a factor of up to 1 + contrast, or divide by it."""
    contrast_p: float = added(0.5, since="0.2.0")
    brightness: float = added(0.0, since="0.2.0")
    """Add up to that to all intensities of a slice, or subtract it."""
    brightness_p: float = added(0.5, since="0.2.0")
    gamma: float = added(0.0, since="0.2.0")
    """Raise intensities to a power between 1 / (1 + gamma) and 1 + gamma."""
    gamma_p: float = added(0.5, since="0.2.0")

    healthy: float = added(0.0, since="0.2.0")
    """Part of the slices with the tumour in one half of a symmetric head that are trained on without it: the other
    half's mirror image takes its place."""

    def rules(self) -> Iterable[Rule]:
        yield Rule("healthy", 0 <= self.healthy <= 1, "0 to 1")
        greatest = {
            "rotation": 180,
            "zoom": 3,
            "stretch": 3,
            "shear": 60,
            "shift": 1,
            "elastic": 0.25,
            "blur": 5,
            "low_resolution": 7,
            "bias_field": 1,
            "noise": 1,
            "contrast": 3,
            "brightness": 1,
            "gamma": 3,
        }
        for name, most in greatest.items():
            yield Rule(name, 0 <= getattr(self, name) <= most, f"0 to {most}")
            yield Rule(f"{name}_p", 0 <= getattr(self, f"{name}_p") <= 1, "0 to 1")


Weight = Annotated[float, "weight of a loss term"]


@dataclass(frozen=True)
class LossConfig(Checked):
    """A sum of loss terms, each times its weight. What has weight 0 is not computed."""

    bce: Weight = 1.0
    """Weight of the binary cross-entropy, a mean over pixels."""
    dice: Weight = 1.0
    """Weight of the Dice loss, which takes the batch as one image."""
    smoothing: float = 1.0
    """Added to numerator and denominator of the Dice, Jaccard and Tversky coefficients."""
    lovasz: Weight = added(0.0, since="0.2.0")
    """Weight of the Lovász hinge, which stands for 1 - IoU of each slice; a mean over slices."""
    slice_dice: Weight = added(0.0, since="0.2.0")
    """Weight of the Dice loss of each slice; a mean over slices."""
    jaccard: Weight = added(0.0, since="0.2.0")
    """Weight of the Jaccard loss, which takes the batch as one image."""
    tversky: Weight = added(0.0, since="0.2.0")
    """Weight of the Tversky loss, which takes the batch as one image."""
    tversky_alpha: float = added(0.3, since="0.2.0")
    """Price of a false positive in the Tversky loss; with 0.5 and 0.5 it is much like Dice."""
    tversky_beta: float = added(0.7, since="0.2.0")
    """Price of a false negative in the Tversky loss."""
    focal: Weight = added(0.0, since="0.2.0")
    """Weight of the focal loss, a mean over pixels."""
    focal_gamma: float = added(2.0, since="0.2.0")
    """Exponent of the focal loss: the higher, the less a pixel counts that is nearly right; 0 is the cross-entropy."""

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term, zero included, by the name of its field."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is Weight}

    def rules(self) -> Iterable[Rule]:
        for name, weight in self.weights.items():
            yield Rule(name, weight >= 0, "at least 0")
        first, *others = self.weights
        names = ", ".join(option_name(name) for name in others)
        yield Rule(first, any(self.weights.values()), f"above 0 unless another weight of the loss is: {names}")
        yield Rule("smoothing", self.smoothing > 0, "above 0")
        yield Rule("tversky_alpha", self.tversky_alpha > 0, "above 0")
        yield Rule("tversky_beta", self.tversky_beta > 0, "above 0")
        yield Rule("focal_gamma", self.focal_gamma >= 0, "at least 0")


@dataclass(frozen=True)
class LoaderConfig(Checked):
    """Batches, and their way to the device."""

    batch_size: int = 32
    pipeline: Literal["auto", "tfdata", "device"] = "auto"
    """tfdata streams from disk, device keeps the arrays in device memory; auto is tfdata where TensorFlow is there."""

    def rules(self) -> Iterable[Rule]:
        yield Rule("batch_size", self.batch_size >= 1, "at least 1")


@dataclass(frozen=True)
class SplitConfig(Checked):
    """Division of the slices into training, validation and test."""

    kind: SplitKind = "patient"
    """patient: by tumour type, patients kept whole. folds: likewise, in `folds` equal parts. official: the dataset's
    five folds. slice: 80/20 by slice, validation is also test, patients straddle (only to compare with work that did
    so). whole: all slices are for training, and a tenth of them stands for validation and test too, whose scores then
    tell nothing of other patients."""
    seed: int = 0
    val_fraction: float = 0.1
    """Fraction of slices for validation, under `patient`."""
    test_fraction: float = 0.2
    """Fraction of slices for test, under `patient` and `slice`."""
    folds: int = added(5, since="0.1.0")
    """Number of parts under `folds`."""
    fold: int = 1
    """Under `folds` and `official`: the fold for test, from 1; the next is validation."""

    @property
    def last_fold(self) -> int:
        """The dataset's own folds are five, whatever `folds` is."""
        return self.folds if self.kind == "folds" else 5

    def rules(self) -> Iterable[Rule]:
        yield Rule("seed", self.seed >= 0, "at least 0")
        yield Rule("val_fraction", 0 < self.val_fraction < 1, "in (0, 1)")
        rest = self.test_fraction > 0 and self.val_fraction + self.test_fraction < 1
        yield Rule("test_fraction", rest, "above 0, and less than 1 together with split.val-fraction")
        yield Rule("folds", 3 <= self.folds <= 100, "3 to 100: one for test, one for validation")
        yield Rule("fold", 1 <= self.fold <= self.last_fold, f"1 to {self.last_fold}")


@dataclass(frozen=True)
class Config(Checked):
    """All that decides the outcome of a training run; stored as config.json in the workdir."""

    preset: PresetName = "original"
    """The starting configuration; further options override it. Default: demo without --data, else original."""
    data: str | None = None
    """Folder of a converted dataset, or tfds:NAME for one that `unet_jax.tfds` prepared. Without it the embedded
    phantom is used."""
    seed: int = 0
    """Seed of the weights, the order of slices, dropout and augmentation."""
    init_from: str | None = added(None, since="0.2.0")
    """Network whose weights a new run starts from, where name and shape fit: another run's workdir (its best
    checkpoint), a folder that `unet_jax.export` wrote, or a model of the package by name."""
    model: ModelConfig = field(default_factory=ModelConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    split: SplitConfig = field(default_factory=SplitConfig)

    def rules(self) -> Iterable[Rule]:
        yield Rule("data", self.data != "", "a folder")
        yield Rule("seed", 0 <= self.seed < 2**32, "0 to 4294967295")  # what jax.random.key tells apart
        yield Rule("init_from", self.init_from != "", "a workdir, a folder of a model, or a name")
        # Its encoder would take the place of what was read for it.
        one = self.init_from is None or self.model.encoder_weights == "none"
        yield Rule("init_from", one, "given with --model.encoder-weights none, since it has an encoder of its own")


@dataclass(frozen=True)
class DistributedConfig(Checked):
    """Several processes that train one network together. Under SLURM nothing need be given."""

    coordinator: str | None = None
    """HOST:PORT of the process of index 0, the same for all."""
    num_processes: int | None = None
    """Number of processes."""
    process_id: int | None = None
    """Number of this process, from 0."""
    timeout: int = 120
    """Seconds that the processes wait for each other at the start."""

    def check(self, prefix: str = "distributed.") -> "DistributedConfig":
        """Return the object itself if nothing is given, or all there is to give; raise UserError naming what is odd."""
        given = (self.coordinator, self.num_processes, self.process_id)
        if None in given and given != (None, None, None):
            raise UserError(
                f"--{prefix}coordinator, --{prefix}num-processes and --{prefix}process-id belong together; "
                "give all three, or under SLURM none."
            )
        return super().check(prefix)

    def rules(self) -> Iterable[Rule]:
        yield Rule("timeout", 1 <= self.timeout <= 86400, "1 to 86400, a day")
        if self.coordinator is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        number_of_port = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
        yield Rule("coordinator", bool(host) and 1 <= number_of_port <= 65535, "HOST:PORT, with a port of 1 to 65535")
        count, number = self.num_processes or 0, self.process_id or 0
        yield Rule("num_processes", count >= 1, "at least 1")
        yield Rule("process_id", 0 <= number < count, f"0 to {count - 1}, a different one for each process")


@dataclass(frozen=True)
class PhantomConfig(Checked):
    """Settings of the phantom."""

    patients: int = 64
    """Number of patients, spread evenly over the three tumour types."""
    seed: int = 0
    """Seed of the patients and their slices."""


@dataclass(frozen=True)
class ConvertConfig(Checked):
    """Conversion of raw slices to rows of the arrays."""

    size: int = 128
    """Side of the square images and masks, in pixels."""
    mask_rule: MaskRule = "area"
    """Rule for the pixels of the shrunk mask that are tumour. area: those of which over half is. any: the original
    notebook's, wherever the smoothed mask is above zero, which grows a mask 1.3 to 2.4 times at 128."""

    def rules(self) -> Iterable[Rule]:
        yield Rule("size", 16 <= self.size <= 1024, "16 to 1024")
