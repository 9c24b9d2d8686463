"""Reading the source format: golden values, and one typed error for whatever can be wrong."""

import csv
import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.helpers.mat import codes, mat_file, slice_file
from unet_jax.config import UserError
from unet_jax.data.raw import find_slices
from unet_jax.imaging.formats.mat import FIELDS, SliceError, read_folds, read_slice
from unet_jax.imaging.read import read_image

SHARED = Path(__file__).parents[4] / "shared"


def test_reads_every_field_as_displayed(tmp_path):
    image = np.zeros((16, 20), np.int16)
    image[0, 1], image[15, 0] = 7, -3
    mask = np.zeros((16, 20), np.uint8)
    mask[2, 17] = 1
    border = [[18.0, 3.0, 18.5, 3.0, 18.0, 2.5]]
    path = slice_file(tmp_path / "42.mat", image=image, tumorMask=mask, label=[[3.0]], tumorBorder=border)
    got = read_slice(path)
    assert got.slice == 42
    assert got.image.dtype == np.int16 and got.image.flags.c_contiguous
    np.testing.assert_array_equal(got.image, image)
    assert got.mask.dtype == np.uint8
    np.testing.assert_array_equal(np.argwhere(got.mask), [[2, 17]])
    assert (got.label, got.pid) == (3, "MR0042B")
    np.testing.assert_array_equal(got.border, [[18, 3], [18.5, 3], [18, 2.5]])


@pytest.mark.parametrize(
    "changes",
    [
        {"image": np.full((16, 16), 9.0), "tumorMask": np.eye(16, dtype=bool)},
        {"image": np.full((16, 16), 9, np.uint8), "tumorMask": np.eye(16)},
        {"image": np.full((16, 16), 9, ">i4"), "tumorMask": np.eye(16, dtype=np.int64)},
        {"image": np.full((16, 16), 9, np.int16), "tumorMask": np.eye(16, dtype=np.uint8), "label": np.int8(2)},
        {"image": np.full((16, 16), 9, np.int16), "tumorMask": np.eye(16, dtype=np.uint8), "PID": codes("MR0042B ").T},
        {"image": np.full((16, 16), 9), "tumorMask": np.eye(16), "PID": codes("MR0042B", np.uint8)[:, 0]},
    ],
)
def test_other_types_of_the_same_values_read_the_same(tmp_path, changes):
    got = read_slice(slice_file(tmp_path / "1.mat", **changes))
    assert got.image.dtype == np.int16 and (got.image == 9).all()
    np.testing.assert_array_equal(got.mask, np.eye(16, dtype=np.uint8))
    assert (got.label, got.pid) == (2, "MR0042B")


def test_no_tumour_and_no_border_are_allowed(tmp_path):
    path = slice_file(tmp_path / "1.mat", tumorMask=np.zeros((20, 24), np.uint8), tumorBorder=np.zeros((1, 0)))
    got = read_slice(path)
    assert got.mask.sum() == 0 and got.border.shape == (0, 2)
    # MATLAB stores an empty array as its dimensions.
    path = slice_file(tmp_path / "2.mat", tumorBorder=np.array([0, 0], np.uint64))
    with h5py.File(path, "r+") as f:
        f["cjdata/tumorBorder"].attrs["MATLAB_empty"] = np.uint8(1)
    assert read_slice(path).border.shape == (0, 2)


