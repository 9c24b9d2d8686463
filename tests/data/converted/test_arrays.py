"""The converted dataset: what stands in it, that it is the same each time, and that nothing half done is ever seen."""

import csv
import hashlib
import json
import shlex
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.helpers.disk import work_was_done
from tests.helpers.folders import contents
from tests.helpers.mat import codes, raw_folder, slice_file
from unet_jax import convert
from unet_jax.config import UserError
from unet_jax.data.converted import arrays, rows
from unet_jax.data.converted.build import build as build_dataset
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.imaging.resize import resize_mask, to_network
from unet_jax.shared import files, progress


@pytest.fixture
def raw(tmp_path):
    """Slices 2, 9, 10 and 30 of three patients, three shapes and three tumours, and folds for all but the last."""
    rng = np.random.default_rng(0)
    slices = {
        2: {"image": rng.integers(0, 9000, (32, 32)).astype(np.int16), "label": [[1.0]]},
        9: {"label": [[2.0]], "PID": codes("a,")},
        10: {"label": [[2.0]]},
        30: {"image": rng.integers(-50, 900, (41, 17)).astype(np.int16), "label": [[3.0]]},
    }
    return raw_folder(tmp_path / "raw", slices, {2: 5, 9: 1, 10: 2})


def build(raw, out, **options):
    return build_dataset(raw, out, **{"size": 16, "mask_rule": "area", "workers": 1, **options})


def siblings(folder):
    return sorted(p.name for p in folder.parent.iterdir())


def test_rows_by_hand(raw, tmp_path):
    got = build(raw, tmp_path / "d")
    assert len(got) == 4 and got.size == 16 and got.mask_rule == "area"
    np.testing.assert_array_equal(got.slices, [2, 9, 10, 30])
    np.testing.assert_array_equal(got.labels, [1, 2, 2, 3])
    assert got.pids.tolist() == ["MR0042B", "a,", "MR0042B", "MR0042B"]
    np.testing.assert_array_equal(got.folds, [5, 1, 2, 0])
    np.testing.assert_array_equal(got.heights, [32, 20, 20, 41])
    np.testing.assert_array_equal(got.widths, [32, 24, 24, 17])
    np.testing.assert_array_equal(got.tumor_pixels, [5 * 8] * 4)
    assert got.sources == ["2.mat", "9.mat", "10.mat", "30.mat"]
    assert (got.images.dtype, got.images.shape) == (np.int16, (4, 16, 16))
    assert (got.masks.dtype, got.masks.shape) == (np.uint8, (4, 16, 16))
    assert isinstance(got.images, np.memmap) and isinstance(got.masks, np.memmap)
    # Slice 2 shrinks to a half: the image to the means of 2x2 pixels, the mask (rows 4 to 8, columns 6 to 13) to rows
    # 2 and 3, because only half of row 4 is covered.
    image = read_slice(raw / "data" / "2.mat").image
    np.testing.assert_array_equal(got.images[0], np.rint(image.reshape(16, 2, 16, 2).mean((1, 3))))
    np.testing.assert_array_equal(np.argwhere(got.masks[0]), [[y, x] for y in (2, 3) for x in (3, 4, 5, 6)])


def test_a_slice_reaches_the_network_bit_identical_from_the_arrays_and_from_its_file(raw, tmp_path):
    for size in (16, 25, 48):
        got = build(raw, tmp_path / str(size), size=size, mask_rule="any")
        for row, source in enumerate(got.sources):
            one = read_slice(raw / "data" / source)
            network = to_network(one.image, size)
            np.testing.assert_array_equal(got.images[row].astype(np.float32), network.image)
            assert (got.p1[row], got.p99[row]) == (np.float32(network.p1), np.float32(network.p99))
            np.testing.assert_array_equal(got.masks[row], resize_mask(one.mask, size, "any"))
            np.testing.assert_array_equal(got.native_mask(row), one.mask)


