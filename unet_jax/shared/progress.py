"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

WORTH_LINES, WORTH_LINES_BYTES = 100, 10_000_000
"""Less work, in things or bytes, is done without a word where there is no terminal."""


@contextmanager
def progress(total: int, name: str, unit: str = "slice") -> Iterator[Callable[[int], object]]:
    """Show how far work has come, with rate and time left.

    Args:
        total: how many there are to do; bytes where `unit` is B.
        name: what is done, in a word.
        unit: what is counted.

    Yields:
        A function to be called with the number done since the last call.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=name, unit=unit, unit_scale=unit == "B", leave=False) as bar:
            yield bar.update
        return
    start, done = time.perf_counter(), 0

    def advance(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        least = WORTH_LINES_BYTES if unit == "B" else WORTH_LINES
        if total >= least and done * 10 // total > before * 10 // total:
            rate = done / (time.perf_counter() - start)
            line = f"{name}: {done}/{total} {unit}s, {rate:.0f} {unit}s/s"
            if unit == "B":
                line = f"{name}: {done / 1e6:.1f}/{total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
            print(line, file=sys.stderr, flush=True)

    yield advance


def track(items: Iterable[T], total: int, name: str, unit: str = "slice") -> Iterator[T]:
    """Pass items on, `total` of them, and show `progress`: one counts as done when the next one is asked for."""
    with progress(total, name, unit) as advance:
        for item in items:
            yield item
            advance(1)
