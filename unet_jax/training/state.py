"""The training state and how it begins."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from unet_jax.config import Config
from unet_jax.models.network import UNet
from unet_jax.models.pretrained import read_pretrained, with_pretrained
from unet_jax.scoring.metrics import Counts
from unet_jax.training.checkpoints.trees import flatten, nest
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
    """Weights to evaluate and to keep."""
    batch_stats: Any
    """Running means and variances, likewise."""
    opt_state: Any
    sums: Sums
    trained: Any = None
    """`params` and `batch_stats` that the gradient changes, where those above are their running average; else None."""

    @property
    def variables(self) -> Any:
        """The weights and statistics that the gradient changes: {"params": ..., "batch_stats": ...}."""
        return self.trained or {"params": self.params, "batch_stats": self.batch_stats}

    def advance(self, variables: Any, opt_state: Any, sums: Sums, decay: float) -> "TrainState":
        """Give the state after a step, which left these variables.

        Under a running average with `decay` above 0, its weight of the past in step t, from 0, is the smaller one of
        `decay` and (1 + t) / (10 + t), so that the first weights are soon forgotten.
        """
        kept: Any = variables
        if decay:
            past = jnp.minimum(decay, (1 + self.step) / (10 + self.step))
            before = {"params": self.params, "batch_stats": self.batch_stats}
            kept = optax.incremental_update(variables, before, 1 - past)
        return TrainState(
            step=self.step + 1,
            params=kept["params"],
            batch_stats=kept["batch_stats"],
            opt_state=opt_state,
            sums=sums,
            trained=variables if decay else None,
        )


def init_state(
    config: Config,
    size: int,
    tx: optax.GradientTransformation,
    *,
    resumed: bool = False,
    initial: Mapping[str, np.ndarray] | None = None,
) -> TrainState:
    """Draw fresh weights from `config.seed`, for images of `size` x `size`; the encoder's are those it starts from.

    Args:
        config: of the run.
        size: side of the images in pixels.
        tx: the optimizer.
        resumed: a checkpoint will take the place of all values, so the encoder's file is not read.
        initial: parameters and running statistics that take the place of drawn ones, by name (`trees.flatten`).

    Raises:
        UserError: the network's stride does not divide `size`, or the encoder's weights cannot be had or do not fit.
    """
    net = UNet(config.model)
    init = jax.jit(lambda key: net.init(key, jnp.zeros((1, size, size, 1)), train=False))
    variables = init(jax.random.key(config.seed))
    if config.model.encoder_weights != "none" and not resumed:
        variables = with_pretrained(variables, read_pretrained(config.model.encoder_weights))
    if initial is not None:
        # Copied, since a step donates the state.
        variables = nest(flatten(variables) | {name: jnp.array(x) for name, x in initial.items()})
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    trained = {"params": params, "batch_stats": batch_stats}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.jit(tx.init)(params),
        sums=Sums.zeros(),
        # Copied, since a step donates the state, and no buffer can be given twice.
        trained=jax.tree.map(jnp.copy, trained) if config.optim.ema_decay else None,
    )


@jax.jit
def all_finite(tree: Any) -> Array:
    """Tell whether every floating-point value of a pytree is finite."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
