"""`python -m unet_jax.predict --input FILE_OR_DIR --output DIR [--workdir W]`: masks of images."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unet_jax.config import UserError
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find the tumour in images: PNG, JPEG, TIFF, BMP, WebP, GIF, PGM, JPEG 2000, NumPy (.npy, .npz), the dataset's
    .mat, DICOM, and volumes: NIfTI, MGZ, NRRD, MetaImage."""

    workdir: tuple[Path, ...] | None = None
    """Folder of the trained run; the probabilities of several are averaged."""
    model: str | None = None
    """Instead of a workdir: a model of the package by its name, or a folder, FILE.onnx or FILE.stablehlo that
    `unet_jax.export` wrote. An ONNX file takes onnxruntime, and no jax. Default, without --workdir: best."""
    input: Path
    """Image, or folder of images; its subfolders are mirrored."""
    output: Path
    """Folder for predictions.csv and the masks (PNG, 0 and 255, at the image's size; for volumes NIfTI, 0 and 1)."""
    probabilities: bool = False
    """Also write STEM.probs.npy (float16, height x width); for volumes STEM.probs.nii.gz (float32)."""
    overlays: bool = False
    """Also write STEM.overlay.png, the slice with the prediction drawn on it; for volumes the folder STEM.overlay."""
    uncertainty: bool = False
    """Also write STEM.uncertainty.png, the standard deviation of the probability (0 to 0.5 as 0 to 255) among several
    workdirs, or by Monte-Carlo dropout of a single one; for volumes STEM.uncertainty.nii.gz (float32)."""
    dropout_samples: int = 16
    """Passes with dropout, where the uncertainty of a single workdir is wanted."""
    threshold: float | None = None
    """Lowest probability of a pixel that is tumour; default: the one with the best IoU on validation."""
    checkpoint: str = "best"
    """Checkpoint to use: best, latest, or the number of a step."""
    tta: bool = False
    """Average the probabilities of a slice and of its mirror image (test-time augmentation)."""
    postprocess: bool = False
    """Clean the masks in the way that was best on validation."""
    axis: Literal[0, 1, 2] | None = None
    """Axis that volumes are sliced along; default: the one with the fewest slices."""
    upright: bool = True
    """Turn slices upright for the network where an affine, ImageOrientationPatient or an EXIF orientation tells, and
    their masks back; else they go as stored."""
    spacing: float | None = None
    """Millimetres between pixels, for areas, where the file does not tell."""
    skip_existing: bool = False
    """Leave out what an earlier run into the same folder, with the same options, has done."""
    num_parts: int = 1
    """Number of processes that share the images, this one included."""
    part_id: int = 0
    """Number of this process among them, from 0; its table is predictions.ID-of-PARTS.csv."""
    batch_size: int = 16
    """Slices computed at a time."""
    strict: bool = False
    """Refuse a folder that holds files which are no image, instead of leaving them out."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "predict", argv)
    _check(options)

    from unet_jax.imaging import read
    from unet_jax.imaging.find import find_files, listed
    from unet_jax.imaging.scan import Reading

    images, left_out = find_files(options.input)
    others = listed(left_out) if left_out else ""
    if others and options.strict:
        raise UserError(f"{options.input} holds {others} that are no image. Remove them, or leave out --strict.")
    read.check_packages(images)

    # Takes time that a mistyped path need not cost.
    from unet_jax.inference.folder import MANY, predict_images
    from unet_jax.inference.output import Output, check_output, folder_of
    from unet_jax.inference.table import Table, library_before
    from unet_jax.runs.load import load
    from unet_jax.shared.progress import progress

    part = (options.part_id, options.num_parts)
    output = Output(options.output, options.probabilities, options.overlays, options.uncertainty, part)
    reading = Reading(axis=options.axis, upright=options.upright, spacing=options.spacing)
    check_output(options.input, images, output)
    # An earlier prediction that goes on keeps its library.
    before = library_before(output) if options.skip_existing else None
    onednn = len(images) >= MANY if before is None else before == "oneDNN"
    every, images = images, output.share(images)
    predictor = load(
        *(options.workdir or ()),
        model=options.model,
        checkpoint=options.checkpoint,
        threshold=options.threshold,
        tta=options.tta,
        postprocess=options.postprocess,
        uncertainty=options.uncertainty,
        dropout_samples=options.dropout_samples,
        onednn=onednn,
        keep_programs=True,
    )
    root = folder_of(options.input)
    made = {"input": str(root.resolve())} | predictor.describe() | vars(reading)
    table = Table(output, made, every, keep=options.skip_existing)
    interrupted = False
    with read.silent_readers(), table:
        for note in table.notes:
            print(note, file=sys.stderr)
        slices = sum(read.count_slices(root / image, reading) for image in images if not table.kept(image))
        try:
            with progress(slices, "predict") as advance:
                predict_images(predictor, root, images, output, table, advance, reading, options.batch_size)
        except KeyboardInterrupt:
            if not table.images:
                raise
            interrupted = True
    if table.older:
        further = f" and {len(table.older) - 3} more" if len(table.older) > 3 else ""
        print(
            f"note: {options.output} also holds masks of an earlier prediction that were not made now: "
            f"{', '.join(table.older[:3])}{further}",
            file=sys.stderr,
        )
    if interrupted:
        print(f"interrupted: {table.path} lists the {table.images} of {len(images)} images done", file=sys.stderr)
        return cli.EXIT_FAILURE
    return _report(table, len(images), predictor, options, others)


def _check(options: Options) -> None:
    cli.check_networks(options.workdir, options.model)
    for option, value in (("--batch-size", options.batch_size), ("--num-parts", options.num_parts)):
        if value < 1:
            raise UserError(f"{option} is {value}; it must be at least 1.")
    if not 0 <= options.part_id < options.num_parts:
        raise UserError(
            f"--part-id is {options.part_id}; it must be from 0 to {options.num_parts - 1}, below --num-parts."
        )
    cli.check_distances(options.spacing, tolerance=0.0)


def _report(table: Any, images: int, predictor: Any, options: Options, left_out: str) -> int:
    chosen = "given by --threshold" if options.threshold is not None else "chosen on validation"
    skipped = f", {table.skipped} files skipped as done before" if options.skip_existing else ""
    own = " (neither --model nor --workdir was given)" if options.workdir is None and options.model is None else ""
    done, slices = images - len(table.failed), table.done - len(table.failed)
    counted, unit = (f", {slices} slices", " slices") if slices != done else ("", "")
    print(
        f"{done} of {images} images predicted{counted}{skipped}, {table.with_tumor}{unit} with tumour; "
        f"threshold {predictor.threshold:g} ({predictor.threshold_note or chosen}), {predictor.name}{own}.\n"
        f"Masks: {options.output}   Table: {table.path}"
    )
    if left_out:
        print(f"left out as no image: {left_out}")
    if table.warned:
        print(f"warning: {table.warned[0]}", file=sys.stderr)
        if len(table.warned) > 1:
            print(f"warning: likewise {len(table.warned) - 1} more; {table.path} lists them", file=sys.stderr)
    if table.failed:
        print(f"error: {len(table.failed)} of {images} images failed:", file=sys.stderr)
        for line in table.failed:
            print(f"  {line}", file=sys.stderr)
        return cli.EXIT_USAGE
    return 0


if __name__ == "__main__":
    cli.run(main)
