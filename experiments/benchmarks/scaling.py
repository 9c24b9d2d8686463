"""`scaling`: one process against two on the cores of one machine, and the bytes that devices add up in a train step."""

import math
import re
import socket
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import phantom, workers
from unet_jax.config import Config, ModelConfig, RunError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.runs.records import read_records
from unet_jax.runs.workdir import Workdir
from unet_jax.training.batches import Order, feed
from unet_jax.training.loop import steps_per_dispatch
from unet_jax.training.mesh import data_mesh
from unet_jax.training.optimizer import make_optimizer
from unet_jax.training.state import init_state
from unet_jax.training.steps import make_train_steps

PATIENTS, SIZE, BATCH, EPOCHS = 12, 128, 16, 4
WIDTHS = (16, 64)
DEVICES = 2
ENVIRONMENT = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
"""What a process needs in which `all_reduced` is called."""

_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+))\[([\d,]*)\]")


def report(folder: Path) -> str:
    """A table for a person: of each width the bytes, and milliseconds a step of one process and of two."""
    data = phantom.converted(folder, PATIENTS, SIZE).path
    lines = ["| width | all-reduces a step | MB | one process, ms | two processes, ms |", "|---:|---:|---:|---:|---:|"]
    for width in WIDTHS:
        count, size = workers.alone(__name__, "all_reduced", data, width, environment=ENVIRONMENT)
        one, two = (step_ms(folder, data, width, processes) for processes in (1, 2))
        lines.append(f"| {width} | {count} | {size / 1e6:.2f} | {one:.0f} | {two:.0f} |")
    return "\n".join(lines)


def all_reduced(data: Path, width: int) -> tuple[int, int]:
    """Of a train step on DEVICES devices: its all-reduces, and the bytes that each device gives to them."""
    if len(jax.devices()) != DEVICES:
        raise RunError(f"{len(jax.devices())} devices; expected {DEVICES}, as {ENVIRONMENT} makes them.")
    arrays, config = open_arrays(data), Config(model=ModelConfig(width=width))
    mesh, _ = data_mesh(BATCH)
    tx = make_optimizer(config.optim, 1)
    source, _ = next(feed(arrays, Order(np.arange(len(arrays)), BATCH, 0), 0, 1, "device", mesh, steps_per_dispatch()))
    state: Any = jax.eval_shape(lambda: init_state(config, arrays.size, tx))
    key: Any = jax.eval_shape(lambda: jax.random.key(0))
    steps: Any = make_train_steps(config, tx, mesh)
    program = steps.lower(state, source, key, count=1).compile()
    return count_all_reduced(program.as_text() or "")


def count_all_reduced(program: str) -> tuple[int, int]:
    """Count all-reduces in the text of a compiled program, and the bytes of their results."""
    results = re.findall(r"= (.+?) all-reduce(?:-start)?\(", program)
    return len(results), sum(_bytes(*shape) for result in results for shape in _SHAPE.findall(result))


def _bytes(kind: str, bits: str, sides: str) -> int:
    each = 1 if kind == "pred" else int(bits) // 8
    return each * math.prod(int(side) for side in sides.split(",") if side)


def step_ms(folder: Path, data: Path, width: int, processes: int) -> float:
    """Milliseconds a step of so many processes that train together: the median over epochs but for the first."""
    workdir = Workdir(folder / f"scaling-{width}-{processes}")
    options: dict[str, object] = {
        "workdir": workdir.path,
        "data": data,
        "preset": "original",
        "model.width": width,
        "model.precision": "float32",
        "optim.epochs": EPOCHS,
        "loader.batch-size": BATCH,
        "loader.pipeline": "device",
    }
    if processes > 1:
        options |= {"distributed.coordinator": f"127.0.0.1:{_free_port()}", "distributed.num-processes": processes}
    started = []
    for number in range(processes):
        given = options | ({"distributed.process-id": number} if processes > 1 else {})
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "unet_jax.train", *words]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    codes = [process.wait() for process in started]
    if any(codes):
        raise RunError(f"{processes} processes that trained together ended with exit codes {codes}.")
    first, *others = read_records(workdir)
    return 1000 * median(record["seconds"] for record in others) / first["step"]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
