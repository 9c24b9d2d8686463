"""A training state of every kind of array, and checkpoints of it."""

from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from unet_jax.training.checkpoints.store import Checkpoints


@flax.struct.dataclass
class State:
    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    sums: Any


def make_state(seed: int = 0, width: int = 3) -> State:
    """Make a state whose values depend on the seed, and one shape on the width."""
    rng = np.random.default_rng(seed)
    kernel, head = rng.normal(size=(3, 3, 1, width)), rng.normal(size=(width, 700))
    params = {
        "enc0": {"conv1": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(width)}},
        "head": {"kernel": jnp.asarray(head, jnp.bfloat16)},
    }
    # Negative zero, a subnormal number and a NaN with a payload: bits are to be equal, not values.
    odd = jnp.asarray(np.array([1 << 31, 1, 0x7FC01234], np.uint32).view(np.float32))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    return State(
        step=jnp.int32(7 + seed),
        params=params,
        batch_stats={"norm0": {"mean": odd, "var": jnp.arange(3.0)}},
        opt_state=tx.init(params),
        sums={
            "loss": jnp.float32(0.1),
            "key": jnp.array([seed, 2**32 - 1], jnp.uint32),
            "counts": (jnp.zeros((), jnp.int32), None),
        },
    )


def variables(state: State) -> dict[str, Any]:
    """Give the part that inference needs."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Compare bits and not values: a negative zero is not zero."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, jax.Array)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def write(directory: Path, metrics: dict[int, float | None]) -> None:
    """Save steps with these metrics."""
    with Checkpoints(directory) as checkpoints:
        for step, metric in metrics.items():
            checkpoints.save(step, make_state(step), metric)
