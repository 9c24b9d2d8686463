"""`convert`, `predict` and `startup`: whole commands, or what they do between starting and ending."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.cases import Row, median_ms
from unet_jax.runs.load import load

DOORS = ("train", "eval", "predict", "compare", "crossval", "convert", "check", "download", "phantom", "tfds")

CONVERT_PATIENTS = 24
SIZE = 128
IMAGES = 400
BATCH = 16
WIDTHS = (64, 16)
RUN_PATIENTS = 12
"""Of the data that the untrained networks are opened with."""


def startup() -> list[Row]:
    """The processes that answer --help."""
    return [
        Row("startup", f"{door} --help", median_ms([_process(f"unet_jax.{door}", "--help") for _ in range(5)]))
        for door in DOORS
    ]


def convert(folder: Path) -> list[Row]:
    """Milliseconds a slice, with the start of the processes that share the work."""
    from experiments.benchmarks import phantom
    from unet_jax.data.converted.build import build

    raw = phantom.raw_folder(folder, CONVERT_PATIENTS)
    count = len(list((raw / "data").glob("*.mat")))
    seconds = []
    for i in range(3):
        began = time.perf_counter()
        build(raw, folder / f"convert-{i}", size=SIZE, mask_rule="area")
        seconds.append((time.perf_counter() - began) / count)
    return [Row("convert", f"{count} slices of 512x512 to {SIZE}x{SIZE}", median_ms(seconds))]


def predict(folder: Path) -> list[Row]:
    """A folder of images against the bare forward pass, and one image as a process that is not the first."""
    from experiments.benchmarks import phantom

    arrays = phantom.converted(folder, RUN_PATIENTS, SIZE)
    images = phantom.pngs(folder / "images", IMAGES)
    rows = []
    for width in WIDTHS:
        run = folder / f"run-{width}"
        config = phantom.untrained_run(run, arrays, width)
        rows.append(_folder(run, config, arrays, images, folder / f"masks-{width}"))
    options = ["--workdir", folder / f"run-{WIDTHS[0]}", "--input", images / "0000.png", "--output", folder / "one"]
    # A cache of compiled programs that nobody has used yet.
    cache = {"XDG_CACHE_HOME": str(folder / "cache"), "JAX_COMPILATION_CACHE_DIR": None}
    times = [_process("unet_jax.predict", *options, changes=cache) for _ in range(4)]
    shape = f"one image, width {WIDTHS[0]}, {SIZE} px, as a process"
    return [
        *rows,
        Row("predict", f"{shape}, first time", 1000 * times[0]),
        Row("predict", f"{shape}, later", median_ms(times[1:])),
    ]


def _folder(run: Path, config: Any, arrays: Any, source: Path, masks: Path) -> Row:
    import jax
    import numpy as np

    from unet_jax.imaging.find import find_images
    from unet_jax.imaging.scan import AS_STORED
    from unet_jax.inference.folder import predict_images
    from unet_jax.inference.output import Output
    from unet_jax.inference.programs import make_predict
    from unet_jax.inference.table import Table
    from unet_jax.training.optimizer import make_optimizer
    from unet_jax.training.state import init_state

    predictor, images = load(run), find_images(source)
    state = init_state(config, arrays.size, make_optimizer(config.optim, 1))
    forward = make_predict(config.model, config.preprocess)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    slices = [arrays.network_slice(row) for row in range(BATCH)]
    batch = jax.device_put(
        (
            np.stack([s.image for s in slices]),
            np.array([s.p1 for s in slices], np.float32),
            np.array([s.p99 for s in slices], np.float32),
        )
    )

    def through(count: int) -> float:
        began = time.perf_counter()
        output = Output(masks)
        with Table(output, predictor.describe()) as table:
            predict_images(
                predictor, source, images[:count], output, table, lambda _: None, reading=AS_STORED, batch_size=BATCH
            )
        assert (table.done, table.failed) == (count, [])
        return (time.perf_counter() - began) / count

    def bare(count: int) -> float:
        began, result = time.perf_counter(), None
        for _ in range(count // BATCH):
            result = forward(variables, *batch)
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / count

    for way in (through, bare):
        way(2 * BATCH)
    pairs = [(through(len(images)), bare(len(images))) for _ in range(3)]
    return Row(
        "predict",
        f"{len(images)} PNGs of 512x512, width {config.model.width}, batch {BATCH}, {SIZE} px",
        median_ms([through for through, _ in pairs]),
        median_ms([bare for _, bare in pairs]),
    )


def _process(module: str, *options: object, changes: dict[str, str | None] | None = None) -> float:
    """Seconds of `python -m MODULE OPTIONS`, which must end with exit code 0."""
    environment = {**os.environ, **(changes or {})}
    command = [sys.executable, "-m", module, *map(str, options)]
    began = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={k: v for k, v in environment.items() if v is not None}
    )
    return time.perf_counter() - began
