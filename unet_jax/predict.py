"""`python -m unet_jax.predict --workdir W --input FILE_OR_DIR --output DIR`: masks of images."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_jax import cli
from unet_jax.config import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find the tumor in images: PNG, JPEG, TIFF, BMP, NumPy (.npy) or the dataset's .mat."""

    workdir: Path
    """Folder of the trained run."""
    input: Path
    """An image, or a folder of them; its subfolders are mirrored."""
    output: Path
    """Folder for the masks (PNG, 0 and 255, each at its image's own size) and predictions.csv."""
    probabilities: bool = False
    """Also write STEM.probs.npy (float16, height x width)."""
    overlays: bool = False
    """Also write STEM.overlay.png, the slice with the prediction drawn on it."""
    threshold: float | None = None
    """Probability from which on a pixel is tumor; default: the one with the best IoU on validation."""
    checkpoint: str = "best"
    """best, latest, or a step."""
    batch_size: int = 16
    """Slices computed at a time."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "predict", argv)
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be at least 1.")

    from unet_jax.data.image_io import find_images, silent_readers

    images = find_images(options.input)

    # Imports jax, which takes a second that a mistyped path need not cost.
    from unet_jax import compile_cache
    from unet_jax.prediction import Output, Row, Table, check_output, predict_images
    from unet_jax.predictor import Predictor

    output = Output(options.output, options.probabilities, options.overlays)
    check_output(options.input, images, output)
    compile_cache.enable()
    predictor = Predictor.open(options.workdir, checkpoint=options.checkpoint, threshold=options.threshold)
    with Table(options.output) as table, silent_readers(), _progress(len(images)) as advance:

        def record(row: Row) -> None:
            table.add(row)
            advance()

        try:
            predict_images(predictor, options.input, images, output, record, options.batch_size)
        except KeyboardInterrupt:
            if not table.done:
                raise
            print(f"interrupted: {table.path} lists the {table.done} of {len(images)} images done", file=sys.stderr)
            return cli.EXIT_FAILURE
    return _report(table, predictor, options)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], object]]:
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit="image") as bar:
            yield bar.update
        return
    done, step = 0, max(1, total // 10)

    def advance() -> None:
        nonlocal done
        done += 1
        if total >= 100 and done % step == 0:
            print(f"{done} of {total} images", file=sys.stderr, flush=True)

    yield advance


def _report(table: Any, predictor: Any, options: Options) -> int:
    chosen = "given by --threshold" if options.threshold is not None else "chosen on validation"
    print(
        f"{table.done - len(table.failed)} of {table.done} images predicted, {table.with_tumor} with tumor; threshold "
        f"{predictor.threshold:g} ({predictor.threshold_note or chosen}), checkpoint of step {predictor.step}.\n"
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
