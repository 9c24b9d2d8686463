"""Chunks of HDF5 as h5py reads them, and those at which it would do harm."""

import zlib

import h5py
import numpy as np
import pytest

from unet_jax.imaging.formats.hdf5 import read_values
from unet_jax.imaging.formats.mat import SliceError
from unet_jax.imaging.read import read_image
from unet_jax.imaging.scan import Refused

VALUES = np.arange(35 * 23, dtype=np.int16).reshape(35, 23) - 300


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as f:
        yield f


@pytest.mark.parametrize("dtype", ["i2", ">i2", "u1", "u2", "i4", "f4", "f8", ">f8", "?"])
@pytest.mark.parametrize("chunks", [(35, 23), (10, 7), (1, 23), (64, 64)])
@pytest.mark.parametrize("filters", [{}, {"shuffle": True}, {"compression": 6}, {"compression": 1, "shuffle": True}])
def test_the_same_values_as_h5py(file, dtype, chunks, filters):
    values = (VALUES > 9 if dtype == "?" else VALUES).astype(dtype)
    file.create_dataset("a", data=values, chunks=chunks, maxshape=(None, None), **filters)
    got = read_values(file["a"])
    assert got.dtype == file["a"].dtype
    np.testing.assert_array_equal(got, file["a"][()])
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("shape", [(1, 5), (7,), ()])
def test_other_ranks_and_plain_storage(file, shape):
    file["a"] = np.full(shape, 3.5)
    np.testing.assert_array_equal(read_values(file["a"]), np.full(shape, 3.5))


def test_chunks_that_compression_would_lengthen_are_stored_as_they_are(file):
    noise = np.random.default_rng(0).integers(0, 2**16, (64, 64), np.uint16)
    file.create_dataset("a", data=noise, chunks=(64, 64), compression="gzip")
    file["a"].id.write_direct_chunk((0, 0), noise[::-1].tobytes(), filter_mask=1)
    np.testing.assert_array_equal(read_values(file["a"]), noise[::-1])


def direct(chunk):
    """One chunk, stored so."""

    def put(file):
        file.create_dataset("a", VALUES.shape, "i2", chunks=VALUES.shape, compression="gzip")
        file["a"].id.write_direct_chunk((0, 0), chunk)

    return put


def created(**how):
    return lambda file: file.create_dataset("a", data=VALUES, **how)


def missing(file):
    file.create_dataset("a", VALUES.shape, "i2", chunks=(10, 10))[0, 0] = 1


def unusual(file):
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    space = h5py.h5s.create_simple(VALUES.shape)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(VALUES.shape)
    h5py.h5d.create(file.id, b"a", kind, space, properties)


def many(file):
    file.create_dataset("a", (4096, 4096), "i2", chunks=(1, 1))


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (direct(zlib.compress(bytes(2 * VALUES.size - 2))), "unpacks to less than 1610 bytes"),
        (direct(zlib.compress(bytes(2 * VALUES.size + 2))), "unpacks to more than 1610 bytes"),
        (direct(zlib.compress(VALUES.tobytes())[:-2]), "is cut off"),
        (direct(zlib.compress(VALUES.tobytes())[:-4] + b"abcd"), "garbled"),
        (direct(b"nothing"), "garbled"),
        (direct(bytes(4000)), "has a chunk of 4000 bytes, which holds 1610"),
        (created(compression="lzf"), r"HDF5 filters \[32000\]; expected gzip"),
        (created(fletcher32=True), r"HDF5 filters \[3\]"),
        (created(scaleoffset=0, compression="gzip"), r"HDF5 filters \[6, 1\]"),
        (missing, "has 1 chunks of values; its shape needs 12"),
        (many, "is stored in 16777216 chunks; expected at most 65536"),
        (unusual, "unusual kind of int16"),
    ],
)
def test_what_is_not_plain_is_refused(file, put, message):
    put(file)
    with pytest.raises(Refused, match=message):
        read_values(file["a"])


def test_a_reader_of_slices_says_which_field(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as f:
        f.create_dataset("cjdata/image", data=VALUES, compression="lzf")
    with pytest.raises(SliceError, match=r"a\.mat: image is stored with the HDF5 filters \[32000\]"):
        read_image(tmp_path / "a.mat")
    with h5py.File(tmp_path / "a.mat", "w") as f:
        f["cjdata/image"] = VALUES
        f["cjdata/image"].attrs["MATLAB_empty"] = np.ones(7)
    with pytest.raises(SliceError, match="image has a mark MATLAB_empty that is no number"):
        read_image(tmp_path / "a.mat")
