"""The optimizer and its schedule."""

from itertools import pairwise
from typing import Any

import jax
import optax

from unet_jax.config import OptimConfig
from unet_jax.models.network import in_encoder


def learning_rate(optim: OptimConfig, steps_per_epoch: int) -> optax.Schedule:
    """Make the schedule: step to learning rate.

    Exponential: lr(t) = lr0 (lr1 / lr0) ** (t / T); cosine: from lr0 to lr1 along half a cosine; over the T steps that
    follow the warm-up, during which the rate rises linearly from zero. It begins anew in each later stretch, over the
    steps and from the rate of that, without a warm-up; where that is below lr1, it stays.
    """
    begins = [before * steps_per_epoch for before, _ in optim.stretches]
    first, *lengths = (end - begin for begin, end in pairwise([0, *begins, optim.epochs * steps_per_epoch]))
    warmup = min(round(optim.warmup_epochs * steps_per_epoch), first - 1)  # one step is left to decay over
    lengths.insert(0, first - warmup)
    parts = [_course(optim.schedule, *course) for course in zip(optim.courses, lengths, strict=True)]
    if warmup:
        parts.insert(0, optax.linear_schedule(0.0, optim.learning_rate, warmup))
        begins.insert(0, warmup)
    return optax.join_schedules(parts, begins) if begins else parts[0]


def _course(schedule: str, rates: tuple[float, float], steps: int) -> optax.Schedule:
    """Make the schedule of one stretch from its first to its last rate, without a warm-up."""
    first, last = rates
    if schedule == "exponential":
        return optax.exponential_decay(first, steps, last / first)
    if schedule == "cosine":
        return optax.cosine_decay_schedule(first, steps, alpha=last / first)
    return optax.constant_schedule(first)


def make_optimizer(optim: OptimConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Make the optimizer: Adam with Keras' epsilon, after clipping by global norm if that is on.

    With `weight_decay` kernels decay apart from the gradient (AdamW). The encoder may learn more slowly than the rest,
    and not at all at the start.

    Source: Kingma & Ba, arXiv:1412.6980; Loshchilov & Hutter, arXiv:1711.05101.
    """
    schedule = learning_rate(optim, steps_per_epoch)
    if optim.weight_decay:
        adam = optax.adamw(schedule, eps=1e-7, weight_decay=optim.weight_decay, mask=_kernels)
    else:
        adam = optax.adam(schedule, eps=1e-7)
    parts = [optax.clip_by_global_norm(optim.clip_norm), adam] if optim.clip_norm else [adam]
    frozen = frozen_steps(optim, steps_per_epoch)
    if frozen or optim.encoder_lr_scale != 1:
        scale = optax.constant_schedule(optim.encoder_lr_scale)
        if frozen:
            scale = optax.join_schedules([optax.constant_schedule(0.0), scale], [frozen])
        parts.append(optax.masked(optax.scale_by_schedule(scale), encoder_mask))
    return optax.chain(*parts) if len(parts) > 1 else adam


def frozen_steps(optim: OptimConfig, steps_per_epoch: int) -> int:
    """Give the number of steps at the start in which the encoder stays as it is."""
    return round(optim.freeze_encoder_epochs * steps_per_epoch)


def encoder_mask(tree: Any) -> Any:
    """Make a tree of the same form, True where a leaf belongs to the encoder.

    Args:
        tree: weights or statistics of the network, by layer at the top.
    """
    return jax.tree.map_with_path(lambda path, _: in_encoder(path[0].key), tree)


def _kernels(tree: Any) -> Any:
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", tree)
