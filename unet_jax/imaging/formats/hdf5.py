"""Values of an HDF5 dataset, read without trusting what the file says of its chunks.

The HDF5 library gives a deflated chunk as much memory as it asks for, reads past the end of one that unpacks to less
than its size, fills in zeros for one that is missing, and looks for a filter that it does not know in the system's
folder of plugins. Here chunks are unpacked to exactly their size, or the dataset is refused.
"""

import math
import zlib

import h5py
import numpy as np
from h5py._objects import phil
from jaxtyping import Shaped

from unet_jax.imaging.scan import Refused

MAX_CHUNKS = 2**16
"""Largest number of chunks of a dataset."""

_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


def read_values(dataset: h5py.Dataset) -> Shaped[np.ndarray, "..."]:
    """Read a dataset of numbers, whole; its shape, and the size of its chunks, are taken to have been looked at.

    Raises:
        Refused: compressed other than by gzip, with or without shuffling; or a chunk is missing or garbled.
    """
    if not dataset.chunks or not dataset.size:
        return np.asarray(dataset[()])
    dtype = dataset.dtype
    if not dataset.id.get_type().equal(h5py.h5t.py_create(dtype, logical=True)):
        raise Refused(f"is stored as an unusual kind of {dtype}")
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]  # in the order of writing
    if filters not in ([], [_SHUFFLE], [_DEFLATE], [_SHUFFLE, _DEFLATE]):
        raise Refused(f"is stored with the HDF5 filters {filters}; expected gzip (filter {_DEFLATE}), if any")
    grid = [math.ceil(side / chunk) for side, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    if math.prod(grid) > MAX_CHUNKS:
        raise Refused(f"is stored in {math.prod(grid)} chunks; expected at most {MAX_CHUNKS}")
    chunks: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(chunks.append)
    offsets = {chunk.chunk_offset for chunk in chunks}
    if len(offsets) != math.prod(grid):
        raise Refused(f"has {len(offsets)} chunks of values; its shape needs {math.prod(grid)}")
    size = math.prod(dataset.chunks) * dtype.itemsize
    values = np.empty(dataset.shape, dtype)
    for chunk in chunks:
        if chunk.size > size + size // 100 + 1024:
            raise Refused(f"has a chunk of {chunk.size} bytes, which holds {size}")
        # h5py 3.14 holds its lock around every use of the HDF5 library but this one, which crashes the process where
        # another thread uses the library at the same time, if only to close another file.
        with phil:
            skipped, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
        applied = [number for i, number in enumerate(filters) if not skipped & (1 << i)]
        plain = _unpacked(packed, applied, size, dtype.itemsize)
        region = tuple(slice(at, at + side) for at, side in zip(chunk.chunk_offset, dataset.chunks, strict=True))
        inside = values[region]
        inside[...] = plain.view(dtype).reshape(dataset.chunks)[tuple(slice(side) for side in inside.shape)]
    return values


def _unpacked(packed: bytes, filters: list[int], size: int, itemsize: int) -> np.ndarray:
    """Undo the filters of a chunk, which must give that many bytes."""
    if _DEFLATE in filters:
        inflater = zlib.decompressobj()
        try:
            packed = inflater.decompress(packed, size + 1)
        except zlib.error as e:
            raise Refused(f"has a garbled chunk ({e})") from e
        # Only at its end the checksum is compared.
        if not inflater.eof and len(packed) == size:
            raise Refused("has a chunk that is cut off")
    if len(packed) != size:
        raise Refused(f"has a chunk that unpacks to {'more' if len(packed) > size else 'less'} than {size} bytes")
    plain = np.frombuffer(packed, np.uint8)
    return np.ascontiguousarray(plain.reshape(itemsize, -1).T).ravel() if _SHUFFLE in filters else plain
