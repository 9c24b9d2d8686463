"""`.npy` files: what numpy.save writes, and those that lie about themselves."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.figshare import zipped
from tests.helpers.images import RAMP, refused, same
from unet_jax.imaging.formats.npy import open_npy, read_packed
from unet_jax.imaging.read import read_image, silent_readers
from unet_jax.imaging.scan import ImageError

VALUES = np.arange(24, dtype="<i2").reshape(2, 3, 4)


def header(text: str, version: bytes = b"\1\0") -> bytes:
    """Start a file of numbers."""
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


class TestSlice:
    @pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "i2", "u4", ">i4", "i8", "f2", "f4", ">f4", "f8"])
    def test_types(self, tmp_path, dtype):
        image = (RAMP % 100).astype(dtype)
        np.save(tmp_path / "a.npy", image)
        same(tmp_path / "a.npy", image.astype(np.dtype(dtype).newbyteorder("=")))

    def test_column_major_and_channels(self, tmp_path):
        for array in (np.asfortranarray(RAMP), *(np.repeat(RAMP[..., None], n, -1) for n in (1, 3, 4))):
            np.save(tmp_path / "a.npy", array)
            same(tmp_path / "a.npy", RAMP)

    @pytest.mark.parametrize(("dtype", "opaque"), [("u1", 255), ("u2", 65535), ("f4", 1)])
    def test_a_fourth_channel_of_opacity(self, tmp_path, dtype, opaque):
        pixels = np.full((20, 17, 4), [100, 100, 100, opaque], dtype)
        pixels[3, :2, 3] = [0, opaque / 5]
        np.save(tmp_path / "a.npy", pixels)
        expected = np.ma.MaskedArray(np.full((20, 17), 100, dtype), pixels[..., 3] == 0)
        expected[3, 1] = 20
        image = read_image(tmp_path / "a.npy")
        np.testing.assert_array_equal(image.mask, expected.mask)
        np.testing.assert_allclose(image, expected, rtol=1e-6)

    def test_a_fourth_channel_that_is_no_opacity(self, tmp_path):
        np.save(tmp_path / "a.npy", np.dstack([RAMP] * 3 + [RAMP]).astype(np.float32))
        same(tmp_path / "a.npy", RAMP.astype(np.float32))

    def test_colour_of_64_bits_stays_exact(self, tmp_path):
        channels = np.stack([RAMP, RAMP, RAMP], -1) + 2**40
        channels[0, 0, 0] += 1000
        np.save(tmp_path / "a.npy", channels)
        image = read_image(tmp_path / "a.npy")
        assert image[0, 0] == pytest.approx(2**40 + 299, abs=1e-3)
        assert image[3, 3] == RAMP[3, 3] + 2**40

    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (RAMP.astype(complex), "holds complex128"),
            (RAMP > 3, "holds bool"),
            (RAMP.astype("U5"), "holds <U5"),
            (np.zeros((16, 16, 2)), "has shape (16, 16, 2)"),
            (np.zeros((3, 16, 16)), "has shape (3, 16, 16)"),
            (np.zeros(256), "has shape (256,)"),
            (np.zeros((15, 16)), "is 15x16 pixels; expected sides of 16 to 8192"),
            (np.zeros((16, 8193), np.uint8), "is 16x8193 pixels"),
            (np.where(RAMP == 7, np.nan, RAMP), "not a number"),
            (np.where(RAMP == 7, -np.inf, RAMP), "infinite"),
            (np.where(RAMP == 7, 1e31, RAMP), "beyond 1e+30"),
            (np.full((16, 16), None), "holds object"),  # pickles are not opened
        ],
    )
    def test_what_is_no_slice_is_refused(self, tmp_path, array, reason):
        np.save(tmp_path / "a.npy", array)
        refused(tmp_path / "a.npy", reason)

    def test_a_header_that_promises_too_much_costs_no_memory(self, tmp_path):
        text = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999), }"
        (tmp_path / "a.npy").write_bytes(header(text))
        refused(tmp_path / "a.npy", f"is 89 bytes long; its header says {8 * 99999999999**2 + 89}")

    def test_header_of_python_2_is_read_in_silence(self, tmp_path):
        image = (RAMP % 256).astype(np.uint8)
        text = "{'descr': '|u1', 'fortran_order': False, 'shape': (20L, 17L)}\n"
        (tmp_path / "a.npy").write_bytes(header(text) + image.tobytes())
        with silent_readers():  # without it, NumPy's warning would be an error here
            same(tmp_path / "a.npy", image)


@pytest.mark.parametrize("change", [-1, 1])
def test_size_must_fit_the_header(tmp_path, change):
    np.save(tmp_path / "a.npy", RAMP)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1] if change < 0 else whole + b"x")
    reason = f"is {len(whole) + change} bytes long; its header says {len(whole)}"
    refused(tmp_path / "a.npy", reason)
    with pytest.raises(ValueError, match=reason):
        open_npy(tmp_path / "a.npy", RAMP.dtype, RAMP.shape)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no .npy file"),
        (b"\x93NUMPY", "is no .npy file"),
        (b"\x93NUMPY\1\0\x10\0{'descr': 1}   \n", "is no .npy file"),
        (b"PK\3\4" + bytes(100), "is no .npy file"),
        (header("(" * 9000), "is no .npy file"),
        (header("{'descr': '<i2', 'fortran_order': False, 'shape': (20, 17)}", b"\3\0"), "is no .npy file"),
        (b"\x93NUMPY\1\0\xff\xff{", "is no .npy file"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{}", "is no .npy file"),  # longer than the file, by 4 GB
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (20, 17)}") + b"cos\nsystem\n.", "holds object"),
        (header("{'descr': '<i2', 'fortran_order': False, 'shape': (-20, -17)}") + bytes(680), "its header says"),
    ],
)
def test_no_npy(tmp_path, content, reason):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ImageError) as e:
        read_image(tmp_path / "a.npy")
    assert reason in e.value.reason
    causes = [e.value.__cause__, e.value.__cause__.__cause__]
    assert not any(isinstance(cause, MemoryError) for cause in causes)
    with pytest.raises(ValueError, match=r"is no|holds|its header says"):
        open_npy(tmp_path / "a.npy", np.dtype("<i2"), (20, 17))


class TestOpen:
    def test_maps_what_numpy_saved(self, tmp_path):
        np.save(tmp_path / "a.npy", VALUES)
        got = open_npy(tmp_path / "a.npy", np.dtype("<i2"), (2, 3, 4))
        assert isinstance(got, np.memmap) and not got.flags.writeable
        np.testing.assert_array_equal(got, VALUES)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (VALUES.astype("<u2"), r"uint16 \(2, 3, 4\); expected int16 \(2, 3, 4\)"),
            (VALUES.astype(">i2"), r">i2 \(2, 3, 4\); expected int16"),
            (VALUES[:1], r"int16 \(1, 3, 4\); expected"),
            (np.asfortranarray(VALUES), "by columns; expected int16"),
        ],
    )
    def test_another_type_or_shape(self, tmp_path, array, message):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match=message):
            open_npy(tmp_path / "a.npy", np.dtype("<i2"), (2, 3, 4))


class TestPacked:
    def archive(self, tmp_path: Path, content: bytes) -> zipfile.ZipFile:
        (tmp_path / "a.npz").write_bytes(zipped({"7.npy": content}))
        return zipfile.ZipFile(tmp_path / "a.npz")

    def test_by_hand(self, tmp_path):
        text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }"
        with self.archive(tmp_path, header(text) + b"\x80\x40\x20\x80") as archive:
            packed = read_packed(archive, 7, height=2, width=9)
        np.testing.assert_array_equal(packed, [[0x80, 0x40], [0x20, 0x80]])

    def test_more_than_there_can_be_is_not_unpacked(self, tmp_path):
        with self.archive(tmp_path, bytes(10**6)) as archive, pytest.raises(ValueError, match="1000000 bytes"):
            read_packed(archive, 7, height=2, width=9)

    def test_a_header_that_lies(self, tmp_path):
        text = "{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999), }"
        with (
            self.archive(tmp_path, header(text)) as archive,
            pytest.raises(ValueError, match=r"its header says 999999998"),
        ):
            read_packed(archive, 7, height=2, width=9)


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("image", [RAMP.astype(">i2"), np.asfortranarray(RAMP / 3), np.dstack([RAMP] * 3)])
    def test_the_only_array(self, tmp_path, save, image):
        save(tmp_path / "a.npz", image)
        same(tmp_path / "a.npz", (image if image.ndim == 2 else RAMP).astype(image.dtype.newbyteorder("=")))

    def test_what_is_no_one_array(self, tmp_path, monkeypatch):
        path = tmp_path / "a.npz"
        np.savez(path, a=RAMP, b=RAMP)
        refused(path, "holds 2 arrays; expected one")
        np.savez(path)
        refused(path, "holds 0 arrays; expected one")
        np.savez(path, np.zeros((20, 17, 5)))
        refused(path, "has shape (20, 17, 5); expected (height, width)")
        np.savez(path, np.array([{}]), allow_pickle=True)
        refused(path, "holds object")
        path.write_text("no archive")
        refused(path, "cannot be decoded")

    def test_bombs_and_lies(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, np.zeros((8000, 9000)))
        refused(path, "holds 576000128 bytes; expected at most 536870912")
        np.savez(path, RAMP)
        whole = path.read_bytes()
        at = whole.index(RAMP.tobytes()) + 100
        path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
        refused(path, "Bad CRC-32")
        for length in range(0, len(whole), 97):
            path.write_bytes(whole[:length])
            refused(path, "")
