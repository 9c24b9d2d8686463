"""The devices of one computer as a mesh: batches are divided among them, the training state is on each."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh(batch_size: int) -> tuple[Mesh, str | None]:
    """All local devices along the axis `data`, and a line to show where some of them are left out.

    Each takes as many slices of a batch as the others; so of n devices the largest number is used that divides
    `batch_size`.
    """
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    note = (
        f"Using {count} of {len(devices)} devices, among which {batch_size} slices a batch can be divided evenly. "
        f"For all of them choose a --loader.batch-size that is a multiple of {len(devices)}."
    )
    # Auto: the compiler divides the work, from how the batch lies.
    mesh = Mesh(np.array(devices[:count]), ("data",), axis_types=(AxisType.Auto,))
    return mesh, None if count == len(devices) else note


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The first axis, that of a batch's slices, divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))
