"""A converted dataset whose files say something else than its table, or lie about themselves."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays


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
