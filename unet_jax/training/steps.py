"""The training state, the optimizer and its schedule, and the compiled train and evaluation steps."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from unet_jax.config import Config, OptimConfig
from unet_jax.mesh import divided, replicated
from unet_jax.models.compiler import compiler_options
from unet_jax.models.inference import tumor_logits
from unet_jax.models.preprocess import preprocess
from unet_jax.models.unet import UNet
from unet_jax.scoring.metrics import Counts, apply_threshold, count
from unet_jax.training.augment import augment
from unet_jax.training.losses import LossSums, loss_sums, loss_value

THRESHOLD = 0.5
"""Threshold of the metrics shown during training; the one for use is chosen on validation afterwards."""


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
        return cls(loss=jnp.zeros(()), steps=jnp.zeros((), jnp.int32), counts=Counts.zeros())


@flax.struct.dataclass
class TrainState:
    """All that training changes."""

    step: Any
    """Steps done, int32."""
    params: Any
    batch_stats: Any
    """Running means and variances."""
    opt_state: Any
    sums: Sums


def learning_rate(optim: OptimConfig, steps_per_epoch: int) -> optax.Schedule:
    """Step to learning rate.

    Exponential: lr(t) = lr0 (lr1 / lr0) ** (t / T); cosine: from lr0 to lr1 along half a cosine; over the T steps that
    follow the warm-up, during which the rate rises linearly from zero.
    """
    total = optim.epochs * steps_per_epoch
    warmup = min(round(optim.warmup_epochs * steps_per_epoch), total - 1)  # one step is left to decay over
    first, last, rest = optim.learning_rate, optim.final_learning_rate, total - warmup
    if optim.schedule == "exponential":
        main = optax.exponential_decay(first, rest, last / first)
    elif optim.schedule == "cosine":
        main = optax.cosine_decay_schedule(first, rest, alpha=last / first)
    else:
        main = optax.constant_schedule(first)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, first, warmup), main], [warmup])


def make_optimizer(optim: OptimConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam (Kingma & Ba, arXiv:1412.6980) with Keras' epsilon, after clipping by global norm if that is on."""
    adam = optax.adam(learning_rate(optim, steps_per_epoch), eps=1e-7)
    return optax.chain(optax.clip_by_global_norm(optim.clip_norm), adam) if optim.clip_norm else adam


def init_state(config: Config, size: int, tx: optax.GradientTransformation) -> TrainState:
    """Fresh weights from `config.seed`, for images of `size` x `size`.

    Raises:
        UserError: the network's stride does not divide `size`.
    """
    net = UNet(config.model)
    variables = jax.jit(lambda key: net.init(key, jnp.zeros((1, size, size, 1)), train=False))(
        jax.random.key(config.seed)
    )
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.jit(tx.init)(params),
        sums=Sums.zeros(),
    )


def base_key(seed: int) -> Array:
    """The key that steps are folded into."""
    return jax.random.key(seed)


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


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether every floating-point value of a pytree is finite."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


def _counts(logits: Array, masks: Shaped[Array, "b h w"], valid: Shaped[Array, " b"]) -> Counts:
    pred: Any = apply_threshold(jax.nn.sigmoid(tumor_logits(logits)), THRESHOLD)
    return count(pred, masks > 0, valid)
