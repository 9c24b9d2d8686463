"""`train_step` and `inference`, plain and of the preset `best`: milliseconds a slice, ours and the peers' in turns."""

import importlib.util
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from experiments.benchmarks.cases import KINDS, AnyCase, BestCase, Case, Kind, Name, Precision, Row, median_ms
from experiments.benchmarks.flops import forward_flops, train_flops
from experiments.benchmarks.workers import Worker
from unet_jax.config import RunError, UserError

Peer = Literal["torch", "keras", "smp", "onnxruntime"]
PLAIN: tuple[Peer, ...] = ("torch", "keras")
"""Peers of plain networks: they compute the same function, which is verified before they are timed."""
ALIKE: tuple[Peer, ...] = ("smp",)
"""Peers of the preset `best`: networks of the same kind, with weights of their own."""
EXPORTED: tuple[Peer, ...] = ("onnxruntime",)
"""What our own exported networks are run by, of all kinds: the same function, verified too; inference in float32."""

ROUNDS = 7
BLOCK_SECONDS = 1.0
"""A block of calls takes at least so long, and all frameworks take as many blocks as there are rounds."""

TOLERANCE = 1e-3
"""Largest difference between the logits, or losses, of two frameworks that compute the same function."""

ANYWHERE = (Case(64, 4, 128), Case(16, 16, 128), BestCase(16, 192), BestCase(16, 256))
"""Measured in each precision that is asked for."""
ON_ACCELERATOR = tuple(Case(width, 32, size, "bfloat16") for width in (64, 16) for size in (128, 256))

NEEDED = {
    "torch": ("torch",),
    "keras": ("keras", "tensorflow"),
    "smp": ("segmentation_models_pytorch", "timm", "torch"),
    "onnxruntime": ("onnx", "onnxruntime"),
}
PEERS_EXTRA = "pip install -e '.[peers]'"
REMEDY = {
    "torch": PEERS_EXTRA,
    "keras": "pip install tensorflow-cpu",
    "smp": PEERS_EXTRA,
    "onnxruntime": "pip install -e '.[onnx]'",
}
ENVIRONMENT = {
    "ours": {},
    "torch": {},
    "smp": {},
    "onnxruntime": {},
    "keras": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
}


def check_installed(against: Sequence[Peer]) -> None:
    """Raise UserError unless all of these peers can be imported."""
    for peer in against:
        for module in NEEDED[peer]:
            if importlib.util.find_spec(module) is None:
                raise UserError(f"--against {peer} needs {module}, which is not installed. Run `{REMEDY[peer]}`.")


def compare(
    names: Sequence[Name], against: Sequence[Peer], precisions: Sequence[Precision] = ("float32",)
) -> list[Row]:
    """Time our networks and the peers' at the shapes that the README reports; rows in the order of the names."""
    cases: list[AnyCase] = [
        replace(case, precision=precision) for precision in dict.fromkeys(precisions) for case in ANYWHERE
    ]
    needed: list[Peer] = [
        peer for peer in against if any(peer in fitting(case, kind) for case in cases for kind in _kinds(case, names))
    ]
    with started(needed) as sides:
        if sides["ours"].call("describe")["accelerator"]:
            cases += ON_ACCELERATOR
        rows: dict[Name, list[Row]] = {name: [] for name in names}
        for case in cases:
            kinds = _kinds(case, names)
            if not kinds:
                continue
            build({name: sides[name] for kind in kinds for name in _measured(sides, case, kind)}, case)
            for kind in kinds:
                medians = timed({name: sides[name] for name in _measured(sides, case, kind)}, kind, case)
                _report_share(sides["ours"], kind, case, medians["ours"])
                fastest = min((medians[peer] for peer in medians if peer != "ours"), default=None)
                rows[case.name(kind)].append(Row(case.name(kind), case.shape, medians["ours"], fastest))
    return [row for name in names for row in rows[name]]


def fitting(case: AnyCase, kind: Kind) -> tuple[Peer, ...]:
    """The peers that compute this with a network for the case."""
    exported = EXPORTED if kind == "inference" and case.precision == "float32" else ()
    return (*(ALIKE if isinstance(case, BestCase) else PLAIN), *exported)


def _measured(sides: Mapping[str, Worker], case: AnyCase, kind: Kind) -> list[str]:
    return [name for name in sides if name == "ours" or name in fitting(case, kind)]


def _kinds(case: AnyCase, names: Sequence[Name]) -> list[Kind]:
    return [kind for kind in KINDS if case.name(kind) in names]


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


def build(sides: Mapping[str, Worker], case: AnyCase) -> None:
    """Make the case's network everywhere, with our weights but in `ALIKE`.

    Args:
        sides: ours, and peers that fit the case.
        case: which network.

    Raises:
        RunError: a peer that is no `ALIKE` computes another function than ours.
    """
    weights = sides["ours"].call("build", case)
    expected: Any = None
    for name, side in sides.items():
        if name == "ours":
            continue
        if name in ALIKE:
            values, flops = side.call("build", case)
            _report_alike(name, case, values, flops, weights)
            continue
        if expected is None:
            expected = sides["ours"].call("evaluate")
        side.call("build", case, weights)
        logits, loss = side.call("evaluate")
        differ = max(float(np.abs(logits - expected[0]).max()), 0.0 if loss is None else abs(loss - expected[1]))
        if not differ <= TOLERANCE:
            raise RunError(
                f"{name} does not compute our network at {case.shape}: logits or loss differ by {differ:.2g}, and may "
                f"by {TOLERANCE:g}. Timing it would mean nothing; make {name}_peer.py follow "
                "unet_jax/models/network.py."
            )


def timed(
    sides: Mapping[str, Worker],
    kind: Kind,
    case: AnyCase,
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
    print(f"{case.name(kind)}, {case.shape}, ms a slice:")
    for name, seconds in blocks.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        print(
            f"  {name:11} {medians[name]:9.3f}  (middle half {1000 * low:.3f} to {1000 * high:.3f}; {ways[name]})",
            flush=True,
        )
    return medians


def _report_alike(name: str, case: AnyCase, values: int, flops: int, weights: Mapping[str, np.ndarray]) -> None:
    ours = sum(value.size for name, value in weights.items() if name.startswith("params/"))
    print(
        f"{name}, {case.shape}: a network of the same kind, not the same function. Its weights are its own and were "
        f"not compared with ours: {values:,} values (ours {ours:,}), {flops / 1e9:.2f} GFLOP a slice forward "
        f"(ours {forward_flops(case) / 1e9:.2f})",
        flush=True,
    )


def _report_share(ours: Worker, kind: Kind, case: AnyCase, ms: float) -> None:
    peak = ours.call("matmul_peak", case.precision)
    operations = train_flops(case) if kind == "train_step" else forward_flops(case)
    rate = 1000 * operations / ms
    print(
        f"  ours: {operations / 1e9:.2f} GFLOP a slice, {rate / 1e9:.0f} GFLOP/s, which is {rate / peak:.0%} of the "
        f"{peak / 1e9:.0f} GFLOP/s of a matrix product in {case.precision}",
        flush=True,
    )
