"""The training state, the optimizer and its schedule, and the compiled train and evaluation steps."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from unet_jax.config import Config
from unet_jax.models.compiler import compiler_options
from unet_jax.models.heads import tumor_logits
from unet_jax.models.network import UNet
from unet_jax.models.preprocess import preprocess
from unet_jax.scoring.metrics import Counts, apply_threshold
from unet_jax.training.augment.geometry import augment
from unet_jax.training.counts import count
from unet_jax.training.losses.terms import LossSums, loss_sums, loss_value
from unet_jax.training.mesh import divided, replicated
from unet_jax.training.state import Sums, TrainState

THRESHOLD = 0.5
"""Threshold of the metrics shown during training; the one for use is chosen on validation afterwards."""


def class_targets(masks: Shaped[Array, "b h w"], labels: Shaped[Array, " b"], classes: int) -> Float[Array, "b h w c"]:
    """Masks as targets, 0 or 1: one channel, or one a tumour type of which the slice's own has the mask.

    Args:
        masks: 0 or 1.
        labels: 1 to 3.
        classes: 1 or 3.
    """
    target = masks.astype(jnp.float32)[..., None]
    if classes == 1:
        return target
    own = labels.reshape(-1, 1) == jnp.arange(1, classes + 1).reshape(1, -1)
    return target * own[:, None, None, :]


def make_train_step(config: Config, tx: optax.GradientTransformation) -> Callable[..., tuple[TrainState, Array]]:
    """A function `(state, batch, key) -> (state, loss)`, to be compiled.

    The batch is `data.pipeline.Batch`; the key is the run's base key, into which the step is folded.
    """
    apply: Any = UNet(config.model).apply  # its type does not tell whether it also returns the updated statistics

    def train_step(state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Array]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        images, masks = augment(augment_key, batch.images, batch.masks, config.augment)
        x = preprocess(images, batch.p1, batch.p99, config.preprocess)
        target = class_targets(masks, batch.labels, config.model.classes)
        valid = batch.valid.astype(jnp.float32)

        def loss_fn(params: Any) -> tuple[Array, tuple[Any, Array]]:
            logits, updates = apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            loss = loss_value(loss_sums(logits, target, valid), config.loss)
            return loss, (updates.get("batch_stats", {}), logits)

        (loss, (batch_stats, logits)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        sums = state.sums
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            sums=Sums(
                loss=sums.loss + loss,
                steps=sums.steps + 1,
                counts=sums.counts + _counts(logits, masks, batch.valid),
            ),
        ), loss

    return train_step


def make_train_steps(
    config: Config, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[..., tuple[TrainState, Float[Array, " count"]]]:
    """A jitted `(state, source, key, *, count) -> (state, losses)` that does `count` steps and donates the state.

    Args:
        config, tx: as `make_train_step`.
        mesh: the devices that a batch is divided among. The state is on each of them.

    Returns:
        The function. Its source is `data.pipeline.Source`, from which each step takes its own batch.
    """
    train_step, batch_sharding = make_train_step(config, tx), divided(mesh)

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        static_argnames="count",
        out_shardings=replicated(mesh),
        compiler_options=compiler_options(remat=config.model.remat),
    )
    def train_steps(state: TrainState, source: Any, key: Array, *, count: int) -> tuple[TrainState, Array]:
        def body(state: TrainState, _: None) -> tuple[TrainState, Array]:
            index = source.rows.at[state.step - source.first].get(mode="promise_in_bounds")
            batch = jax.tree.map(lambda x: x.at[index].get(mode="promise_in_bounds"), source.slices)
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
            # The barrier keeps how a batch is taken from changing how it is computed with, and so its rounding.
            return train_step(state, jax.lax.optimization_barrier(batch), key)

        if count == 1:  # a loop costs time on a CPU, even when it runs once
            state, loss = body(state, None)
            return state, loss.reshape(1)
        return jax.lax.scan(body, state, length=count)

    return train_steps


def make_eval_step(config: Config, mesh: Mesh) -> Callable[..., tuple[LossSums, Counts]]:
    """A jitted `(params, batch_stats, batch) -> (LossSums, Counts)` with the running statistics, no dropout.

    Args:
        config: as `make_train_step`.
        mesh: the devices that a batch is divided among, and where the sums will be.
    """
    apply: Any = UNet(config.model).apply  # its type does not tell whether it also returns the updated statistics

    @functools.partial(jax.jit, out_shardings=replicated(mesh), compiler_options=compiler_options())
    def eval_step(params: Any, batch_stats: Any, batch: Any) -> tuple[LossSums, Counts]:
        x = preprocess(batch.images, batch.p1, batch.p99, config.preprocess)
        logits = apply({"params": params, "batch_stats": batch_stats}, x, train=False)
        target = class_targets(batch.masks, batch.labels, config.model.classes)
        sums = loss_sums(logits, target, batch.valid.astype(jnp.float32))
        return sums, _counts(logits, batch.masks, batch.valid)

    return eval_step


def _counts(logits: Array, masks: Shaped[Array, "b h w"], valid: Shaped[Array, " b"]) -> Counts:
    pred = apply_threshold(jax.nn.sigmoid(tumor_logits(logits)), THRESHOLD)
    return count(pred, masks > 0, valid)
