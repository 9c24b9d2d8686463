"""Train and evaluation steps, compiled, and the trainer: all of them with what they work on, ready for a loop."""

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int64, Shaped

from unet_jax.config import Config
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.symmetry import midlines
from unet_jax.models.compiler import compiler_options
from unet_jax.models.heads import tumor_logits
from unet_jax.models.network import UNet
from unet_jax.models.preprocess import preprocess
from unet_jax.scoring.metrics import Counts, apply_threshold
from unet_jax.training.augment import augment_geometry, augment_intensity
from unet_jax.training.augment.healthy import healthy
from unet_jax.training.batches import Order, choose_pipeline, eval_batches, feed
from unet_jax.training.counts import count
from unet_jax.training.loop import OnLosses, Stopping, compile_steps, run_steps, steps_per_dispatch
from unet_jax.training.losses import loss_sums, loss_value, merge
from unet_jax.training.mesh import batch_sharding, data_mesh, replicate, replicated
from unet_jax.training.optimizer import encoder_mask, frozen_steps, learning_rate, make_optimizer
from unet_jax.training.state import Sums, TrainState, init_state

THRESHOLD = 0.5
"""Threshold of the metrics shown during training; the one for use is chosen on validation afterwards."""


def class_targets(masks: Shaped[Array, "b h w"], labels: Shaped[Array, " b"], classes: int) -> Float[Array, "b h w c"]:
    """Make targets of masks: one channel, or one a tumour type of which the slice's own has the mask.

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


def train_input(key: Array, batch: Any, config: Config) -> tuple[Float[Array, "b h w 1"], Shaped[Array, "b h w"]]:
    """Make what the network is trained on: a `training.batches.Batch` normalised, then augmented.

    Args:
        key: for augmentation.
        batch: with masks of 0 or 1.
        config: of the run.

    Returns:
        The network's input, 0 to 1, and the masks in their own type.
    """
    x = preprocess(batch.images, batch.p1, batch.p99, config.preprocess)
    x, masks = healthy(key, x, batch.masks, batch.midline, config.augment)  # before a slice and its midline part
    x, masks = augment_geometry(key, x, masks, config.augment)
    return augment_intensity(key, x, config.augment), masks


def make_train_step(
    config: Config, tx: optax.GradientTransformation, frozen: int = 0
) -> Callable[..., tuple[TrainState, Array]]:
    """Make the train step: a function `(state, batch, key) -> (state, loss)`, to be compiled.

    The batch is `training.batches.Batch`; the key is the run's base key, into which the step is folded.

    Args:
        config, tx: of the run.
        frozen: steps at the start in which the encoder's running statistics stay as they are.
    """
    apply: Any = UNet(config.model).apply  # its type does not tell whether it also returns the updated statistics

    def train_step(state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Array]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        x, masks = train_input(augment_key, batch, config)
        target = class_targets(masks, batch.labels, config.model.classes)
        valid = batch.valid.astype(jnp.float32)
        before = state.variables

        def loss_fn(params: Any) -> tuple[Array, tuple[Any, Array]]:
            logits, updates = apply(
                {"params": params, "batch_stats": before["batch_stats"]},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            loss = loss_value(loss_sums(logits, target, valid, config.loss), config.loss)
            return loss, (updates.get("batch_stats", {}), logits)

        (loss, (batch_stats, logits)), grads = jax.value_and_grad(loss_fn, has_aux=True)(before["params"])
        updates, opt_state = tx.update(grads, state.opt_state, before["params"])
        if frozen:
            own, old = encoder_mask(batch_stats), before["batch_stats"]
            batch_stats = jax.tree.map(
                lambda own, new, old: jnp.where(own & (state.step < frozen), old, new), own, batch_stats, old
            )
        after = {"params": optax.apply_updates(before["params"], updates), "batch_stats": batch_stats}
        sums = Sums(
            loss=state.sums.loss + loss,
            steps=state.sums.steps + 1,
            counts=state.sums.counts + _counts(logits, masks, batch.valid),
        )
        return state.advance(after, opt_state, sums, config.optim.ema_decay), loss

    return train_step


def make_train_steps(
    config: Config, tx: optax.GradientTransformation, mesh: Mesh, frozen: int = 0
) -> Callable[..., tuple[TrainState, Float[Array, " count"]]]:
    """Compile `(state, source, key, *, count) -> (state, losses)`, which does `count` steps and donates the state.

    Args:
        config, tx, frozen: as in `make_train_step`.
        mesh: the devices that a batch is divided among. The state is on each of them.

    Returns:
        The function. Its source is `training.batches.Source`, from which each step takes its own batch.
    """
    train_step, sharding = make_train_step(config, tx, frozen), batch_sharding(mesh)

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        static_argnames="count",
        out_shardings=replicated(mesh),
        compiler_options=compiler_options(barriers=True),
    )
    def train_steps(state: TrainState, source: Any, key: Array, *, count: int) -> tuple[TrainState, Array]:
        def body(state: TrainState, _: None) -> tuple[TrainState, Array]:
            index = source.rows.at[state.step - source.first].get(mode="promise_in_bounds")
            batch = jax.tree.map(lambda x: x.at[index].get(mode="promise_in_bounds"), source.slices)
            batch = jax.lax.with_sharding_constraint(batch, sharding)
            # The barrier keeps how a batch is taken from changing how it is computed with, and so its rounding.
            return train_step(state, jax.lax.optimization_barrier(batch), key)

        if count == 1:  # a loop costs time on a CPU, even when it runs once
            state, loss = body(state, None)
            return state, loss.reshape(1)
        return jax.lax.scan(body, state, length=count)

    return train_steps


def make_eval_step(config: Config, mesh: Mesh) -> Callable[..., tuple[dict[str, Any], Counts]]:
    """Compile `(params, batch_stats, batch) -> (loss sums, Counts)`, with the running statistics and no dropout.

    `config` and `mesh` are as in `make_train_steps`.
    """
    apply: Any = UNet(config.model).apply

    @functools.partial(jax.jit, out_shardings=replicated(mesh), compiler_options=compiler_options())
    def eval_step(params: Any, batch_stats: Any, batch: Any) -> tuple[dict[str, Any], Counts]:
        x = preprocess(batch.images, batch.p1, batch.p99, config.preprocess)
        logits = apply({"params": params, "batch_stats": batch_stats}, x, train=False)
        target = class_targets(batch.masks, batch.labels, config.model.classes)
        sums = loss_sums(logits, target, batch.valid.astype(jnp.float32), config.loss)
        return sums, _counts(logits, batch.masks, batch.valid)

    return eval_step


def _counts(logits: Array, masks: Shaped[Array, "b h w"], valid: Shaped[Array, " b"]) -> Counts:
    pred = apply_threshold(jax.nn.sigmoid(tumor_logits(logits)), THRESHOLD)
    return count(pred, masks > 0, valid)


class Trainer:
    """All that training needs on the devices, prepared once.

    Args:
        config: of the run.
        arrays: the converted dataset.
        train_rows, val_rows: rows of the arrays for training and for validation.
        resumed: a checkpoint will take the place of the state.
        initial: arrays to start from instead of drawn ones, as in `init_state`.

    Raises:
        UserError: the pipeline, the devices or the encoder's weights asked for cannot be had, or the size does not fit
            the network.
    """

    def __init__(
        self,
        config: Config,
        arrays: Arrays,
        train_rows: Int64[np.ndarray, " m"],
        val_rows: Int64[np.ndarray, " n"],
        *,
        resumed: bool = False,
        initial: Mapping[str, np.ndarray] | None = None,
    ):
        self.config, self.arrays, self.val_rows = config, arrays, val_rows
        self.pipeline, without_tensorflow = choose_pipeline(config.loader)
        self.order = Order(train_rows, config.loader.batch_size, config.seed)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.mesh, devices_left_out = data_mesh(self.order.batch_size)
        self.midlines, halves = None, None
        if config.augment.healthy:
            self.midlines = midlines(arrays, train_rows)
            halves = f"{np.count_nonzero(self.midlines)} of {len(train_rows)} training slices have a healthy half."
        # What a person should see: lines about what is done otherwise than asked for, or only to some slices.
        self.notes = [note for note in (without_tensorflow, devices_left_out, halves) if note]
        tx = make_optimizer(config.optim, self.steps_per_epoch)
        self.state = replicate(init_state(config, arrays.size, tx, resumed=resumed, initial=initial), self.mesh)
        self.key = replicate(jax.random.key(config.seed), self.mesh)
        self.schedule = learning_rate(config.optim, self.steps_per_epoch)
        self.train_steps = make_train_steps(config, tx, self.mesh, frozen_steps(config.optim, self.steps_per_epoch))
        self.eval_step = make_eval_step(config, self.mesh)

    def start(self, state: TrainState) -> Callable[..., TrainState]:
        """Compile what the steps from the state's on need, and start to stream their batches.

        Returns:
            A function `(state, stop, on_losses, stopping) -> state` that does the steps up to `stop`, the end of an
            epoch; its arguments are those of `loop.run_steps`.
        """
        start, length, most = int(state.step), self.steps_per_epoch, steps_per_dispatch()
        end = self.config.optim.epochs * length
        chunks = feed(self.arrays, self.order, start, end, self.pipeline, self.mesh, most, self.midlines)
        first = next(chunks)
        chunks = itertools.chain([first], chunks)
        compiled = compile_steps(self.train_steps, state, first[0], self.key, start, length, most)

        def advance(state: TrainState, stop: int, on_losses: OnLosses, stopping: Stopping) -> TrainState:
            return run_steps(compiled, state, chunks, stop, self.key, on_losses, stopping)

        return advance

    def evaluate(self, state: TrainState) -> tuple[float, Counts]:
        """Compute loss and counts of the validation slices, at the network's resolution and THRESHOLD."""
        # Divided as training batches are, since the weights lie on every device already.
        batches = eval_batches(self.arrays, self.val_rows, self.config.loader.batch_size, self.mesh)
        each = (self.eval_step(state.params, state.batch_stats, batch) for batch in batches)
        sums, counts = functools.reduce(merge, each)  # a split has no empty side
        return float(loss_value(sums, self.config.loss)), jax.device_get(counts)

    def without_sums(self, state: TrainState) -> TrainState:
        """Give the state as the next epoch begins with it: sums of nothing."""
        return replace(state, sums=replicate(Sums.zeros(), self.mesh))
