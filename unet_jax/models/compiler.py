"""Options of the compiler for the network's functions."""

import functools

import jax

EIGEN_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
"""Leaves matrix products alone to YNNPACK. From 16 to 64 channels its convolutions take up to 1.8 times as long as
those of Eigen, XLA's other library, and gradients of kernels up to 1.7 times (measured with jaxlib 0.10.2)."""
KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Keeps what separates a computation from its repetition, or from those that use it. By default XLA drops it on a CPU
before it looks for common subexpressions, and so joins again what rematerialisation took apart."""


def compiler_options(*, barriers: bool = False) -> dict[str, str]:
    """Options for `jax.jit`: on a CPU those above, if its jaxlib knows them; else none.

    With `barriers` they are for a function that relies on `jax.lax.optimization_barrier`: one that has activations
    computed again for the gradient, or the gradient of a depthwise convolution.
    """
    options = EIGEN_CONVOLUTIONS | KEEP_BARRIERS if barriers else EIGEN_CONVOLUTIONS
    return {name: value for name, value in options.items() if _known(name, value)}


@functools.cache
def _known(name: str, value: str) -> bool:
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
