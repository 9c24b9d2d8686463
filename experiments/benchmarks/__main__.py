"""`python -m experiments.benchmarks`: how fast the program is, and how fast its peers are beside it."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.benchmarks.cases import Case, Name, Precision, Row
from unet_jax.config import UserError
from unet_jax.shared import cli

NETWORKS: tuple[Name, ...] = ("train_step", "inference", "best_train_step", "best_inference")
Timing = Literal[Name, "pipeline", "convert", "predict", "startup"]
NAMES: tuple[Timing, ...] = (*NETWORKS, "pipeline", "convert", "predict", "startup")
PROFILED = Case(16, 16, 128)
NOT_THE_SAME = (
    "best_*: smp is a network of the same kind, not the same function, with weights of its own; so the ratio "
    "compares two choices, not two ways to compute one thing."
)
FIGURE = Path(__file__).with_name("sweep.png")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure, and print a table. Let nothing else run on the machine meanwhile."""

    only: tuple[Literal[Timing, "memory", "scaling"], ...] = ()
    """What to measure; by default all but memory and scaling."""
    against: tuple[Literal["torch", "keras", "smp", "onnxruntime"], ...] = ()
    """Peers to measure beside the networks: torch and keras beside train_step, inference and the sweep, smp
    (segmentation_models_pytorch) beside best_train_step and best_inference, onnxruntime, with our networks as they are
    exported, beside inference and best_inference in float32. torch and smp need the extra `peers`, onnxruntime needs
    `onnx`."""
    precision: tuple[Precision, ...] = ("float32",)
    """What train_step, inference, best_train_step and best_inference compute in, ours and the peers'; one after the
    other if several are given. All else is float32."""
    json: Path | None = None
    """File for the timings: a list of objects with name, shape, ours_ms, peer_ms and ratio."""
    sweep: bool = False
    """Also vary image size, batch and width; nothing else unless --only names it."""
    figure: Path = FIGURE
    """Where the sweep draws its figure."""
    profile: Path | None = None
    """Folder for a profiler's trace of five train steps; nothing else unless --only names it."""


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    options = tyro.cli(Options, prog="python -m experiments.benchmarks", args=argv)

    from experiments.benchmarks import machine, network, workers

    network.check_installed(options.against)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise UserError(f"--json {options.json} is in no folder that is there. Make the folder, or name another.")
    print(machine.describe(), flush=True)
    wanted = options.only or (() if options.sweep or options.profile else NAMES)
    rows: list[Row] = []
    networks: list[Name] = [name for name in NETWORKS if name in wanted]
    if networks:
        rows += network.compare(networks, options.against, options.precision)
    with tempfile.TemporaryDirectory(prefix="unet-jax-benchmarks-") as folder:
        if "pipeline" in wanted:
            rows += workers.alone("experiments.benchmarks.pipeline", "measure", Path(folder))
        for name in ("convert", "predict"):
            if name in wanted:
                rows += workers.alone("experiments.benchmarks.commands", name, Path(folder))
        if "scaling" in wanted:
            print("\n" + workers.alone("experiments.benchmarks.scaling", "report", Path(folder)), flush=True)
    if "startup" in wanted:
        rows += workers.alone("experiments.benchmarks.commands", "startup")
    if rows:
        print("\n" + table(rows), flush=True)
        if "smp" in options.against and any(row.name.startswith("best_") for row in rows):
            print("\n" + NOT_THE_SAME, flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    if "memory" in wanted:
        print("\n" + workers.alone("experiments.benchmarks.memory", "report"), flush=True)
    if options.sweep:
        from experiments.benchmarks import sweep

        points, peak = sweep.sweep(options.against)
        sweep.draw(points, peak, options.figure)
        print(f"\n{sweep.table(points)}\n\nFigure: {options.figure}; matrix product {peak / 1e9:.0f} GFLOP/s")
    if options.profile is not None:
        with network.started(()) as sides:
            network.build(sides, PROFILED)
            sides["ours"].call("profile", str(options.profile))
        print(f"Trace of {PROFILED.shape}: {options.profile}")
    return 0


def table(rows: Sequence[Row]) -> str:
    """Markdown, with aligned columns."""
    cells: list[tuple[str, ...]] = [("what", "shape", "ours, ms", "peer, ms", "ours / peer")]
    for row in rows:
        peer = "" if row.peer_ms is None else f"{row.peer_ms:.2f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        cells.append((row.name, row.shape, f"{row.ours_ms:.2f}", peer, ratio))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    cells.insert(1, tuple("-" * (width - 1) + (":" if i > 1 else "-") for i, width in enumerate(widths)))
    return "\n".join(
        "| "
        + " | ".join(f"{c:>{w}}" if i > 1 else f"{c:{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in cells
    )


if __name__ == "__main__":
    cli.run(main)
