"""`memory`: the largest training batch at 512 px that a machine has memory for, with and without rematerialisation.

Compiled, not run: XLA says how much memory a compiled step needs.
"""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.ours import jitted_step
from unet_jax.config import Config, ModelConfig
from unet_jax.training.batches import Batch
from unet_jax.training.optimizer import make_optimizer
from unet_jax.training.state import init_state

SIZE = 512
WIDTHS = (64, 16)
GIB = 2**30
BUDGET = 24 * GIB


def report() -> str:
    """A table for a person."""
    lines = ["| width | remat | largest batch | GiB | GiB a further slice |", "|---:|---|---:|---:|---:|"]
    for width in WIDTHS:
        for remat in (False, True):
            config = Config(model=ModelConfig(width=width, remat=remat))
            batch, needed, further = largest_batch(config, BUDGET)
            lines.append(f"| {width} | {remat} | {batch} | {needed / GIB:.2f} | {further / GIB:.3f} |")
    return "\n".join(lines)


def largest_batch(config: Config, budget: float) -> tuple[int, int, float]:
    """The largest batch whose step needs at most `budget` bytes, these bytes, and how many a further slice takes."""
    one, two = (step_bytes(config, batch) for batch in (1, 2))
    further = two - one
    batch = max(1, 1 + int((budget - one) / further))
    needed = step_bytes(config, batch)
    # What a slice takes is nearly, and not quite, the same for every batch.
    while needed > budget and batch > 1:
        batch -= 1
        needed = step_bytes(config, batch)
    while (more := step_bytes(config, batch + 1)) <= budget:
        batch, needed = batch + 1, more
    return batch, needed, further


def step_bytes(config: Config, batch: int) -> int:
    """The memory of a train step on `batch` slices: training state, batch, and what is computed on the way."""
    tx = make_optimizer(config.optim, 1)
    state: Any = jax.eval_shape(lambda: init_state(config, SIZE, tx))
    picture = (batch, SIZE, SIZE)
    sample: Any = jax.eval_shape(
        lambda: Batch(
            images=jnp.zeros(picture, jnp.int16),
            masks=jnp.zeros(picture, jnp.uint8),
            labels=jnp.ones(batch, jnp.int32),
            p1=jnp.zeros(batch),
            p99=jnp.ones(batch),
            valid=jnp.ones(batch, bool),
            midline=jnp.zeros(batch),
        )
    )
    step = jitted_step(config, tx)
    memory: Any = step.lower(state, sample, jax.eval_shape(lambda: jax.random.key(0))).compile().memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
