"""`python -m unet_jax.predict --workdir W --input FILE_OR_DIR --output DIR`: masks of images."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unet_jax.config import UserError
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find the tumor in images: PNG, JPEG, TIFF, BMP, NumPy (.npy), the dataset's .mat, DICOM, and NIfTI volumes."""

    workdir: tuple[Path, ...]
    """Folder of the trained run; of several the probabilities are averaged."""
    input: Path
    """An image, or a folder of them; its subfolders are mirrored."""
    output: Path
    """Folder for the masks (PNG, 0 and 255, each at its image's own size; of volumes NIfTI, 0 and 1) and
    predictions.csv."""
    probabilities: bool = False
    """Also write STEM.probs.npy (float16, height x width); of volumes STEM.probs.nii.gz (float32)."""
    overlays: bool = False
    """Also write STEM.overlay.png, the slice with the prediction drawn on it; of volumes the folder STEM.overlay."""
    uncertainty: bool = False
    """Also write STEM.uncertainty.png, the standard deviation of the probability among the workdirs, or of one by
    Monte-Carlo dropout (0 to 0.5 as 0 to 255); of volumes STEM.uncertainty.nii.gz (float32)."""
    dropout_samples: int = 16
    """Passes with dropout, where the uncertainty of one workdir is wanted."""
    threshold: float | None = None
    """Probability from which on a pixel is tumor; default: the one with the best IoU on validation."""
    checkpoint: str = "best"
    """best, latest, or a step."""
    tta: bool = False
    """Average the probabilities of a slice and of its mirror image."""
    postprocess: bool = False
    """Clean the masks as was found best on validation."""
    axis: Literal[0, 1, 2] | None = None
    """Along which volumes are sliced; default: the axis with the fewest slices."""
    upright: bool = False
    """Turn the slices of volumes upright for the network, by their affine; default: as they are stored."""
    spacing: float | None = None
    """Millimetres between pixels, for areas, where the file does not tell."""
    skip_existing: bool = False
    """Leave out what an earlier run into the same folder, with the same options, has done."""
    num_parts: int = 1
    """Of how many processes, which share the images, this is one."""
    part_id: int = 0
    """Which one, from 0; its table is predictions.ID-of-PARTS.csv."""
    batch_size: int = 16
    """Slices computed at a time."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "predict", argv)
    _check(options)

    from unet_jax.imaging.find import find_images, is_volume
    from unet_jax.imaging.formats.medical import check_packages
    from unet_jax.imaging.formats.nifti import count_slices
    from unet_jax.imaging.read import silent_readers

    images = find_images(options.input)
    check_packages(images)

    # Imports jax, which takes a second that a mistyped path need not cost.
    from unet_jax.inference.folder import Reading, predict_images
    from unet_jax.inference.output import Output, check_output, folder_of
    from unet_jax.inference.table import Table
    from unet_jax.models import compile_cache
    from unet_jax.runs.networks import open_predictor

    part = (options.part_id, options.num_parts)
    output = Output(options.output, options.probabilities, options.overlays, options.uncertainty, part)
    reading = Reading(axis=options.axis, upright=options.upright, spacing=options.spacing)
    check_output(options.input, images, output)
    images = output.share(images)
    compile_cache.enable()
    predictor = open_predictor(
        options.workdir,
        checkpoint=options.checkpoint,
        threshold=options.threshold,
        tta=options.tta,
        postprocess=options.postprocess,
        uncertainty=options.uncertainty,
        dropout_samples=options.dropout_samples,
    )
    root = folder_of(options.input)
    made = {"input": str(root.resolve())} | predictor.describe() | vars(reading)
    if not options.uncertainty:
        made.pop("dropout_samples", None)
    table = Table(output, made, keep=options.skip_existing)
    with silent_readers(), table:
        todo = [image for image in images if not table.kept(image)]
        slices = sum(count_slices(root / image, options.axis) if is_volume(image) else 1 for image in todo)
        try:
            with _progress(slices) as advance:
                predict_images(
                    predictor,
                    options.input,
                    images,
                    output,
                    table,
                    advance,
                    reading=reading,
                    batch_size=options.batch_size,
                )
        except KeyboardInterrupt:
            if not table.done:
                raise
            print(f"interrupted: {table.path} lists the {table.done} of {len(images)} images done", file=sys.stderr)
            return cli.EXIT_FAILURE
    return _report(table, predictor, options)


def _check(options: Options) -> None:
    if not options.workdir:
        raise UserError("--workdir is empty; give the folder of a trained run, or several.")
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be at least 1.")
    if options.num_parts < 1:
        raise UserError(f"--num-parts is {options.num_parts}; it must be at least 1.")
    if not 0 <= options.part_id < options.num_parts:
        raise UserError(
            f"--part-id is {options.part_id}; it must be from 0 to {options.num_parts - 1}, below --num-parts."
        )
    if options.spacing is not None and not (math.isfinite(options.spacing) and options.spacing > 0):
        raise UserError(f"--spacing is {options.spacing}; it must be above 0.")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], object]]:
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit="slice") as bar:
            yield bar.update
        return
    done, step = 0, max(1, total // 10)

    def advance() -> None:
        nonlocal done
        done += 1
        if total >= 100 and done % step == 0:
            print(f"{done} of {total} slices", file=sys.stderr, flush=True)

    yield advance


def _report(table: Any, predictor: Any, options: Options) -> int:
    chosen = "given by --threshold" if options.threshold is not None else "chosen on validation"
    skipped = f", {table.skipped} files skipped as done before" if options.skip_existing else ""
    print(
        f"{table.done - len(table.failed)} of {table.done} images predicted{skipped}, {table.with_tumor} with tumor; "
        f"threshold {predictor.threshold:g} ({predictor.threshold_note or chosen}), {predictor.name}.\n"
        f"Masks: {options.output}   Table: {table.path}"
    )
    if table.warned:
        print(f"warning: {table.warned[0]}", file=sys.stderr)
        if len(table.warned) > 1:
            print(f"warning: likewise {len(table.warned) - 1} more; {table.path} lists them", file=sys.stderr)
    if table.failed:
        print(f"error: {len(table.failed)} of {table.done} images could not be read:", file=sys.stderr)
        for line in table.failed:
            print(f"  {line}", file=sys.stderr)
        return cli.EXIT_USAGE
    return 0


if __name__ == "__main__":
    cli.run(main)
