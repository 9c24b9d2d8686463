"""Arrays of a converted dataset that say something else than its table, or lie about themselves."""

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.imaging.formats.npy import open_npy, read_packed

VALUES = np.arange(24, dtype="<i2").reshape(2, 3, 4)


def header(text: str, version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


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
            (np.asfortranarray(VALUES), "expected int16"),
        ],
    )
    def test_another_type_or_shape(self, tmp_path, array, message):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match=message):
            open_npy(tmp_path / "a.npy", np.dtype("<i2"), (2, 3, 4))

    @pytest.mark.parametrize("change", [-1, 1])
    def test_length(self, tmp_path, change):
        np.save(tmp_path / "a.npy", VALUES)
        whole = (tmp_path / "a.npy").read_bytes()
        (tmp_path / "a.npy").write_bytes(whole[:-1] if change < 0 else whole + b"x")
        with pytest.raises(ValueError, match=f"{48 + change} bytes of values; expected 48"):
            open_npy(tmp_path / "a.npy", np.dtype("<i2"), (2, 3, 4))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"PK\3\4" + bytes(100),
            header("(" * 9000),
            header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3, 4)}") + b"cos\nsystem\n(S'false'\ntR.",
            header("{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3, 4)}", b"\3\0") + bytes(48),
            b"\x93NUMPY\1\0\xff\xff{",
        ],
    )
    def test_no_npy(self, tmp_path, content):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"no header of an \.npy file|expected int16"):
            open_npy(tmp_path / "a.npy", np.dtype("<i2"), (2, 3, 4))


class TestPacked:
    def archive(self, tmp_path: Path, content: bytes) -> zipfile.ZipFile:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("7.npy", content)
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
            pytest.raises(ValueError, match=r"expected uint8 \(2, 2\)"),
        ):
            read_packed(archive, 7, height=2, width=9)


@pytest.fixture
def dataset(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_data, tmp_path / "d"))


def damaged(dataset: Path, name: str, content: bytes) -> None:
    """Write a file, and its size into dataset.json."""
    (dataset / name).write_bytes(content)
    info = json.loads((dataset / "dataset.json").read_text())
    info["files"][name]["bytes"] = len(content)
    (dataset / "dataset.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("fold", "6"),
        ("fold", "-1"),
        ("height", "15"),
        ("width", "999999999"),
        ("tumor_pixels", str(10**15)),
        ("p1", "nan"),
        ("p99", "inf"),
        ("p99", "-32768"),
        ("tumor", "other"),
    ],
)
def test_values_that_no_slice_has(dataset, column, value):
    head, first, *rest = (dataset / "slices.csv").read_text().splitlines()
    cells = first.split(",")
    cells[head.split(",").index(column)] = value
    damaged(dataset, "slices.csv", "\n".join([head, ",".join(cells), *rest]).encode())
    with pytest.raises(UserError, match=r"slices\.csv has values out of range for slice 1\. The dataset is damaged"):
        open_arrays(dataset)


@pytest.mark.parametrize("change", [lambda line: line + ",more", lambda line: line.rsplit(",", 2)[0]])
def test_too_many_or_too_few_cells(dataset, change):
    head, first, *rest = (dataset / "slices.csv").read_text().splitlines()
    damaged(dataset, "slices.csv", "\n".join([head, change(first), *rest]).encode())
    with pytest.raises(UserError, match=r"slices\.csv cannot be read .*too many or too few cells"):
        open_arrays(dataset)


def test_a_description_that_nests_too_deeply(dataset):
    (dataset / "dataset.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match=r"dataset\.json cannot be read \(RecursionError"):
        open_arrays(dataset)


def test_native_masks_of_which_a_bit_has_changed(dataset):
    content = bytearray((dataset / "native_masks.npz").read_bytes())
    wanted = open_arrays(dataset).native_mask(0).copy()
    with zipfile.ZipFile(dataset / "native_masks.npz") as archive:
        first = archive.infolist()[0]
    start, refused = 30 + len(first.filename), 0
    for at in range(start, start + first.compress_size, 7):
        content[at] ^= 1
        (dataset / "native_masks.npz").write_bytes(content)
        try:
            np.testing.assert_array_equal(open_arrays(dataset).native_mask(0), wanted)  # a bit that nobody needs
        except UserError as e:
            assert "native_masks.npz slice 1 cannot be read" in str(e)
            refused += 1
        content[at] ^= 1
    assert refused > 5
