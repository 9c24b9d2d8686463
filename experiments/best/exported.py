"""Differences between a network and its exported files, and what it costs to take the limits from the small image.

Hypothesis: ONNX and StableHLO give the network's masks; so do limits of the image at the network's size, nearly, in
place of those at native size.

Command: `python -m experiments.best.exported --workdir runs/best`

Time: a minute for 244 slices at 192 px, on two CPU cores beside other work.

Outcome, jax 0.12.0.1 and onnxruntime 1.32.0, of the network in `network/`, against XLA with Eigen: the largest
difference of a probability is 2.9e-5 by ONNX and 1.4e-5 by StableHLO (1.9e-5 between Eigen and oneDNN), and no mask
pixel of 9 million differs; in bfloat16 18 of 100,000 do, and with limits of the small image 20. Mean Dice at 192 px is
0.7329, in bfloat16 0.7327, with limits of the small image 0.7334. Borne out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.shared import cli

BATCH = 16
"""Slices computed at a time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare a network with its exported files."""

    workdir: Path
    """Folder of the run, of whose split the validation slices are taken."""
    data: Path | None = None
    """Its converted dataset; default: the one that the run names."""


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    options = tyro.cli(Options, prog="python -m experiments.best.exported", args=argv)
    from unet_jax import export
    from unet_jax.models.compiler import has_bfloat16
    from unet_jax.runs.load import load
    from unet_jax.runs.networks import open_run

    run = open_run(options.workdir)
    arrays = open_arrays(options.data or run.workdir.data(run.config))
    rows, threshold = run.split.rows(arrays, "val"), run.chosen_threshold()
    exact, rough = (replace(run, model=replace(run.model, precision=name)) for name in ("float32", "bfloat16"))
    ways: dict[str, Any] = {
        "Eigen": exact.network(onednn=False).probabilities,
        "oneDNN": exact.network().probabilities,
    }
    if has_bfloat16():
        ways["oneDNN, bfloat16"] = rough.network().probabilities
    with TemporaryDirectory() as folder:
        for suffix in (".onnx", ".stablehlo"):
            file = Path(folder, f"network{suffix}")
            if code := export.main(["--workdir", str(options.workdir), "--out", str(file)]):
                return code
            ways[suffix[1:]] = load(file).networks[0].probabilities
        found = {name: computed(way, arrays, rows) for name, way in ways.items()}
        found["onnx, own limits"] = computed(ways["onnx"], arrays, rows, own=True)
    truth = np.stack([np.asarray(arrays.masks[row]) > 0 for row in rows])
    reference = found["Eigen"]
    print(f"{len(rows)} validation slices of {run.size} px, threshold {threshold:g}")
    print(f"{'':18}{'largest difference':>20}{'mask pixels of 100,000':>24}{'mean Dice':>11}")
    for name, probs in found.items():
        differ = np.abs(probs - reference).max()
        pixels = 1e5 * np.mean((probs >= threshold) != (reference >= threshold))
        print(f"{name:18}{differ:20.2g}{pixels:24.2f}{mean_dice(probs >= threshold, truth):11.4f}")
    return 0


def computed(
    way: Any, arrays: Arrays, rows: Int64[np.ndarray, " n"], own: bool = False
) -> Float32[np.ndarray, "n size size"]:
    """Compute probabilities of slices; with `own` limits, which an exported file takes for NaN, of the small image."""
    parts = []
    for begin in range(0, len(rows), BATCH):
        part = rows[begin : begin + BATCH]
        images = np.stack([np.asarray(arrays.images[row], np.float32) for row in part])
        limits = [np.full(len(part), np.nan, np.float32)] * 2 if own else [arrays.p1[part], arrays.p99[part]]
        parts.append(np.asarray(way(images, *(np.asarray(x, np.float32) for x in limits), tta=False)))
    return np.concatenate(parts)


def mean_dice(masks: Bool[np.ndarray, "n h w"], truth: Bool[np.ndarray, "n h w"]) -> float:
    """Compute the mean Dice coefficient of slices, of which each has a tumour."""
    both, sizes = (masks & truth).sum(axis=(1, 2)), masks.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    return float(np.mean(2 * both / sizes))


if __name__ == "__main__":
    cli.run(main)
