"""The training state and how it begins."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from unet_jax.config import Config
from unet_jax.models.network import UNet
from unet_jax.models.pretrained import read_pretrained, with_pretrained
from unet_jax.scoring.metrics import Counts
from unet_jax.training.counts import zero_counts


@flax.struct.dataclass
class Sums:
    """Sums over the steps of an epoch; kept in the training state, so that an interrupted epoch ends with its own."""

    loss: Any
    """Sum of the steps' losses, float32."""
    steps: Any
    """Number of steps, int32."""
    counts: Counts

    @classmethod
    def zeros(cls) -> "Sums":
        """Make sums of nothing, on the default device."""
        return cls(loss=jnp.zeros(()), steps=jnp.zeros((), jnp.int32), counts=zero_counts())


@flax.struct.dataclass
class TrainState:
    """Everything that training changes."""

    step: Any
    """Steps done, int32."""
    params: Any
    batch_stats: Any
    """Running means and variances."""
    opt_state: Any
    sums: Sums


def init_state(config: Config, size: int, tx: optax.GradientTransformation, *, resumed: bool = False) -> TrainState:
    """Draw fresh weights from `config.seed`, for images of `size` x `size`; the encoder's are those it starts from.

    Args:
        config: of the run.
        size: side of the images in pixels.
        tx: the optimizer.
        resumed: a checkpoint will take the place of all values, so the encoder's file is not read.

    Raises:
        UserError: the network's stride does not divide `size`, or the encoder's weights cannot be had or do not fit.
    """
    net = UNet(config.model)
    init = jax.jit(lambda key: net.init(key, jnp.zeros((1, size, size, 1)), train=False))
    variables = init(jax.random.key(config.seed))
    if config.model.encoder_weights != "none" and not resumed:
        variables = with_pretrained(variables, read_pretrained(config.model.encoder_weights))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.jit(tx.init)(params),
        sums=Sums.zeros(),
    )


@jax.jit
def all_finite(tree: Any) -> Array:
    """Tell whether every floating-point value of a pytree is finite."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
