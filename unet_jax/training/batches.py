"""Batches as a pure function of (seed, step): a tf.data stream from disk, or arrays held by the device."""

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float32, Int16, Int32, Int64, UInt8

from unet_jax.config import LoaderConfig, UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.tfds.source import NOT_INSTALLED, import_tensorflow
from unet_jax.training.mesh import batch_sharding, device_put, process_slice, replicated

CHUNK_STEPS = 64
"""Steps whose batches a stream hands over together: each time costs a millisecond, the time of a small step."""
CHUNK_BYTES = 4 << 20
"""Most bytes of a chunk, since it waits in memory."""

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
    midline: Float32[AnyArray, " b"]
    """Midline of a slice with a healthy half, as `data.symmetry.midline` gives it; 0 for none, or none looked for."""


class Source(NamedTuple):
    """Slices and rows that the batches of consecutive steps are taken from, on the devices.

    The batch of a step is `slices` at `rows[step - first]`. Shapes are equal from chunk to chunk.
    """

    slices: Batch
    """The whole dataset, or of each step its batch, along an axis before the others."""
    rows: Int32[AnyArray, "steps b"] | Int32[AnyArray, " steps"]
    """Indices along the first axis of `slices`: those of a batch's slices, or that of a batch."""
    first: Int32[AnyArray, ""]
    """The step of the first row."""


