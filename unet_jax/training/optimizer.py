"""The optimizer and its schedule."""

import optax

from unet_jax.config import OptimConfig


def learning_rate(optim: OptimConfig, steps_per_epoch: int) -> optax.Schedule:
    """Make the schedule: step to learning rate.

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
    """Make the optimizer: Adam with Keras' epsilon, after clipping by global norm if that is on.

    Source: Kingma & Ba, arXiv:1412.6980.
    """
    adam = optax.adam(learning_rate(optim, steps_per_epoch), eps=1e-7)
    return optax.chain(optax.clip_by_global_norm(optim.clip_norm), adam) if optim.clip_norm else adam
