"""What trained networks draw into pictures without a tumour.

Hypothesis: a network that was trained on slices with a tumour alone draws tumours into healthy heads, and less of them
once part of its slices were made tumour-free (`--augment.healthy`).

Command: `python -m experiments.best.tumor_free --workdir runs/b`, with nilearn installed (the extra `healthy`).

Time: half a minute for a network of width 8 at 64 px, on two CPU cores beside other work.

Outcome of a small trial: width 8, 64 px, eight epochs on 1,867 real slices, of which 349 have a healthy half, seed 0.
Slices with over 0.1 % of the picture predicted, without and with `--augment.healthy 0.5`: of mni152 sagittal 100 and
100 % (mean area 5.6 and 0.9 %), coronal 98 and 31 %, axial 87 and 31 %, of 30 mirrored ones 63 and 33 %. Validation IoU
at the last epoch 0.385 and 0.382. Borne out, but for sagittal slices, of which no half can be mirrored.

Pictures are of two sources. `mni152`: the average T1 image of 152 healthy brains that nilearn holds, without skull and
contrast agent, so not quite what a network was trained on: slices along each axis of which brain fills over a tenth.
`mirrored`: slices of one side of the run's split, their healthy half put in the place of the one with the tumour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.data.symmetry import midlines, without_tumor
from unet_jax.imaging.resize import NetworkSlice, from_network
from unet_jax.inference.predictor import Predictor
from unet_jax.scoring.tumor_free import tumor_free_figures
from unet_jax.shared import cli
from unet_jax.shared.files import write_json
from unet_jax.shared.progress import track

LEAST_BRAIN = 0.1
"""Part of a template's slice that is brain, above which it is taken."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score networks on pictures without a tumour."""

    workdir: tuple[Path, ...]
    """Folder of the run; several are averaged."""
    source: tuple[Literal["mni152", "mirrored"], ...] = ("mni152", "mirrored")
    """Pictures to score."""
    data: Path | None = None
    """Converted dataset of the mirrored slices; default: the one of the run."""
    side: Literal["val", "test", "train"] = "val"
    """Side of the run's split that mirrored slices are made of."""
    threshold: float | None = None
    """Lowest probability of a pixel that is tumour; default: the one chosen on validation."""
    tta: bool = False
    """Average the probabilities of a slice and of its mirror image."""
    postprocess: bool = False
    """Clean masks in the way that was best on validation."""
    json: Path | None = None
    """File for the figures."""


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    options = tyro.cli(Options, prog="python -m experiments.best.tumor_free", args=argv)
    import unet_jax
    from unet_jax.models import compile_cache
    from unet_jax.runs.networks import open_runs

    compile_cache.enable()
    how = {"threshold": options.threshold, "tta": options.tta, "postprocess": options.postprocess}
    predictor = unet_jax.load(*options.workdir, **how)
    areas: dict[tuple[str, str], Float64[np.ndarray, " n"]] = {}
    if "mni152" in options.source:
        template = load_template()
        for axis in ("sagittal", "coronal", "axial"):
            areas["mni152", axis] = picture_areas(predictor, list(template_slices(template, axis)))
    if "mirrored" in options.source:
        runs = open_runs(options.workdir)
        arrays = open_arrays(options.data or runs[0].workdir.data(runs[0].config))
        if any(run.split.data_digest != arrays.digest for run in runs):
            raise UserError(
                f"{arrays.path} is not the dataset of every network: none of its slices is known to be new."
            )
        # Slices that are on that side for all of the networks.
        sides = [set(run.split.rows(arrays, options.side).tolist()) for run in runs]
        rows = np.array(sorted(set.intersection(*sides)), np.int64)
        areas["mirrored", options.side] = mirrored_areas(predictor, arrays, rows)
    figures = [{"source": source, "part": part} | tumor_free_figures(a) for (source, part), a in areas.items()]
    print(f"{predictor.name}, threshold {predictor.threshold:.2f}")
    print(f"{'':20}{'slices':>8}{'any':>9}{'over 0.1 %':>12}{'mean area':>11}")
    for row in figures:
        print(f"{row['source']:10}{row['part']:10}{row['n_slices']:8}" + _cells(row))
    if options.json is not None:
        write_json(options.json, {"predictor": predictor.describe(), "figures": figures})
    return 0


def load_template() -> Float32[np.ndarray, "x y z"]:
    """Load the MNI152 T1 template at 1 mm: x to the right, y to the front, z up; 0 outside the brain.

    Raises:
        UserError: nilearn is not installed.
    """
    try:
        from nilearn.datasets import load_mni152_template  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("--source mni152 needs nilearn, which is not installed: pip install -e '.[healthy]'.") from None
    image: Any = load_mni152_template(resolution=1)
    return np.asarray(image.dataobj, np.float32)


def template_slices(
    template: Float32[np.ndarray, "x y z"], axis: Literal["sagittal", "coronal", "axial"]
) -> Iterator[Float32[np.ndarray, "h w"]]:
    """Cut a template into slices as the Figshare dataset shows them: face up (axial) or to the left (sagittal)."""
    number = ("sagittal", "coronal", "axial").index(axis)
    for i in range(template.shape[number]):
        image = np.rot90(np.take(template, i, axis=number))
        if (image > 0).mean() > LEAST_BRAIN:
            yield np.ascontiguousarray(image[:, ::-1] if axis == "sagittal" else image)


def picture_areas(predictor: Predictor, images: Sequence[Float32[np.ndarray, "h w"]]) -> Float64[np.ndarray, " n"]:
    """Predict pictures, and give the part of each that is taken for tumour."""
    stream = predictor.stream(images)
    return np.array([predictor.mask(p.probs).mean() for p in track(stream, len(images), "template")])


def mirrored_areas(predictor: Predictor, arrays: Arrays, rows: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, " n"]:
    """Make slices of a dataset tumour-free and predict them, where they have a healthy half.

    Returns:
        Part of each slice, at its own size, that is taken for tumour; in the order of the rows.

    Raises:
        UserError: the dataset is converted at another size than the network's.
    """
    if arrays.size != predictor.size:
        raise UserError(
            f"{arrays.path} is converted at {arrays.size}x{arrays.size}, the network was trained at "
            f"{predictor.size}x{predictor.size}. Convert it with --size {predictor.size}."
        )
    found = midlines(arrays, rows)
    usable = rows[found[rows] != 0]

    def mirrored() -> Iterator[NetworkSlice]:
        for row in usable:
            network = arrays.network_slice(int(row))
            yield replace(network, image=without_tumor(network.image, float(found[row])))

    areas = []
    stream = predictor.stream_network(mirrored())
    for row, predicted in zip(usable, track(stream, len(usable), "mirrored"), strict=True):
        shape = int(arrays.heights[row]), int(arrays.widths[row])
        areas.append(predictor.mask(from_network(predicted.probs, shape)).mean())
    return np.array(areas, np.float64)


def _cells(row: dict[str, Any]) -> str:
    if not row["n_slices"]:
        return f"{'-':>9}{'-':>12}{'-':>11}"
    return f"{row['any']:9.1%}{row['over_0.1_percent']:12.1%}{row['mean_area']:11.3%}"


if __name__ == "__main__":
    cli.run(main)
