"""This program's network behind the interface that peers have too (see `network`)."""

import functools
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from experiments.benchmarks.cases import SCALE, AnyCase, Kind, sample
from experiments.benchmarks.flops import xla_flops
from unet_jax.config import AugmentConfig, Config
from unet_jax.inference.programs import make_predict
from unet_jax.models.compiler import compiler_options
from unet_jax.models.network import UNet
from unet_jax.training.batches import Batch
from unet_jax.training.losses import loss_value
from unet_jax.training.mesh import data_mesh
from unet_jax.training.optimizer import make_optimizer
from unet_jax.training.state import init_state
from unet_jax.training.steps import make_eval_step, make_train_step

STEPS_PER_EPOCH = 1000
"""For the schedule of the learning rate; any number will do."""


class Side:
    """One case at a time."""

    def describe(self) -> dict[str, Any]:
        device = jax.devices()[0]
        return {"name": f"JAX {jax.__version__}", "device": device.device_kind, "accelerator": device.platform != "cpu"}

    def build(self, case: AnyCase, flip: bool = True) -> dict[str, np.ndarray]:
        """Make the network, and return its weights by name, for peers.

        They are drawn so that no two of them could be exchanged unnoticed: biases and statistics are not zero.
        """
        self.case = case
        self.config = replace(case.config, augment=AugmentConfig(horizontal_flip=flip))
        self.tx = make_optimizer(self.config.optim, STEPS_PER_EPOCH)
        fresh = init_state(self.config, case.size, self.tx)
        named = traverse_util.flatten_dict({"params": fresh.params, "batch_stats": fresh.batch_stats}, sep="/")
        rng = np.random.default_rng(1)
        weights = {name: _varied(name, np.asarray(named[name]), rng) for name in sorted(named)}
        variables = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(weights, sep="/"))
        self.state = replace(
            fresh,
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            trained=variables if fresh.trained else None,
        )
        images, masks = sample(case)
        ones = np.ones(case.batch)
        self.batch = jax.device_put(
            Batch(
                images=images,
                masks=masks,
                labels=ones.astype(np.int32),
                p1=np.zeros(case.batch, np.float32),
                p99=(SCALE * ones).astype(np.float32),
                valid=ones.astype(bool),
                midline=np.zeros(case.batch, np.float32),
            )
        )
        return weights

    def evaluate(self) -> tuple[np.ndarray, float]:
        """Logits (b, size, size, 1) and the loss of the sample, in inference mode and exact arithmetic."""
        with jax.default_matmul_precision("highest"):
            config = replace(self.config, model=replace(self.config.model, precision="float32"))
            x = (self.batch.images.astype(jnp.float32) / SCALE)[..., None]
            logits = jax.jit(lambda v, x: UNet(config.model).apply(v, x, train=False))(self._variables(), x)
            evaluate = make_eval_step(config, data_mesh(self.case.batch)[0])
            sums, _ = evaluate(self.state.params, self.state.batch_stats, self.batch)
        return np.asarray(logits), float(loss_value(sums, config.loss))

    def train_losses(self, steps: int) -> list[float]:
        """The losses of so many train steps on the sample, one after another."""
        call = self._train_step()
        return [float(call()) for _ in range(steps)]

    def prepare(self, kind: Kind, every_way: bool = True) -> tuple[str, float]:
        """Compile and warm up; the way of computing chosen, and about how many seconds a call takes.

        Args:
            kind: what the calls are to compute.
            every_way: of several ways try all and take the fastest, else take the usual one. Ours is one.
        """
        self._call = self._train_step() if kind == "train_step" else self._inference()
        self.block(1)
        return "jit", self.block(1)

    def block(self, calls: int) -> float:
        """Seconds a call, of so many calls one after another, after one that finds the caches cold."""
        jax.block_until_ready(self._call())
        began, result = time.perf_counter(), None
        for _ in range(calls):
            result = self._call()
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / calls

    def matmul_peak(self, dtype: str) -> float:
        """The floating-point operations a second of a large matrix product, by the faster of the device's libraries."""
        n = 8192 if self.describe()["accelerator"] else 3072
        a = jax.random.normal(jax.random.key(0), (n, n), dtype)
        seconds = []
        for onednn in (False, True):
            product = jax.jit(jnp.matmul, compiler_options=compiler_options(onednn=onednn))
            self._call = functools.partial(product, a, a)
            self.block(1)
            seconds += [self.block(4) for _ in range(5)]
        return 2 * n**3 / min(seconds)

    def xla_flops(self, kind: Kind) -> float:
        """What XLA counts in the program of a call, compiled without oneDNN, into whose calls it does not see."""
        if kind == "train_step":
            step = jitted_step(self.config, self.tx, onednn=False)
            return xla_flops(step.lower(self.state, self.batch, jax.random.key(0)).compile())
        predict: Any = make_predict(self.config.model, self.config.preprocess, onednn=False)
        batch = self.batch
        return xla_flops(predict.lower(self._variables(), batch.images, batch.p1, batch.p99).compile())

    def profile(self, folder: str) -> None:
        """Write a trace of five train steps, for TensorBoard or Perfetto."""
        self.prepare("train_step")
        with jax.profiler.trace(folder):
            self.block(5)

    def _variables(self) -> dict[str, Any]:
        return {"params": self.state.params, "batch_stats": self.state.batch_stats}

    def _train_step(self) -> Any:
        step, key = jitted_step(self.config, self.tx), jax.random.key(0)
        # Steps give up the memory of the state they get, so it is a copy, and goes from step to step.
        state = jax.tree.map(jnp.copy, self.state)

        def call() -> jax.Array:
            nonlocal state
            state, loss = step(state, self.batch, key)
            return loss

        return call

    def _inference(self) -> Any:
        predict = make_predict(self.config.model, self.config.preprocess)
        variables = self._variables()
        return lambda: predict(variables, self.batch.images, self.batch.p1, self.batch.p99)


def jitted_step(config: Config, tx: optax.GradientTransformation, *, onednn: bool = True) -> Any:
    """One step on one batch, compiled as in training."""
    options = compiler_options(barriers=True, onednn=onednn)
    return jax.jit(make_train_step(config, tx), donate_argnums=0, compiler_options=options)


def _varied(name: str, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if name.endswith("/kernel"):
        return value
    if name.endswith("/var"):
        return rng.uniform(0.5, 1.5, value.shape).astype(value.dtype)
    return (value + rng.normal(0, 0.1, value.shape)).astype(value.dtype)
