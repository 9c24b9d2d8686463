"""Records of the epochs of a run, which are lines of metrics.jsonl."""

import json
import os
from typing import Any

from unet_jax.config import OptimConfig, UserError
from unet_jax.runs.workdir import Workdir
from unet_jax.shared.files import write_text

Record = dict[str, Any]
"""A line of metrics.jsonl."""


def best_record(records: list[Record]) -> Record | None:
    """Find the epoch with the highest validation IoU, the latest of equals as `Checkpoints.best`; None without any.

    The latest, so that a run whose IoU stays at zero for a while is not judged by its first epoch.
    """
    return max(records, key=lambda r: (r["val"]["micro_iou"], r["epoch"]), default=None)


def read_records(workdir: Workdir) -> list[Record]:
    """Read metrics.jsonl, without a last line that is torn, as by a power cut."""
    if not workdir.metrics.exists():
        return []
    records = []
    lines = workdir.metrics.read_text("utf-8", errors="replace").splitlines()
    for i, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except ValueError:
            if i + 1 < len(lines):
                raise UserError(f"{workdir.metrics} line {i + 1} is not JSON. Restore the file.") from None
    return records


def cut_records(workdir: Workdir, step: int, *, write: bool = True) -> list[Record]:
    """Drop the records of epochs that ended after `step`, from the file too if `write`, and return the others."""
    records = [r for r in read_records(workdir) if r["step"] <= step]
    if write:
        write_text(workdir.metrics, "".join(json.dumps(r) + "\n" for r in records), durable=True)
    return records


def append_record(workdir: Workdir, record: Record) -> None:
    """Add a line to metrics.jsonl, on disk when this returns."""
    with workdir.metrics.open("a", encoding="utf-8") as f:
        f.write(json.dumps(record) + "\n")
        f.flush()
        os.fsync(f.fileno())


def is_over(records: list[Record], optim: OptimConfig) -> bool:
    """Tell whether the last epoch is done, or as many as `early_stopping` have gone by without a better IoU."""
    if not records:
        return False
    done, patience = records[-1]["epoch"], optim.early_stopping
    first_best = max(records, key=lambda r: r["val"]["micro_iou"])  # an equal IoU is not a better one
    return done >= optim.epochs or bool(patience and done - first_best["epoch"] >= patience)
