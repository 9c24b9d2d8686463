"""Floating-point operations of the network by formula, and as XLA counts them."""

from collections.abc import Iterator
from typing import Any

from experiments.benchmarks.cases import Case


def convolutions(case: Case) -> Iterator[int]:
    """Floating-point operations of each convolution for one slice, the first one first.

    A product and a sum for every output value, kernel tap and input channel; zero padding counts as data. For a
    transposed convolution with stride 2: for every input value, kernel tap and output channel.
    """
    widths = [case.width * 2**level for level in range(case.levels)]
    channels = 1
    for level, width in enumerate(widths):
        pixels = (case.size >> level) ** 2
        yield 2 * 9 * pixels * channels * width
        yield 2 * 9 * pixels * width * width
        channels = width
    pixels = (case.size >> case.levels) ** 2
    yield 2 * 9 * pixels * channels * channels
    yield 2 * 9 * pixels * channels * channels
    for level, width in reversed(list(enumerate(widths))):
        pixels = (case.size >> level) ** 2
        yield 2 * 9 * pixels // 4 * channels * width
        yield 2 * 9 * pixels * 2 * width * width
        yield 2 * 9 * pixels * width * width
        channels = width
    yield 2 * case.size**2 * channels


def forward_flops(case: Case) -> int:
    """Operations of the convolutions of one slice; all else is below a hundredth of them at width 64."""
    return sum(convolutions(case))


def train_flops(case: Case) -> int:
    """As `forward_flops`, with the gradients: each convolution's weights' and input's, save that of the image."""
    counts = list(convolutions(case))
    return 3 * sum(counts) - counts[0]


def xla_flops(compiled: Any) -> float:
    """What XLA counts in a compiled function's optimised program; zero padding does not count."""
    return float(compiled.cost_analysis()["flops"])
