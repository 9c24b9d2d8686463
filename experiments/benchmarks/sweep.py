"""`--sweep`: how time grows with image size, batch and width, against the arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.benchmarks.cases import KINDS, Case, Kind
from experiments.benchmarks.flops import forward_flops, train_flops
from experiments.benchmarks.network import PLAIN, Peer, build, started, timed

BASE = Case(width=16, batch=4, size=128)
AXES: Mapping[str, Sequence[int]] = {"size": (32, 64, 128, 256), "batch": (1, 2, 4, 8, 16), "width": (8, 16, 32, 64)}
"""What varies, the rest being as in BASE."""

LABELS = {"size": "side of the image, pixels", "batch": "slices a batch", "width": "channels of the first level"}


@dataclass(frozen=True)
class Point:
    kind: Kind
    axis: str
    case: Case
    ms: Mapping[str, float]
    """Milliseconds a slice by framework."""
    flops: int
    """Of a slice, by formula."""
    xla_flops: float
    """Of a slice, as XLA counts our program."""

    @property
    def value(self) -> int:
        return getattr(self.case, self.axis)


def sweep(against: Sequence[Peer]) -> tuple[list[Point], float]:
    """The points, and the operations a second of a large float32 matrix product."""
    points, seen = [], {}
    with started([peer for peer in against if peer in PLAIN]) as sides:
        peak = sides["ours"].call("matmul_peak", "float32")
        for axis, values in AXES.items():
            for value in values:
                case = replace(BASE, **{axis: value})
                if case not in seen:
                    build(sides, case)
                    seen[case] = {kind: _measure(sides, kind, case) for kind in KINDS}
                points += [Point(kind, axis, case, *seen[case][kind]) for kind in KINDS]
    return points, peak


def _measure(sides: Mapping, kind: Kind, case: Case) -> tuple[dict[str, float], int, float]:
    ms = timed(sides, kind, case, rounds=5, block_seconds=0.5, every_way=False)
    counted = sides["ours"].call("xla_flops", kind) / case.batch
    return ms, train_flops(case) if kind == "train_step" else forward_flops(case), counted


def table(points: Sequence[Point]) -> str:
    """Markdown."""
    names = list(points[0].ms)
    head = ["kind", "shape", "GFLOP, formula", "GFLOP, XLA", *(f"{n}, ms" for n in names), "ours, GFLOP/s"]
    lines = [head, ["---"] * len(head)]
    done = set()
    for p in points:
        if (p.kind, p.case) not in done:
            done.add((p.kind, p.case))
            times = [f"{p.ms[name]:.2f}" for name in names]
            counts = [f"{p.flops / 1e9:.3f}", f"{p.xla_flops / 1e9:.3f}"]
            lines.append([p.kind, p.case.shape, *counts, *times, f"{p.flops / p.ms['ours'] / 1e6:.0f}"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def draw(points: Sequence[Point], peak: float, path: Path) -> None:
    """Write the figure as PNG: above milliseconds a slice, below operations a second, a column for each axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(AXES), sharey="row")
    for column, axis in enumerate(AXES):
        above, below = panels[:, column]
        for kind, colour in zip(KINDS, ("tab:blue", "tab:red"), strict=True):
            here = [p for p in points if p.axis == axis and p.kind == kind]
            values = [p.value for p in here]
            for name, style in zip(here[0].ms, ("o-", "s--", "^:"), strict=False):
                label = f"{kind.replace('_', ' ')}, {name}"
                above.plot(values, [p.ms[name] for p in here], style, color=colour, label=label, markersize=5)
                rates = [p.flops / p.ms[name] / 1e6 for p in here]
                below.plot(values, rates, style, color=colour, label=label, markersize=5)
            floor = [1000 * p.flops / peak for p in here]
            above.plot(values, floor, color=colour, alpha=0.3, linewidth=4, label=f"{kind.replace('_', ' ')}, floor")
        below.axhline(peak / 1e9, color="black", linewidth=1, label="matrix product")
        fixed = ", ".join(f"{name} {getattr(BASE, name)}" for name in AXES if name != axis)
        above.set_title(f"{axis} ({fixed})")
        for panel in (above, below):
            panel.set_xscale("log", base=2)
            panel.set_xticks(AXES[axis], [str(v) for v in AXES[axis]])
            panel.grid(alpha=0.3)
            panel.set_xlabel(LABELS[axis])
        above.set_yscale("log")
    # Once all are drawn, since it ends the scaling of an axis that they share.
    panels[1, 0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("ms a slice")
    panels[1, 0].set_ylabel("GFLOP/s of the convolutions")
    panels[0, 0].legend(fontsize=8)
    panels[1, 0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