def test_files_are_as_described(raw, tmp_path):
    got = build(raw, tmp_path / "d")
    assert sorted(contents(got.path)) == ["dataset.json", "images.npy", "masks.npy", "native_masks.npz", "slices.csv"]
    header, *lines = (got.path / "slices.csv").read_text().splitlines()
    assert header == "slice,label,tumor,pid,fold,height,width,tumor_pixels,p1,p99,source,sha256"
    sha256 = hashlib.sha256((raw / "data" / "9.mat").read_bytes()).hexdigest()
    p1, p99 = np.percentile(read_slice(raw / "data" / "9.mat").image.astype(float), (1, 99))
    assert lines[1] == f'9,2,glioma,"a,",1,20,24,40,{float(p1)!r},{float(p99)!r},9.mat,{sha256}'
    info = json.loads((got.path / "dataset.json").read_text())
    assert info == got.info
    assert (info["format_version"], info["size"], info["mask_rule"]) == (1, 16, "area")
    counts = {"slices": 4, "patients": 2, "meningioma": 1, "glioma": 2, "pituitary": 1, "rejected": 0}
    assert info["counts"] == counts
    for name, entry in info["files"].items():
        content = (got.path / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    native = np.load(got.path / "native_masks.npz")
    assert native.files == ["2", "9", "10", "30"]
    assert (native["30"].dtype, native["30"].shape) == (np.uint8, (41, 3))
    # Plain numpy reads the arrays whole.
    np.testing.assert_array_equal(np.load(got.path / "images.npy"), got.images)


def test_same_input_same_bytes_wherever_it_lies_and_by_however_many_processes(raw, tmp_path):
    first = build(raw, tmp_path / "d")
    shutil.copytree(raw, tmp_path / "copy")
    again = build(tmp_path / "copy" / "data", tmp_path / "elsewhere" / "e", workers=2)
    assert contents(first.path) == contents(again.path)
    assert first.digest == again.digest


def test_digest_is_of_the_content(raw, tmp_path):
    first = build(raw, tmp_path / "d")
    path = raw / "data" / "10.mat"
    one = read_slice(path)
    path.unlink()
    with h5py.File(path, "w") as f:  # the same values, neither compressed nor with a user block
        group = f.create_group("cjdata")
        group["image"], group["tumorMask"], group["label"] = one.image.T, one.mask.T, 2.0
        group["PID"], group["tumorBorder"] = codes(one.pid), one.border.ravel()
    same = build(raw, tmp_path / "same")
    assert same.digest == first.digest
    assert contents(same.path)["slices.csv"] != contents(first.path)["slices.csv"]  # the source's SHA-256
    digests = {
        first.digest,
        build(raw, tmp_path / "any", mask_rule="any").digest,
        build(raw, tmp_path / "s", size=17).digest,
    }
    image = one.image.copy()
    image[10, 10] += 500
    slice_file(path, image=image, tumorMask=one.mask)
    digests.add(build(raw, tmp_path / "image").digest)
    mask = one.mask.copy()
    mask[19, 23] = 1  # too small a change to show at the network's size
    slice_file(path, image=one.image, tumorMask=mask)
    digests.add(build(raw, tmp_path / "mask").digest)
    slice_file(path, image=one.image, tumorMask=one.mask, label=[[1.0]])
    digests.add(build(raw, tmp_path / "label").digest)
    assert len(digests) == 6


def test_bad_files_are_listed_and_nothing_is_made(raw, tmp_path):
    slice_file(raw / "data" / "11.mat", label=[[9.0]])
    (raw / "data" / "40.mat").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 of 6 files are bad; .*d\.rejected/rejected\.csv lists them .*--skip-bad"):
        build(raw, tmp_path / "d")
    assert siblings(tmp_path / "d") == ["d.rejected", "raw"]
    with (tmp_path / "d.rejected" / "rejected.csv").open(newline="") as f:
        listed = list(csv.reader(f))
    assert listed == [
        ["source", "reason"],
        ["11.mat", "label is 9; expected one of 1 (meningioma), 2 (glioma), 3 (pituitary)"],
        ["40.mat", "an empty file"],
    ]
    # Replaced on each run, and gone after a clean one.
    (raw / "data" / "11.mat").unlink()
    with pytest.raises(UserError, match="1 of 5 files"):
        build(raw, tmp_path / "d")
    assert (tmp_path / "d.rejected" / "rejected.csv").read_text() == "source,reason\n40.mat,an empty file\n"
    (raw / "data" / "40.mat").unlink()
    build(raw, tmp_path / "d")
    assert siblings(tmp_path / "d") == ["d", "raw"]


def test_skip_bad_leaves_them_out(raw, tmp_path):
    clean = build(raw, tmp_path / "clean")
    (raw / "data" / "3.mat").write_bytes(b"")
    with pytest.raises(UserError):
        build(raw, tmp_path / "d")
    got = build(raw, tmp_path / "d", skip_bad=True)
    assert (got.path / "rejected.csv").read_text() == "source,reason\n3.mat,an empty file\n"
    assert siblings(tmp_path / "d") == ["clean", "d", "raw"]
    assert got.info["counts"]["rejected"] == 1 and got.digest == clean.digest
    of_clean, of_got = contents(clean.path), contents(got.path)
    assert {name for name in of_got if of_got[name] != of_clean.get(name)} == {"dataset.json", "rejected.csv"}
    for path in (raw / "data").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"5 of 5 files are bad.*nothing left to convert"):
        build(raw, tmp_path / "nothing", skip_bad=True)
    assert siblings(tmp_path / "d") == ["clean", "d", "nothing.rejected", "raw"]


