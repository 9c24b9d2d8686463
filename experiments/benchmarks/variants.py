"""Of several ways to compute the same, the fastest."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

Call = Callable[[], Any]


Ways = Mapping[str, Callable[[], Call]]
"""Name to what makes the call."""


def first(ways: Ways) -> Ways:
    """The first of them alone."""
    name = next(iter(ways))
    return {name: ways[name]}


def fastest(ways: Ways, timed: Callable[[Call, int], float]) -> tuple[str, Call, float]:
    """Try all of them, warmed up; one that fails is named on standard error and left out.

    Args:
        ways: what to choose from.
        timed: the seconds a call, of so many calls one after another, after one that may compile.

    Returns:
        Name, call and seconds of the fastest.
    """
    found: dict[str, tuple[float, Call]] = {}
    for name, make in ways.items():
        try:
            call = make()
            seconds = timed(call, 1)
            if seconds < 2 * min((other for other, _ in found.values()), default=seconds):
                seconds = min(seconds, timed(call, 1))  # a second chance for what is near
            found[name] = seconds, call
        except Exception as e:
            print(f"{name} is left out: {type(e).__name__}: {e}", file=sys.stderr)
    best = min(found, key=lambda name: found[name][0])
    if len(ways) > 1:
        print("  " + ", ".join(f"{name} {1000 * s:.1f} ms a call" for name, (s, _) in found.items()), file=sys.stderr)
    return best, found[best][1], found[best][0]
