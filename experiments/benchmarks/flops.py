"""Floating-point operations of the networks by formula, and as XLA counts them."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.benchmarks.cases import AnyCase, BestCase
from unet_jax.models.encoders.efficientnet_lite0 import LAST_OF_SIZE, STAGES, STEM


def convolutions(case: AnyCase) -> Iterator[int]:
    """Floating-point operations of each convolution for one slice, the first one first.

    A product and a sum for every output value, kernel tap and input channel, of which a depthwise convolution sees one;
    zero padding counts as data. For a transposed convolution with stride 2: for every input value, kernel tap and
    output channel.
    """
    widths = case.config.model.upward_widths
    if isinstance(case, BestCase):
        skips, bottom = (1, *(STAGES[stage].features for stage in LAST_OF_SIZE[:-1])), STAGES[-1].features
        yield from _lite0(case.size)
    else:
        skips, bottom = widths, widths[-1]
        yield from _plain(case.size, widths)
    yield from _upward(case.size, widths, skips, bottom)


def _plain(size: int, widths: Sequence[int]) -> Iterator[int]:
    channels = 1
    for level, width in enumerate((*widths, widths[-1])):
        pixels = (size >> level) ** 2
        yield 2 * 9 * pixels * channels * width
        yield 2 * 9 * pixels * width * width
        channels = width


def _lite0(size: int) -> Iterator[int]:
    """EfficientNet-Lite0 on one channel; a block widens, convolves channel by channel, and narrows."""
    side, channels = size // 2, STEM
    yield 2 * 9 * side**2 * STEM
    for stage in STAGES:
        for place in range(stage.repeats):
            inside = stage.expansion * channels
            if stage.expansion > 1:
                yield 2 * side**2 * channels * inside
            side //= stage.stride if place == 0 else 1
            yield 2 * stage.size**2 * side**2 * inside
            yield 2 * side**2 * inside * stage.features
            channels = stage.features


def _upward(size: int, widths: Sequence[int], skips: Sequence[int], channels: int) -> Iterator[int]:
    for level, width in reversed(list(enumerate(widths))):
        pixels = (size >> level) ** 2
        yield 2 * 9 * pixels // 4 * channels * width
        yield 2 * 9 * pixels * (width + skips[level]) * width
        yield 2 * 9 * pixels * width * width
        channels = width
    yield 2 * size**2 * channels


def forward_flops(case: AnyCase) -> int:
    """Operations of the convolutions of one slice; all else is below a hundredth of them at width 64."""
    return sum(convolutions(case))


def train_flops(case: AnyCase) -> int:
    """As `forward_flops`, with the gradients: each convolution's weights' and input's, save that of the image."""
    counts = list(convolutions(case))
    return 3 * sum(counts) - counts[0]


def xla_flops(compiled: Any) -> float:
    """What XLA counts in a compiled function's optimised program; zero padding does not count."""
    return float(compiled.cost_analysis()["flops"])