def test_broken_folds_are_an_error_before_any_work(raw, tmp_path):
    (raw / "cvind.mat").write_bytes(b"")
    with pytest.raises(UserError, match=r"cvind\.mat: an empty file"):
        build(raw, tmp_path / "d")
    assert siblings(tmp_path / "d") == ["raw"]
    (raw / "cvind.mat").unlink()
    np.testing.assert_array_equal(build(raw, tmp_path / "d").folds, [0, 0, 0, 0])


def test_an_existing_dataset_is_replaced_only_when_asked(raw, tmp_path):
    before = contents(build(raw, tmp_path / "d").path)
    with pytest.raises(UserError, match=r"d exists already.*--overwrite"):
        build(raw, tmp_path / "d", size=20)
    assert contents(tmp_path / "d") == before
    assert build(raw, tmp_path / "d", size=20, overwrite=True).size == 20
    assert siblings(tmp_path / "d") == ["d", "raw"]


def test_overwrite_does_not_touch_what_is_no_dataset(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "convert_slice", work_was_done)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file", "raw"):
        with pytest.raises(UserError, match="exists already"):
            build(raw, tmp_path / name)
        with pytest.raises(UserError, match="not a converted dataset"):
            build(raw, tmp_path / name, overwrite=True)
    (raw / "dataset.json").touch()
    with pytest.raises(UserError, match="lies in"):
        build(raw, tmp_path / "raw", overwrite=True)
    assert (tmp_path / "photos" / "1.png").exists() and (raw / "data" / "2.mat").exists()


def test_a_link_to_a_dataset_stays_a_link(raw, tmp_path):
    build(raw, tmp_path / "disk" / "d")
    (tmp_path / "d").symlink_to(tmp_path / "disk" / "d")
    build(raw, tmp_path / "d", size=20, overwrite=True)
    assert (tmp_path / "d").is_symlink()
    assert arrays.open_arrays(tmp_path / "disk" / "d").size == 20


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("moment", ["converting", "syncing", "replacing"])
def test_interrupted_it_leaves_what_was_there(raw, tmp_path, monkeypatch, error, moment):
    before = contents(build(raw, tmp_path / "d").path)
    convert, rename = rows.convert_slice, Path.rename

    def fail_on(name, work):
        def work_or_fail(path, *args, **kwargs):
            if path.name == name:
                raise error
            return work(path, *args, **kwargs)

        return work_or_fail

    if moment == "converting":
        monkeypatch.setattr(rows, "convert_slice", fail_on("10.mat", convert))
    elif moment == "syncing":
        monkeypatch.setattr(files, "sync", fail_on("new", files.sync))
    else:
        monkeypatch.setattr(Path, "rename", fail_on("new", rename))
    for out in ("d", "e"):
        with pytest.raises(type(error) if isinstance(error, OSError) else error):
            build(raw, tmp_path / out, size=20, overwrite=True)
    assert siblings(tmp_path / "d") == ["d", "raw"]
    assert contents(tmp_path / "d") == before


CRASHING = """
import os
from unet_jax.data.converted.rows import convert_slice

def convert(path, **options):
    if path.name == "9.mat":
        os._exit(11)
    return convert_slice(path, **options)
"""