NAN_IMAGE = np.full((20, 24), 5.0)
NAN_IMAGE[3, 3] = np.nan


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({name: None}, f"has no dataset cjdata/{name}") for name in FIELDS),
        ({"image": np.zeros((20, 24, 3), np.int16)}, r"image has shape \(20, 24, 3\); expected two dimensions"),
        ({"image": np.zeros((15, 24), np.int16)}, r"image has shape \(15, 24\); expected two dimensions of 16 to 4096"),
        ({"image": np.zeros((16, 4097), np.int16)}, r"image has shape \(16, 4097\)"),
        ({"image": np.zeros((20, 24), complex)}, "image is of type complex128; expected whole numbers"),
        ({"image": np.zeros((20, 24), "S3")}, "image is of type"),
        ({"image": h5py.Empty("i2")}, "image holds no values"),
        ({"image": NAN_IMAGE}, "image has values that are not finite"),
        ({"image": np.full((20, 24), 0.5)}, "image has fractional values"),
        ({"image": np.full((20, 24), 40000)}, r"image has values from 40000 to 40000; expected int16"),
        ({"image": np.full((20, 24), -32769)}, "expected int16"),
        ({"tumorMask": np.zeros((24, 20), np.uint8)}, r"tumorMask has shape \(24, 20\), image \(20, 24\)"),
        ({"tumorMask": np.full((20, 24), 2, np.uint8)}, "tumorMask has values other than 0 and 1"),
        ({"tumorMask": NAN_IMAGE}, "tumorMask has values other than 0 and 1"),
        ({"label": [[4.0]]}, r"label is 4; expected one of 1 \(meningioma\), 2 \(glioma\), 3 \(pituitary\)"),
        ({"label": [[1.5]]}, "label is 1.5"),
        ({"label": [[np.nan]]}, "label is nan"),
        ({"label": [[1.0, 2.0]]}, r"label has shape \(1, 2\); expected one number"),
        ({"label": "glioma"}, "label is of type"),
        ({"PID": codes("")}, "PID is ''"),
        ({"PID": codes("  ")}, "PID is ''"),
        ({"PID": codes("a\x00b")}, "PID is 'a.x00b'"),
        ({"PID": np.array([[65.0]])}, "PID is of type float64; expected character codes"),
        ({"PID": np.array([[65]], np.uint32)}, "PID is of type uint32; expected character codes"),
        ({"PID": codes("x" * 65)}, "PID has shape"),
        ({"PID": codes("x" * 8).reshape(2, 4)}, "PID has shape"),
        ({"tumorBorder": np.ones((1, 3))}, "tumorBorder has 3 values; expected pairs"),
        ({"tumorBorder": np.ones((2, 4))}, r"tumorBorder has shape \(2, 4\); expected one row"),
        ({"tumorBorder": np.full((1, 4), np.inf)}, "tumorBorder has values that are not finite"),
    ],
)
def test_names_what_is_wrong(tmp_path, changes, reason):
    path = slice_file(tmp_path / "5.mat", **changes)
    with pytest.raises(SliceError, match=reason) as caught:
        read_slice(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"


@pytest.mark.parametrize("name", ["cjdata", "cjdata/image", "cjdata/tumorMask", "cjdata/PID"])
@pytest.mark.parametrize("link", [h5py.SoftLink("/elsewhere"), h5py.ExternalLink("other.mat", "/cjdata")])
def test_links_out_of_their_place_are_refused(tmp_path, name, link):
    slice_file(tmp_path / "other.mat")
    path = slice_file(tmp_path / "5.mat")
    with h5py.File(path, "r+") as f:
        f.copy("cjdata" if name == "cjdata" else name, "elsewhere")  # where the soft link finds good data
        del f[name]
        f[name] = link
    with pytest.raises(SliceError, match=f"{name} is a link to elsewhere"):
        read_slice(path)


def created(**how):
    return lambda group: group.create_dataset("image", **{"shape": (24, 20), "dtype": "i2"} | how)


def virtual(group):
    layout = h5py.VirtualLayout((24, 20), "i2")
    layout[:] = h5py.VirtualSource("other.mat", "cjdata/image", (24, 20), "i2")
    group.create_virtual_dataset("image", layout)


def huge(group):
    group.create_dataset("image", shape=(10**6, 10**6), dtype="i2", chunks=(64, 64))[0, 0] = 1


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (created(external=[("image.bin", 0, 960)]), "cjdata/image keeps its values in another file"),
        (virtual, "cjdata/image keeps its values in another file"),
        (huge, r"image has shape \(1000000, 1000000\)"),
        (created(maxshape=(None, None), dtype="i8", chunks=(2**15, 2**12)), "image is stored in chunks of"),
        (created(chunks=(24, 20)), "image holds no values"),
        (lambda group: group.create_group("image"), "cjdata/image is a group; expected a dataset"),
        (lambda group: group.__setitem__("image", np.dtype("i2")), "cjdata/image is a datatype; expected a dataset"),
    ],
)
def test_storage_that_is_not_plain_is_refused(tmp_path, put, reason):
    slice_file(tmp_path / "other.mat")
    (tmp_path / "image.bin").write_bytes(bytes(960))
    path = slice_file(tmp_path / "5.mat", image=None)
    with h5py.File(path, "r+") as f:
        put(f["cjdata"])
    with pytest.raises(SliceError, match=reason):
        read_slice(path)


def test_cjdata_must_be_there_and_a_group(tmp_path):
    path = mat_file(tmp_path / "1.mat", lambda f: f.create_dataset("cvind", data=[1.0]))
    with pytest.raises(SliceError, match="has no group cjdata"):
        read_slice(path)
    path = mat_file(tmp_path / "2.mat", lambda f: f.create_dataset("cjdata", data=[1.0]))
    with pytest.raises(SliceError, match="cjdata is a dataset; expected a group"):
        read_slice(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"x" * 3000, "not a MATLAB 7.3"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(600), "a MATLAB 5 file; expected MATLAB 7.3"),
    ],
)
def test_files_of_another_kind(tmp_path, content, reason):
    path = tmp_path / "1.mat"
    path.write_bytes(content)
    with pytest.raises(SliceError, match=reason):
        read_slice(path)


