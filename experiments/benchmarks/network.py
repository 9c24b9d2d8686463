"""`train_step` and `inference`: milliseconds a slice, ours and the peers' in turns."""

import importlib.util
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, cast

import numpy as np

from experiments.benchmarks.cases import Case, Kind, Row, median_ms
from experiments.benchmarks.flops import forward_flops, train_flops
from experiments.benchmarks.workers import Worker
from unet_jax.config import RunError, UserError

Peer = Literal["torch", "keras"]

ROUNDS = 7
BLOCK_SECONDS = 1.0
"""A block of calls takes at least so long, and all frameworks take as many blocks as there are rounds."""

TOLERANCE = 1e-3
"""Largest difference between the logits, or losses, of two frameworks that compute the same function."""

ON_CPU = (Case(64, 4, 128), Case(16, 16, 128))
ON_ACCELERATOR = (Case(64, 32, 128, "bfloat16"), Case(64, 32, 256, "bfloat16"))

NEEDED = {"torch": ("torch",), "keras": ("keras", "tensorflow")}
REMEDY = {"torch": "pip install -e '.[peers]'", "keras": "pip install tensorflow-cpu"}
ENVIRONMENT = {
    "ours": {},
    "torch": {},
    "keras": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
}


def check_installed(against: Sequence[Peer]) -> None:
    """Raise UserError unless all of these peers can be imported."""
    for peer in against:
        for module in NEEDED[peer]:
            if importlib.util.find_spec(module) is None:
                raise UserError(f"--against {peer} needs {module}, which is not installed. Run `{REMEDY[peer]}`.")


def compare(kinds: Sequence[Kind], against: Sequence[Peer]) -> list[Row]:
    """Time our network and the peers' at the shapes that the README reports; rows in the order of the kinds."""
    with started(against) as sides:
        accelerator = sides["ours"].call("describe")["accelerator"]
        rows = []
        for case in (*ON_CPU, *(ON_ACCELERATOR if accelerator else ())):
            build(sides, case)
            for kind in kinds:
                medians = timed(sides, kind, case)
                _report_share(sides["ours"], kind, case, medians["ours"])
                fastest = min((medians[peer] for peer in medians if peer != "ours"), default=None)
                rows.append(Row(kind, case.shape, medians["ours"], fastest))
    return sorted(rows, key=lambda row: kinds.index(cast(Kind, row.name)))


@contextmanager
def started(against: Sequence[Peer]) -> Iterator[dict[str, Worker]]:
    """A process for us and one for each peer that computes on the same device as we do."""
    with ExitStack() as opened:
        sides: dict[str, Worker] = {}
        accelerators: dict[str, bool] = {}
        for name in ("ours", *against):
            module = "experiments.benchmarks." + (name if name == "ours" else f"{name}_peer")
            side = opened.enter_context(Worker(module, ENVIRONMENT[name]))
            what = side.call("describe")
            print(f"{name}: {what['name']}, {what['device']}", flush=True)
            accelerators[name] = what["accelerator"]
            if accelerators[name] == accelerators["ours"]:
                sides[name] = side
            else:
                print(f"{name} is left out: it computes on {what['device']}, and we do not.", flush=True)
        yield sides


def build(sides: Mapping[str, Worker], case: Case) -> None:
    """Make the case's network everywhere with our weights.

    Raises:
        RunError: a peer computes another function than ours.
    """
    weights = sides["ours"].call("build", case)
    expected: tuple[Any, float] | None = None
    for name, side in sides.items():
        if name == "ours":
            expected = side.call("evaluate")
            continue
        side.call("build", case, weights)
        assert expected is not None
        logits, loss = side.call("evaluate")
        differ = max(float(np.abs(logits - expected[0]).max()), abs(loss - expected[1]))
        if not differ <= TOLERANCE:
            raise RunError(
                f"{name} does not compute our network at {case.shape}: logits or loss differ by {differ:.2g}, and may "
                f"by {TOLERANCE:g}. Timing it would mean nothing; make {name}_peer.py follow unet_jax/models/unet.py."
            )


def timed(
    sides: Mapping[str, Worker],
    kind: Kind,
    case: Case,
    *,
    rounds: int = ROUNDS,
    block_seconds: float = BLOCK_SECONDS,
    every_way: bool = True,
) -> dict[str, float]:
    """Milliseconds a slice by framework: medians of `rounds` blocks of calls, which the frameworks take in turns."""
    ways, calls = {}, {}
    blocks: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in sides.items():
        ways[name], seconds = side.call("prepare", kind, every_way)
        calls[name] = max(1, math.ceil(block_seconds / seconds))
    for _ in range(rounds):
        for name, side in sides.items():
            blocks[name].append(side.call("block", calls[name]) / case.batch)
    medians = {name: median_ms(seconds) for name, seconds in blocks.items()}
    print(f"{kind}, {case.shape}, ms a slice:")
    for name, seconds in blocks.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        print(
            f"  {name:6} {medians[name]:9.3f}  (middle half {1000 * low:.3f} to {1000 * high:.3f}; {ways[name]})",
            flush=True,
        )
    return medians


def _report_share(ours: Worker, kind: Kind, case: Case, ms: float) -> None:
    peak = ours.call("matmul_peak", case.precision)
    operations = train_flops(case) if kind == "train_step" else forward_flops(case)
    rate = 1000 * operations / ms
    print(
        f"  ours: {operations / 1e9:.1f} GFLOP a slice, {rate / 1e9:.0f} GFLOP/s, which is {rate / peak:.0%} of the "
        f"{peak / 1e9:.0f} GFLOP/s of a matrix product in {case.precision}",
        flush=True,
    )
