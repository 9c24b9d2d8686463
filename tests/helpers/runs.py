"""Small training runs: their options, and what they leave."""

import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unet_jax.config import read_config
from unet_jax.models.network import abstract_variables
from unet_jax.runs.records import Record, read_records
from unet_jax.runs.workdir import Workdir
from unet_jax.training.checkpoints.store import Checkpoints


def options(workdir: Path, data: Path, *more: object, epochs: int, pipeline: str = "device") -> list[str]:
    """Options of `train` for the smallest network, computed in float32 on any machine."""
    model = ["--model.width", "2", "--model.levels", "2", "--model.precision", "float32"]
    small = [*model, "--loader.batch-size", "4", "--loader.pipeline", pipeline]
    return ["--workdir", str(workdir), "--data", str(data), *small, "--optim.epochs", str(epochs), *map(str, more)]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what a process says until a line has the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} never came:\n{''.join(lines)}")


def final_variables(workdir: Path) -> tuple[int | None, Any]:
    """The newest step, and the network of its checkpoint."""
    like = abstract_variables(read_config(workdir / "config.json").model)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        latest = checkpoints.latest()
        return latest, jax.device_get(checkpoints.restore_variables(latest, like=like))


def untimed_records(workdir: Path) -> list[Record]:
    """Lines of metrics.jsonl without the seconds."""
    records = read_records(Workdir(workdir))
    for record in records:
        del record["seconds"]
    return records


def assert_same_run(one: Path, other: Path) -> None:
    """Check that two runs have ended alike, to the bit."""
    jax.tree.map(np.testing.assert_array_equal, final_variables(one), final_variables(other))
    assert untimed_records(one) == untimed_records(other)
    assert (one / "threshold.json").read_text() == (other / "threshold.json").read_text()