def test_truncated_and_garbled_files(tmp_path):
    path = slice_file(tmp_path / "1.mat")
    with h5py.File(path) as f:
        chunk = f["cjdata/image"].id.read_direct_chunk((0, 0))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SliceError, match="cannot be read"):
        read_slice(path)
    assert whole.count(chunk) == 1
    path.write_bytes(whole.replace(chunk, chunk[:100] + bytes(16) + chunk[116:]))
    with pytest.raises(SliceError, match=r"image has a (garbled )?chunk"):
        read_slice(path)


def test_what_is_no_file_and_what_is_no_slice(tmp_path):
    (tmp_path / "2.mat").mkdir()
    os.mkfifo(tmp_path / "3.mat")
    for name, reason in (("1.mat", "no such file"), ("2.mat", "not a regular file"), ("3.mat", "not a regular file")):
        with pytest.raises(SliceError, match=reason):
            read_slice(tmp_path / name)
    for name in ("0.mat", "scan.mat", "4.MAT", "-1.mat"):
        with pytest.raises(SliceError, match="the name is not a slice's number"):
            read_slice(slice_file(tmp_path / name))


def test_an_image_is_read_alone(tmp_path):
    image = np.arange(16 * 17, dtype=np.int16).reshape(16, 17)
    absent = dict.fromkeys(("tumorMask", "label", "PID", "tumorBorder"))
    np.testing.assert_array_equal(read_image(slice_file(tmp_path / "scan.mat", image=image, **absent)), image)
    with pytest.raises(SliceError, match="fractional"):
        read_image(slice_file(tmp_path / "other.mat", image=image + 0.5, **absent))


def test_the_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(SliceError(Path("a/1.mat"), "is odd")))
    assert (error.path, error.reason, str(error)) == (Path("a/1.mat"), "is odd", "a/1.mat: is odd")
    assert isinstance(error, UserError)


THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unet_jax.imaging.read import read_image

def right(path):
    return (read_image(path) == int(path.stem)).all()

paths = sorted(Path(sys.argv[1]).iterdir())
with ThreadPoolExecutor(4) as pool:
    assert all(pool.map(right, paths * 150))
"""


def test_several_threads_read_at_the_same_time(tmp_path):
    # Without a lock of h5py's this ends in a crash, an error or wrong values.
    for i in range(1, 9):
        image = np.full((128, 128), i, np.int16)
        how = {"data": image, "chunks": (16, 16), "compression": "gzip"}
        mat_file(tmp_path / f"{i}.mat", lambda f, how=how: f.create_dataset("cjdata/image", **how))
    done = subprocess.run([sys.executable, "-c", THREADS, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (6,)])
def test_reads_folds(tmp_path, shape):
    values = np.array([1.0, 5.0, 0.0, 2.0, 2.0, 4.0]).reshape(shape)
    path = mat_file(tmp_path / "cvind.mat", lambda f: f.create_dataset("cvind", data=values))
    folds = read_folds(path)
    assert folds.dtype.kind == "i"
    np.testing.assert_array_equal(folds, [1, 5, 0, 2, 2, 4])


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("folds", [1.0], "has no dataset cvind"),
        ("cvind", [1.0, 6.0], "not fold numbers"),
        ("cvind", [1.5], "not fold numbers"),
        ("cvind", [np.nan], "not fold numbers"),
        ("cvind", np.ones((2, 2)), r"cvind has shape \(2, 2\)"),
        ("cvind", "text", "cvind is of type"),
    ],
)
def test_folds_that_are_none(tmp_path, name, values, reason):
    path = mat_file(tmp_path / "cvind.mat", lambda f: f.create_dataset(name, data=values))
    with pytest.raises(SliceError, match=reason):
        read_folds(path)


@pytest.mark.skipif(not (SHARED / "data" / "figshare").is_dir(), reason="needs the real slices in ../shared")
def test_real_slices(tmp_path):
    from PIL import Image

    pack = SHARED / "data" / "figshare"
    tool = SHARED / "tools" / "make_figshare_raw.py"
    subprocess.run([sys.executable, tool, pack, tmp_path, "--limit", "5"], check=True, capture_output=True)
    with (pack / "slices.csv").open() as f:
        known = {int(row["slice"]): row for row in csv.DictReader(f)}
    paths, folds = find_slices(tmp_path), read_folds(tmp_path / "cvind.mat")
    assert len(paths) == 5 and folds.shape == (3064,)
    for path in paths:
        got = read_slice(path)
        row = known[got.slice]
        picture = np.asarray(Image.open(pack / "slices" / f"{got.slice}.webp").convert("L"))
        np.testing.assert_array_equal(got.image, picture.astype(np.int16) * 16)
        assert (got.label, got.pid) == (int(row["label"]), row["pid"])
        assert folds[got.slice - 1] in range(1, 6)
        # The border lies around the mask: their bounding boxes agree to a pixel or so (x, y counted from 1).
        box = np.argwhere(got.mask)[:, ::-1] + 1
        np.testing.assert_allclose(box.min(0), got.border.min(0), atol=1.5)
        np.testing.assert_allclose(box.max(0), got.border.max(0), atol=1.5)
