"""Options for the compiler, and abilities of the processor: the library of convolutions, bfloat16."""

import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from unet_jax.config import Precision

EIGEN_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
"""Leaves matrix products alone to YNNPACK. From 16 to 64 channels its convolutions take up to 1.8 times as long as
those of Eigen, XLA's other library, and gradients of kernels up to 1.7 times (measured with jaxlib 0.10.2)."""
ONEDNN_CONVOLUTIONS = EIGEN_CONVOLUTIONS | {"xla_cpu_experimental_onednn_custom_call": True}
"""Gives convolutions to oneDNN, with the bias, sum and ReLU that follow them. jaxlib 0.10 takes this and does nothing.
Programs with such calls are not kept from one process to the next."""
KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Keeps what separates a computation from its repetition, or from those that use it. By default XLA drops it on a CPU
before it looks for common subexpressions, and so joins again what rematerialisation took apart."""

_FLAGS = Path("/proc/cpuinfo")


def compiler_options(*, barriers: bool = False, onednn: bool = True) -> dict[str, Any]:
    """Options for `jax.jit`: on a CPU those above, if its jaxlib knows them; else none.

    Args:
        barriers: for a function that relies on `jax.lax.optimization_barrier`, as a train step does: between how a
            batch is taken and what is computed with it, for activations computed again, and in the gradient of a
            depthwise convolution.
        onednn: use oneDNN where it is there.
    """
    options = ONEDNN_CONVOLUTIONS if onednn and has_onednn() else EIGEN_CONVOLUTIONS
    options = options | KEEP_BARRIERS if barriers else options
    return {name: value for name, value in options.items() if _known(name, value)}


@functools.cache
def has_onednn() -> bool:
    """Tell whether XLA gives a CPU's convolutions to oneDNN when it is asked to."""
    if jax.default_backend() != "cpu" or not all(_known(*option) for option in ONEDNN_CONVOLUTIONS.items()):
        return False
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 8, 8, 16), (3, 3, 16, 16)))

    def convolution(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    program = jax.jit(convolution, compiler_options=ONEDNN_CONVOLUTIONS).lower(x, kernel).compile()
    return "__onednn$convolution" in (program.as_text() or "")


@functools.cache
def has_bfloat16() -> bool:
    """Tell whether convolutions in bfloat16 are faster than in float32: by oneDNN, on a processor that multiplies so.

    Other processors compute bfloat16 by way of float32, and gain nothing.
    """
    if not (has_onednn() and _FLAGS.exists()):
        return False
    flags = _FLAGS.read_text("utf-8").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def library(*, onednn: bool = True) -> str:
    """Name what computes convolutions: oneDNN, Eigen, or a backend other than a CPU, such as gpu.

    Args:
        onednn: use oneDNN where it is there.
    """
    if jax.default_backend() != "cpu":
        return jax.default_backend()
    return "oneDNN" if onednn and has_onednn() else "Eigen"


def computed_precision(asked: Precision, *, onednn: bool = True) -> Literal["float32", "bfloat16"]:
    """Choose the precision to compute in here: bfloat16 unless float32 is asked for, on a CPU where that is faster.

    On another backend it is bfloat16 where that is asked for by name.

    Args:
        asked: that of a configuration.
        onednn: use oneDNN where it is there.
    """
    fast = onednn and has_bfloat16() if jax.default_backend() == "cpu" else asked == "bfloat16"
    return "bfloat16" if fast and asked != "float32" else "float32"


@functools.cache
def _known(name: str, value: Any) -> bool:
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
