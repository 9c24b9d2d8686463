"""`pipeline`: epochs through the real input pipelines, against the same steps on one constant batch."""

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks import phantom
from experiments.benchmarks.cases import Case, Row, median_ms
from experiments.benchmarks.ours import jitted_step
from unet_jax.config import Config, ModelConfig
from unet_jax.data.converted.arrays import Arrays
from unet_jax.training.batches import Order, feed, gather
from unet_jax.training.loop import IN_FLIGHT, compile_steps, run_steps, steps_per_dispatch
from unet_jax.training.mesh import data_mesh, replicated
from unet_jax.training.optimizer import make_optimizer
from unet_jax.training.state import init_state
from unet_jax.training.steps import make_train_steps

PIPELINES = ("tfdata", "device")
CASES = ((Case(2, 4, 24, levels=2), 48, 21), (Case(16, 8, 128), 12, 5))
"""With the number of patients, and of rounds. On two cores a step of the first takes some 2 ms, where whatever the
pipeline costs shows most."""

BLOCK_SECONDS = 1.5
"""A block is whole epochs, together at least so long: what is read ahead between blocks is a small part of one."""

Block = Callable[[int], float]
"""Trains so many epochs; returns the seconds."""


def measure(folder: Path) -> list[Row]:
    """A row for each pipeline and case: milliseconds a step; the peer is the constant batch."""
    rows = []
    for case, patients, rounds in CASES:
        rows += _compare(phantom.converted(folder, patients, case.size), case, rounds)
    return rows


def _compare(arrays: Arrays, case: Case, rounds: int) -> list[Row]:
    config = Config(model=ModelConfig(width=case.width, levels=case.levels))
    order = Order(np.arange(len(arrays)), case.batch, 0)
    length = order.steps_per_epoch
    ways = {"constant": _constant(config, arrays, order)}
    ways["constant"](1)
    epochs = math.ceil(BLOCK_SECONDS / ways["constant"](1))
    ways |= {name: _through(config, arrays, order, name, 1 + rounds * epochs) for name in PIPELINES}
    for block in ways.values():
        block(1)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, block in ways.items():
            seconds[name].append(block(epochs) / (epochs * length))
    for name, each in seconds.items():
        low, _, high = statistics.quantiles(each, n=4)
        print(
            f"pipeline, {case.shape}, ms a step: {name:8} {median_ms(each):9.3f}  "
            f"(middle half {1000 * low:.3f} to {1000 * high:.3f}; blocks of {epochs} epochs)",
            flush=True,
        )
    constant = median_ms(seconds["constant"])
    return [
        Row("pipeline", f"{name}, {case.shape}, {length} steps an epoch", median_ms(seconds[name]), constant)
        for name in PIPELINES
    ]


def _constant(config: Config, arrays: Arrays, order: Order) -> Block:
    tx = make_optimizer(config.optim, order.steps_per_epoch)
    step, key = jitted_step(config, tx), jax.random.key(0)
    state = init_state(config, arrays.size, tx)
    batch = jax.device_put(gather(arrays, order(0)))

    def block(epochs: int) -> float:
        nonlocal state
        began = time.perf_counter()
        pending: deque[jax.Array] = deque()
        for _ in range(epochs * order.steps_per_epoch):
            state, loss = step(state, batch, key)
            pending.append(loss)
            if len(pending) > IN_FLIGHT:
                float(pending.popleft())
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return block


def _through(config: Config, arrays: Arrays, order: Order, pipeline: str, epochs: int) -> Block:
    length = order.steps_per_epoch
    mesh, _ = data_mesh(order.batch_size)
    tx = make_optimizer(config.optim, length)
    state, key = jax.device_put((init_state(config, arrays.size, tx), jax.random.key(0)), replicated(mesh))
    portion = steps_per_dispatch()
    pieces = feed(arrays, order, 0, epochs * length, pipeline, mesh, portion)
    first = next(pieces)
    pieces = itertools.chain([first], pieces)
    steps = compile_steps(make_train_steps(config, tx, mesh), state, first[0], key, 0, length, portion)
    done = 0

    def block(epochs: int) -> float:
        nonlocal state, done
        began = time.perf_counter()
        for _ in range(epochs):
            done += length
            state = run_steps(steps, state, pieces, done, key)
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return block