class Order:
    """Rows that make up the batch of each step.

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
    """Choose the pipeline, `tfdata` or `device`; give a line to show where `auto` had to do without TensorFlow.

    Raises:
        UserError: tfdata is asked for and TensorFlow is not installed.
    """
    installed = importlib.util.find_spec("tensorflow") is not None
    if loader.pipeline == "device" or installed:
        return ("device" if loader.pipeline == "device" else "tfdata"), None
    if loader.pipeline == "auto":
        return "device", "TensorFlow is not installed: arrays are held by the device (--loader.pipeline device)."
    raise UserError(f"--loader.pipeline tfdata needs TensorFlow, {NOT_INSTALLED}; or use device.")


def feed(
    arrays: Arrays,
    order: Order,
    start: int,
    stop: int,
    pipeline: str,
    mesh: Mesh,
    portion: int,
    midlines: Float32[np.ndarray, " n"] | None = None,
) -> Iterator[tuple[Source, int]]:
    """Give what steps `start` to `stop - 1` train on, prefetched, in chunks that never reach over an epoch's end.

    Args:
        arrays, order: slices, and the rows of each step.
        start, stop: steps counted from the beginning of the run.
        pipeline: `tfdata` or `device`; both give the same batches.
        mesh: the devices, along the axis `data`; a batch is divided among them.
        portion: how many steps are done at a time. A chunk is a multiple of it, but for the last of an epoch.
        midlines: `Batch.midline` of every row of the arrays; None for zeros.

    Yields:
        A source, and the number of steps it is for.
    """
    make = _device_chunks if pipeline == "device" else _tfdata_chunks
    chunks = make(arrays, order, start, stop, mesh, portion, midlines)
    ahead = next(chunks, None)
    while ahead is not None:
        # The copy of the next one to the device is started before this one is handed out.
        following = next(chunks, None)
        yield ahead
        ahead = following


def gather_steps(
    arrays: Arrays,
    order: Order,
    first: int,
    count: int,
    size: int,
    part: slice = slice(None),
    midlines: Float32[np.ndarray, " n"] | None = None,
) -> Batch:
    """Gather the batches of `count` steps from `first` on, along a new first axis of length `size`.

    What is left of that axis is filled with the last batch. Of each batch `part` is taken.
    """
    rows = np.stack([order(first + min(i, count - 1))[part] for i in range(size)])
    return Batch(*(x.reshape(*rows.shape, *x.shape[1:]) for x in gather(arrays, rows.ravel(), midlines)))


def eval_batches(arrays: Arrays, rows: Int64[np.ndarray, " n"], batch_size: int, mesh: Mesh) -> Iterator[Batch]:
    """Give every row once, in order, divided among the devices; the last batch is padded with its first slice.

    Args:
        batch_size: slices a batch; where there are fewer rows, that many. Batches are padded further, to a multiple of
            the number of devices.
        mesh: the devices, along the axis `data`.
    """
    batch_size = min(batch_size, len(rows))
    padded = -(-batch_size // mesh.size) * mesh.size
    own = process_slice(padded)
    for i in range(0, len(rows), batch_size):
        part = rows[i : i + batch_size]
        padding = np.repeat(part[:1], padded - len(part))
        batch = gather(arrays, np.concatenate([part, padding])[own])
        yield device_put(batch._replace(valid=(np.arange(padded) < len(part))[own]), batch_sharding(mesh))


def gather(arrays: Arrays, rows: Int64[np.ndarray, " b"], midlines: Float32[np.ndarray, " n"] | None = None) -> Batch:
    """Read rows from disk; `midlines` as in `feed`."""
    columns = (arrays.images, arrays.masks, arrays.labels, arrays.p1, arrays.p99)
    midline = np.zeros(len(rows), np.float32) if midlines is None else midlines[rows]
    return Batch(*(column[rows] for column in columns), valid=np.ones(len(rows), bool), midline=midline)


def _tfdata_chunks(
    arrays: Arrays,
    order: Order,
    start: int,
    stop: int,
    mesh: Mesh,
    portion: int,
    midlines: Float32[np.ndarray, " n"] | None,
) -> Iterator[tuple[Source, int]]:
    tf = import_tensorflow()
    dtypes = (tf.int16, tf.uint8, tf.int32, tf.float32, tf.float32, tf.bool, tf.float32)
    size = _chunk_size(order.batch_size * arrays.size**2 * 3, portion, order.steps_per_epoch)
    chunks = list(_chunks(order.steps_per_epoch, start, stop, size))
    own = process_slice(order.batch_size)

    def load(first, count):
        def read(first, count):
            return tuple(gather_steps(arrays, order, int(first), int(count), size, own, midlines))

        return tf.numpy_function(read, [first, count], dtypes)

    firsts, counts = np.array(chunks, np.int64).reshape(-1, 2).T
    stream = tf.data.Dataset.from_tensor_slices((firsts, counts)).map(load).prefetch(1)
    # It computes nothing, and every further thread takes time from the train step, which uses all cores of a CPU.
    alone = tf.data.Options()
    alone.threading.private_threadpool_size = alone.threading.max_intra_op_parallelism = 1
    alone.autotune.enabled = False
    stream = stream.with_options(alone)
    on_all, by_slice = replicated(mesh), batch_sharding(mesh, axis=1)
    rows = device_put(np.arange(size, dtype=np.int32), on_all)
    for (first, count), slices in zip(chunks, stream.as_numpy_iterator(), strict=True):
        yield Source(Batch(*device_put(slices, by_slice)), rows, device_put(np.int32(first), on_all)), count


def _device_chunks(
    arrays: Arrays,
    order: Order,
    start: int,
    stop: int,
    mesh: Mesh,
    portion: int,
    midlines: Float32[np.ndarray, " n"] | None,
) -> Iterator[tuple[Source, int]]:
    on_all, by_slice, own = replicated(mesh), batch_sharding(mesh, axis=1), process_slice(order.batch_size)
    images, masks = np.asarray(arrays.images), np.asarray(arrays.masks)
    valid = np.ones(len(arrays), bool)
    midlines = np.zeros(len(arrays), np.float32) if midlines is None else midlines
    held = device_put(Batch(images, masks, arrays.labels, arrays.p1, arrays.p99, valid, midlines), on_all)
    length = order.steps_per_epoch
    for first, count in _chunks(length, start, stop, length):
        begin = first - first % length  # the rows of the whole epoch, so that their shape is always the same
        rows = np.stack([order(step)[own] for step in range(begin, begin + length)]).astype(np.int32)
        yield Source(held, device_put(rows, by_slice), device_put(np.int32(begin), on_all)), count


def _chunks(length: int, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """First step and number of steps of each chunk: `size`, or what is left of the epoch."""
    while start < stop:
        count = min(size, length - start % length, stop - start)
        yield start, count
        start += count


def _chunk_size(step_bytes: int, portion: int, length: int) -> int:
    """Steps a chunk: a multiple of `portion`, enough to spread the cost of handing over one.

    No more than an epoch of `length` steps has, since what a chunk lacks is filled, nor than fit in CHUNK_BYTES.
    """
    portions = min(CHUNK_STEPS // portion, CHUNK_BYTES // (portion * step_bytes), -(-length // portion))
    return portion * max(1, portions)
