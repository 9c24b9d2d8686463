"""Batches as a pure function of (seed, step): a tf.data stream from disk, or arrays held by the device."""

import importlib.util
import os
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int16, Int32, Int64, UInt8

from unet_jax.config import LoaderConfig, UserError
from unet_jax.data.arrays import Arrays

AnyArray = np.ndarray | jax.Array


class Batch(NamedTuple):
    """Slices at the network's size, intensities raw."""

    images: Int16[AnyArray, "b h w"]
    masks: UInt8[AnyArray, "b h w"]
    labels: Int32[AnyArray, " b"]
    p1: Float32[AnyArray, " b"]
    p99: Float32[AnyArray, " b"]
    valid: Bool[AnyArray, " b"]
    """False for the padding of an evaluation's last batch."""


class Order:
    """Which rows make up the batch of a step.

    An epoch is floor(n / batch) steps of a permutation that depends on (seed, epoch) alone; the rest is left out that
    epoch. With fewer rows than the batch size, a batch is all of them.

    Args:
        rows: rows of the arrays that belong to training.
        batch_size: slices a batch.
        seed: any integer.
    """

    def __init__(self, rows: Int64[np.ndarray, " n"], batch_size: int, seed: int):
        self.rows, self.seed = rows, seed
        self.batch_size = min(batch_size, len(rows))
        self.steps_per_epoch = len(rows) // self.batch_size
        self._drawn = -1, rows

    def __call__(self, step: int) -> Int64[np.ndarray, " b"]:
        epoch, k = divmod(step, self.steps_per_epoch)
        # Read and kept as one, for a stream's thread may ask at the same time.
        drawn, permutation = self._drawn
        if epoch != drawn:
            # abs: seed sequences take no negative numbers; the sign goes in beside it.
            rng = np.random.default_rng([abs(self.seed), int(self.seed < 0), epoch])
            permutation = rng.permutation(self.rows)
            self._drawn = epoch, permutation
        return permutation[k * self.batch_size : (k + 1) * self.batch_size]


def choose_pipeline(loader: LoaderConfig) -> tuple[str, str | None]:
    """The pipeline to use, `tfdata` or `device`, and a line to show where `auto` had to do without TensorFlow.

    Raises:
        UserError: tfdata is asked for and TensorFlow is not installed.
    """
    installed = importlib.util.find_spec("tensorflow") is not None
    if loader.pipeline == "tfdata" and not installed:
        raise UserError(
            "--loader.pipeline tfdata needs TensorFlow, which is not installed. "
            "Run `pip install tensorflow-cpu` (Linux x86-64) or `pip install tensorflow`, or use device."
        )
    if loader.pipeline == "auto" and not installed:
        return "device", "TensorFlow is not installed: arrays are held by the device (--loader.pipeline device)."
    return ("device", None) if loader.pipeline == "device" else ("tfdata", None)


def train_batches(arrays: Arrays, order: Order, start: int, stop: int, pipeline: str) -> Iterator[Batch]:
    """The batches of steps `start` to `stop - 1`, on the default device, prefetched.

    Args:
        arrays: the converted dataset.
        order: rows of each step.
        start, stop: steps counted from the beginning of the run.
        pipeline: `tfdata` or `device`; both give the same batches.
    """
    if pipeline == "device":
        return _device_batches(arrays, order, start, stop)
    return _prefetched(_tfdata_batches(arrays, order, start, stop))


def eval_batches(arrays: Arrays, rows: Int64[np.ndarray, " n"], batch_size: int) -> Iterator[Batch]:
    """Every row once, in order, as NumPy arrays; the last batch is padded with copies of its first slice."""
    batch_size = min(batch_size, len(rows))
    for i in range(0, len(rows), batch_size):
        part = rows[i : i + batch_size]
        padding = np.repeat(part[:1], batch_size - len(part))
        batch = gather(arrays, np.concatenate([part, padding]))
        yield batch._replace(valid=np.arange(batch_size) < len(part))


def gather(arrays: Arrays, rows: Int64[np.ndarray, " b"]) -> Batch:
    """These rows from disk."""
    return Batch(
        images=arrays.images[rows],
        masks=arrays.masks[rows],
        labels=arrays.labels[rows],
        p1=arrays.p1[rows],
        p99=arrays.p99[rows],
        valid=np.ones(len(rows), bool),
    )


def _tfdata_batches(arrays: Arrays, order: Order, start: int, stop: int) -> Iterator[Batch]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it computes nothing here, and would say that it could
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the accelerator's memory is JAX's
    dtypes = (tf.int16, tf.uint8, tf.int32, tf.float32, tf.float32, tf.bool)

    def load(step):
        return tf.numpy_function(lambda s: tuple(gather(arrays, order(int(s)))), [step], dtypes)

    stream = tf.data.Dataset.range(start, stop).map(load).prefetch(tf.data.AUTOTUNE)
    for batch in stream.as_numpy_iterator():
        yield Batch(*batch)


def _prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches on the device, the copy of the next one started before the last is handed out."""
    ahead = None
    for batch in batches:
        current = jax.device_put(batch)
        if ahead is not None:
            yield ahead
        ahead = current
    if ahead is not None:
        yield ahead


def _device_batches(arrays: Arrays, order: Order, start: int, stop: int) -> Iterator[Batch]:
    held = jax.device_put((np.asarray(arrays.images), np.asarray(arrays.masks), arrays.labels, arrays.p1, arrays.p99))

    @jax.jit
    def take(held, rows) -> Batch:
        return Batch(*(jnp.take(x, rows, axis=0) for x in held), valid=jnp.ones(rows.shape, bool))

    for step in range(start, stop):
        yield take(held, order(step))
