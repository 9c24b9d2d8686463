"""Devices as a mesh, on one computer or several: batches are divided among them, the training state is on each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unet_jax.config import UserError


def data_mesh(batch_size: int) -> tuple[Mesh, str | None]:
    """Choose the devices along the axis `data`; give a line to show where some of them are left out.

    Each takes as many slices of a batch as the others, and each process has as many of them as the others; so of its n
    devices a process uses the largest number with which `batch_size` can be divided so.

    Raises:
        UserError: the processes alone are too many to divide a batch among.
    """
    processes = jax.process_count()
    by_process = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
    own = min(map(len, by_process))
    counts = [n for n in range(1, own + 1) if batch_size % (n * processes) == 0]
    if not counts:
        raise UserError(
            f"{batch_size} slices a batch cannot be divided evenly among {processes} processes. "
            f"Choose a --loader.batch-size that is a multiple of {processes}."
        )
    devices = [device for group in by_process for device in group[: max(counts)]]
    everything = own * processes
    note = (
        f"Using {len(devices)} of {everything} devices, among which {batch_size} slices a batch can be divided evenly. "
        f"For all of them choose a --loader.batch-size that is a multiple of {everything}."
    )
    # Auto: the compiler divides the work, from how the batch lies.
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    return mesh, None if len(devices) == everything else note


def replicated(mesh: Mesh) -> NamedSharding:
    """Shard nothing: the same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Shard one axis, that of a batch's slices, among the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def process_slice(length: int) -> slice:
    """Slice of a sharded axis of that length that this process has to supply."""
    share = length // jax.process_count()
    first = jax.process_index() * share
    return slice(first, first + share)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copy arrays of this process to all devices of the mesh; of several processes, those of the first one."""
    if jax.process_count() == 1:
        return jax.device_put(tree, replicated(mesh))
    if isinstance(tree, jax.Array) and jnp.issubdtype(tree.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(replicate(jax.random.key_data(tree), mesh))
    # Computers of different kinds may have computed different last bits.
    return device_put(multihost_utils.broadcast_one_to_all(tree), replicated(mesh))


def device_put(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays of the host on the devices of a mesh.

    Args:
        tree: NumPy arrays. Where the sharding is `replicated`, whole and the same in every process; where it is
            `batch_sharding`, each process has its `process_slice` of the sharded axis.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)