def test_a_file_that_crashes_its_process_is_named_and_the_rest_done(raw, tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    import crashing

    monkeypatch.setattr(rows, "convert_slice", crashing.convert)
    got = build(raw, tmp_path / "d", skip_bad=True, workers=2)
    np.testing.assert_array_equal(got.slices, [2, 10, 30])
    reason = "reading it crashed the process that read it"
    assert (got.path / "rejected.csv").read_text() == f"source,reason\n9.mat,{reason}\n"
    del sys.modules["crashing"]


def test_progress_in_plain_lines(raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "WORTH_LINES", 1)
    build(raw, tmp_path / "d")
    done = [line.split(" slices,")[0] for line in capsys.readouterr().err.splitlines()]
    assert done == ["convert: 1/4", "convert: 2/4", "convert: 3/4", "convert: 4/4"]


def edit_json(**changes):
    def edit(d):
        info = json.loads((d / "dataset.json").read_text()) | changes
        (d / "dataset.json").write_text(json.dumps({k: v for k, v in info.items() if v is not None}))

    return edit


def edit_file(name, old, new):
    """Damage that leaves the size of the file as it was."""

    def edit(d):
        content = (d / name).read_bytes()
        assert old in content and len(old) == len(new)
        (d / name).write_bytes(content.replace(old, new))

    return edit


@pytest.mark.parametrize(
    ("there", "given", "out"),
    [
        ([], "raw", "raw-128"),
        (["raw-128"], "raw", "raw-128-2"),
        (["raw-128", "raw-128-2"], "raw", "raw-128-3"),
        ([], "raw/data", "raw/data-128"),
        ([], "raw/data/..", "raw-128"),
    ],
)
def test_a_raw_folder_is_told_with_the_command_that_converts_it(raw, tmp_path, there, given, out):
    """And the command that is named works."""
    assert raw == tmp_path / "raw"
    for name in there:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds raw slices and is not a converted dataset") as e:
        arrays.open_arrays(tmp_path / given)
    command, _, rest = str(e.value).partition("Run `")[2].partition("`, and give ")
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "unet_jax.convert"] and rest == f"{words[-1]} instead."
    assert Path(words[-1]) == tmp_path / out
    assert convert.main(words[3:]) == 0
    assert len(arrays.open_arrays(tmp_path / out)) == 4


def test_what_is_neither_raw_nor_converted_is_told_a_free_place(tmp_path):
    with pytest.raises(UserError, match=rf"--raw DIR --out {tmp_path}-128` makes one\.$"):
        arrays.open_arrays(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "dataset.json").unlink(), "is not a converted dataset"),
        (
            shutil.rmtree,
            r"/d is not a converted dataset .*; `python -m unet_jax\.convert --raw DIR --out \S*/d` makes one",
        ),
        (lambda d: (d / "dataset.json").write_text("{"), r"dataset\.json cannot be read"),
        (lambda d: (d / "dataset.json").write_text("[1]"), r"dataset\.json cannot be read"),
        (edit_json(format_version=2), "of format version 2; this program reads 1"),
        (edit_json(size=None), "lacks an entry"),
        (edit_json(size="16"), "entry of a wrong type"),
        (edit_json(mask_rule="half"), "entry of a wrong type"),
        (edit_json(digest=None), "lacks an entry"),
        (edit_json(files={}), "lacks an entry"),
        (edit_json(files={"rejected.csv": {}}), "lacks an entry"),
        (edit_json(size=32), r"images\.npy cannot be read \(int16 \(4, 16, 16\); expected int16 \(4, 32, 32\)\)"),
        (lambda d: (d / "masks.npy").unlink(), r"masks\.npy is missing"),
        (lambda d: (d / "native_masks.npz").unlink(), r"native_masks\.npz is missing"),
        (lambda d: (d / "images.npy").write_bytes((d / "images.npy").read_bytes()[:-1]), r"images\.npy has 2175 bytes"),
        (edit_file("images.npy", b"<i2", b"<u2"), r"images\.npy cannot be read \(uint16"),
        (edit_file("masks.npy", b"NUMPY", b"NUMPX"), r"masks\.npy cannot be read"),
        (edit_file("masks.npy", b"|u1", b"|O1"), r"masks\.npy cannot be read"),
        (edit_file("slices.csv", b"\n9,", b"\n2,"), r"slices\.csv has 4 rows, or unsorted ones"),
        (edit_file("slices.csv", b"\n9,2", b"\n9,7"), "values out of range for slice 9"),
        (edit_file("slices.csv", b"\n9,2", b"\nx,2"), r"slices\.csv cannot be read"),
        (edit_file("slices.csv", b"tumor_pixels", b"tumour_pixel"), r"slices\.csv cannot be read"),
    ],
)
def test_damage_is_found_on_opening(raw, tmp_path, damage, message):
    build(raw, tmp_path / "d")
    damage(tmp_path / "d")
    with pytest.raises(UserError, match=message) as caught:
        arrays.open_arrays(tmp_path / "d")
    assert "python -m unet_jax.convert" in str(caught.value)
