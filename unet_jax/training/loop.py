"""Steps in a row: compiled before the first of them, a few under way at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from unet_jax.training.state import TrainState

IN_FLIGHT = 2
"""Dispatches ahead of the one waited for: enough to keep the device busy, few enough to stop at once."""

OnLosses = Callable[[int, np.ndarray], None]
"""Called with the number of a dispatch's first step, and its losses, when they have been computed."""

Stopping = Callable[[int], bool]
"""Asked before each dispatch, with the number of its first step, whether to stop there."""


def steps_per_dispatch() -> int:
    """Number of steps that one call of the compiled function does.

    An accelerator may do a step in less time than Python takes to ask for it. On a CPU, XLA computes the body of a
    loop on one core, so that several steps a call are many times slower.
    """
    return 1 if jax.default_backend() == "cpu" else 8


def portions(steps: int, most: int) -> list[int]:
    """Divide `steps` into parts: `most` as often as it goes, then the rest."""
    return [min(most, steps - done) for done in range(0, steps, most)]


def compile_steps(
    train_steps: Any, state: TrainState, source: Any, key: Any, start: int, length: int, most: int
) -> Mapping[int, Callable[..., tuple[TrainState, Any]]]:
    """Compile `make_train_steps`' function for each number of steps that a dispatch will have.

    Args:
        train_steps: from `make_train_steps`.
        state, source, key: arguments as they will be; nothing is computed from them.
        start: step that training begins with.
        length: steps of an epoch; a dispatch never reaches into the next one.
        most: the largest number of steps of a dispatch.
    """
    sizes = {size for steps in (length - start % length, length) for size in portions(steps, most)}
    return {size: train_steps.lower(state, source, key, count=size).compile() for size in sorted(sizes)}


def run_steps(
    compiled: Mapping[int, Callable[..., tuple[TrainState, Any]]],
    state: TrainState,
    chunks: Iterator[tuple[Any, int]],
    stop: int,
    key: Any,
    on_losses: OnLosses = lambda step, losses: None,
    stopping: Stopping = lambda step: False,
) -> TrainState:
    """Do the steps from the state's on to `stop - 1`, or fewer if `stopping` becomes true; on return all are done.

    Args:
        compiled: from `compile_steps`.
        state: donated.
        chunks: from `batches.feed`, none of which reaches beyond `stop`.
        stop: the end of an epoch, counted from the beginning of the run.
        key: the run's base key.
        on_losses, stopping: told of and asked before each dispatch, in order; what they raise ends the loop.
    """
    most, step = max(compiled), int(state.step)
    under_way: deque[tuple[int, Any]] = deque()

    def finish_one() -> None:
        first, losses = under_way.popleft()
        on_losses(first, np.asarray(losses))

    stopped = False
    while step < stop and not stopped:
        source, count = next(chunks)
        for size in portions(count, most):
            stopped = stopping(step)
            if stopped:
                break
            state, losses = compiled[size](state, source, key)
            under_way.append((step, losses))
            step += size
            if len(under_way) > IN_FLIGHT:
                finish_one()
    while under_way:
        finish_one()
    return state
