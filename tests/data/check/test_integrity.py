"""Each defect, and exactly its rule reported: in a raw folder, and in what is converted of it."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.mat import codes, raw_folder, slice_file
from unet_jax.config import UserError
from unet_jax.data.check.findings import PUBLISHED
from unet_jax.data.check.integrity import check, check_rows
from unet_jax.data.check.rules import Rule
from unet_jax.data.converted.build import build


@pytest.fixture
def make_raw(tmp_path):
    """Slices 1, 2 and 3, glioma, of the patients a, b and b, in the folds 1, 2 and 2; `changes` are of slice 2."""

    def make(folds=(1, 2, 2), **changes) -> Path:
        a, b = {"PID": codes("a")}, {"PID": codes("b")}
        return raw_folder(tmp_path / "raw", {1: a, 2: b | changes, 3: b}, dict(enumerate(folds, 1)))

    return make


def checked(data):
    return check(data, workers=1)


def converted(raw, size=16, **options):
    out = raw.parent / "d"
    return build(raw, out, size=size, mask_rule="area", workers=1, **options)


def found(report):
    """Rule, source and slices of every finding."""
    return [(f.rule.code, f.source, f.slices) for f in report.findings]


def first_image():
    """What `slice_file` puts into slice 1."""
    return np.random.default_rng(1).integers(0, 4000, (20, 24)).astype(np.int16)


NAN_IMAGE = np.full((20, 24), 5.0)
NAN_IMAGE[3, 3] = np.nan
ALMOST_CONSTANT = np.full((20, 24), 7, np.int16)
ALMOST_CONSTANT[3, 3] = 90  # one of 480 pixels, and the percentiles are those of 1 and 99 in 100
EMPTY = np.zeros((20, 24), np.uint8)
ELSEWHERE = EMPTY.copy()
ELSEWHERE[12:17, 6:14] = 1
TINY = EMPTY.copy()
TINY[5, 5] = 1

REFUSED = [
    ({"image": None}, Rule.MISSING_FIELD),
    ({"tumorBorder": None}, Rule.MISSING_FIELD),
    ({"image": np.zeros((20, 24, 3), np.int16), "tumorMask": EMPTY}, Rule.WRONG_FIELD),
    ({"image": np.zeros((20, 24), complex)}, Rule.WRONG_FIELD),
    ({"label": "glioma"}, Rule.WRONG_FIELD),
    ({"PID": codes(" ")}, Rule.WRONG_FIELD),
    ({"tumorBorder": np.ones((1, 3))}, Rule.WRONG_FIELD),
    ({"image": NAN_IMAGE}, Rule.NOT_FINITE),
    ({"tumorBorder": np.full((1, 4), np.inf)}, Rule.NOT_FINITE),
    ({"image": np.full((20, 24), 40000)}, Rule.NOT_INT16),
    ({"image": np.full((20, 24), 0.5)}, Rule.NOT_INT16),
    ({"tumorMask": np.full((20, 24), 2, np.uint8)}, Rule.MASK_VALUES),
    ({"tumorMask": np.zeros((24, 20), np.uint8)}, Rule.MASK_SHAPE),
    ({"label": [[4.0]]}, Rule.LABEL),
    ({"label": [[np.nan]]}, Rule.LABEL),
]
TAKEN = [
    ({"image": np.full((20, 24), 7, np.int16)}, Rule.CONSTANT_IMAGE),
    ({"image": ALMOST_CONSTANT}, Rule.EQUAL_PERCENTILES),
    ({"tumorMask": EMPTY}, Rule.EMPTY_MASK),
    ({"tumorMask": EMPTY, "tumorBorder": np.zeros((1, 0))}, Rule.EMPTY_MASK),
]


def test_a_clean_folder_and_what_is_converted_of_it(make_raw):
    raw = make_raw()
    for report, kind in ((checked(raw), "raw folder"), (checked(converted(raw).path), "converted dataset")):
        assert report.findings == [] and (report.errors, report.warnings) == (0, 0)
        assert report.kind == kind
        assert report.counts == {"slices": 3, "patients": 2, "meningioma": 0, "glioma": 3, "pituitary": 0}
        assert report.verdict() == "Check: no errors, no warnings."


@pytest.mark.parametrize(("changes", "rule"), REFUSED)
def test_what_convert_refuses_is_an_error_with_its_reason(make_raw, changes, rule):
    raw = make_raw(**changes)
    report = checked(raw)
    assert found(report) == [(rule.code, "2.mat", (2,))] and report.errors == 1
    assert report.counts["slices"] == 2
    assert rule.convert.startswith("refused")
    with pytest.raises(UserError, match="1 of 3 files are bad"):
        converted(raw)
    with (raw.parent / "d.rejected" / "rejected.csv").open(newline="") as f:
        assert list(csv.reader(f))[1:] == [["2.mat", report.findings[0].detail]]


@pytest.mark.parametrize(("changes", "rule"), TAKEN)
def test_what_convert_takes_is_a_warning_there_and_here(make_raw, changes, rule):
    raw = make_raw(**changes)
    assert rule.severity == "warning" and rule.convert.startswith("taken")
    for report in (checked(raw), checked(converted(raw).path)):
        assert found(report) == [(rule.code, "2.mat", (2,))] and report.warnings == 1
        assert report.counts["slices"] == 3


@pytest.mark.parametrize("name", ["2.mat", "0.mat", "cvind.mat"])
@pytest.mark.parametrize("content", [b"", b"x" * 3000, b"MATLAB 5.0 MAT-file".ljust(600)])
def test_files_that_cannot_be_read(make_raw, name, content):
    raw = make_raw()
    (raw / "data" / name).write_bytes(content)
    numbers = {"2.mat": (2,), "0.mat": (0,), "cvind.mat": ()}
    assert found(checked(raw)) == [("unreadable-file", name, numbers[name])]


@pytest.mark.parametrize(
    ("changes", "iou"),
    [
        ({"tumorMask": ELSEWHERE}, "0.00"),
        ({"tumorBorder": np.zeros((1, 0))}, "0.00"),
        # Two columns to the right: 30 of the 40 pixels in common, of 50.
        ({"tumorBorder": np.array([[9.0, 5.0, 16.0, 5.0, 16.0, 9.0, 9.0, 9.0]])}, "0.60"),
    ],
)
def test_a_mask_that_is_not_the_inside_of_its_border(make_raw, changes, iou):
    raw = make_raw(**changes)
    report = checked(raw)
    assert found(report) == [("mask-border", "2.mat", (2,))]
    assert f"IoU {iou} " in report.findings[0].detail
    assert checked(converted(raw).path).findings == []  # where there is no border any more


def test_a_border_half_a_pixel_off_is_no_finding(make_raw):
    assert checked(make_raw(tumorBorder=np.array([[6.5, 4.5, 14.5, 4.5, 14.5, 9.5, 6.5, 9.5]]))).findings == []


@pytest.mark.parametrize(("pid", "whose"), [("a", "of the same patient"), ("b", "of another patient, a; here b")])
def test_one_image_under_two_numbers(make_raw, pid, whose):
    raw = make_raw(folds=(1, 1, 1), image=first_image(), PID=codes(pid))
    for report in (checked(raw), checked(converted(raw).path)):
        assert found(report) == [("duplicate-image", "2.mat", (1, 2))] and report.errors == 1
        assert report.findings[0].detail == f"the same image as 1.mat, {whose}"


def test_the_same_values_in_another_shape_are_another_image(make_raw):
    mask = np.zeros((24, 20), np.uint8)
    mask[4:9, 6:14] = 1
    assert checked(make_raw(image=first_image().reshape(24, 20), tumorMask=mask)).findings == []


def test_a_patient_with_two_types(make_raw):
    raw = make_raw(label=[[1.0]])
    for report in (checked(raw), checked(converted(raw).path)):
        assert found(report) == [("patient-types", "patient b", (2, 3))] and report.warnings == 1
        assert report.findings[0].detail == "glioma: 3; meningioma: 2"


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ((1, 0, 2), [("fold-missing", "2.mat", (2,))]),
        ((1, 0, 0), [("fold-missing", "2.mat", (2,)), ("fold-missing", "3.mat", (3,))]),
        ((0, 0, 0), [("fold-missing", "cvind.mat", (1, 2, 3))]),
        ((1, 1, 5), [("patient-folds", "patient b", (2, 3))]),
    ],
)
def test_folds(make_raw, folds, expected):
    raw = make_raw(folds=folds)
    for report in (checked(raw), checked(converted(raw).path)):
        assert found(report) == expected and report.errors == 0


def test_slices_beyond_cvind_and_without_it(make_raw):
    raw = make_raw()
    (raw / "data" / "2.mat").unlink()  # a gap between numbers is nothing
    slice_file(raw / "data" / "19.mat", PID=codes("b"))
    assert found(checked(raw)) == [("fold-missing", "19.mat", (19,))]
    (raw / "cvind.mat").unlink()
    assert found(checked(raw)) == [("fold-missing", "cvind.mat", (1, 3, 19))]


def test_several_processes_find_the_same(make_raw):
    raw = make_raw(label=[[4.0]])
    report = check(raw, workers=2)
    assert found(report) == [("label", "2.mat", (2,))] and report == checked(raw)


# Converted datasets


def seal(folder, *, digest=True):
    """Make dataset.json that of the files as they are now, from its description alone."""
    info = json.loads((folder / "dataset.json").read_text())
    for name in info["files"]:
        content = (folder / name).read_bytes()
        info["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if digest:
        images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy")
        native = np.load(folder / "native_masks.npz")
        text = f"1 {info['size']} {info['mask_rule']}\n".encode()
        for row, line in enumerate((folder / "slices.csv").read_text().splitlines()[1:]):
            cells = line.split(",")
            text += "\t".join(cells[:10]).encode() + b"\n" + images[row].tobytes() + masks[row].tobytes()
            text += native[cells[0]].tobytes()
        info["digest"] = hashlib.sha256(text).hexdigest()
    (folder / "dataset.json").write_text(json.dumps(info))


def test_the_seal_of_these_tests_is_that_of_the_program(make_raw):
    folder = converted(make_raw()).path
    before = json.loads((folder / "dataset.json").read_text())
    seal(folder)
    assert json.loads((folder / "dataset.json").read_text()) == before


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "native_masks.npz", "slices.csv"])
def test_a_flipped_bit_in_any_file(make_raw, name):
    folder = converted(make_raw()).path
    content = bytearray((folder / name).read_bytes())
    # The last bit of the last row; of the archive a date that nobody reads, of the table a figure of the last SHA-256.
    position = {"native_masks.npz": content.find(b"2.npy") - 14, "slices.csv": -2}.get(name, -1)
    content[position] ^= 1
    (folder / name).write_bytes(content)
    assert found(checked(folder)) == [("changed-file", name, ())]


def test_rows_that_are_not_those_of_the_digest(make_raw):
    folder = converted(make_raw()).path
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, "digest": "0" * 64}))
    assert found(checked(folder)) == [("changed-content", "dataset.json", ())]


def test_mask_values_of_rows(make_raw):
    folder = converted(make_raw()).path
    masks = np.load(folder / "masks.npy", mmap_mode="r+")
    masks[1, 3, 3] = 3
    masks.flush()
    seal(folder)
    assert found(checked(folder)) == [("mask-values", "2.mat", (2,))]


@pytest.mark.parametrize("damage", ["pixel", "shape", "absent"])
def test_native_masks(make_raw, damage):
    folder = converted(make_raw()).path
    native = dict(np.load(folder / "native_masks.npz"))
    two = native.pop("2")
    if damage == "pixel":
        native["2"] = two.copy()
        native["2"][0, 0] |= 128
    elif damage == "shape":
        native["2"] = two[:-1]
    np.savez(folder / "native_masks.npz", **native)
    seal(folder, digest=damage != "absent")
    assert found(checked(folder)) == [("native-mask", "2.mat", (2,))]


def test_a_tumour_that_shrinking_lost(make_raw):
    raw = make_raw(tumorMask=TINY, tumorBorder=np.array([[6.0, 6.0]]))
    assert checked(raw).findings == []
    report = checked(converted(raw).path)
    assert found(report) == [("lost-tumor", "2.mat", (2,))]
    assert report.findings[0].detail == "1 pixels at its own size, none at 16x16"
    assert checked(build(raw, raw.parent / "e", size=16, mask_rule="any").path).findings == []


@pytest.mark.parametrize("missing", ["dataset.json", "masks.npy"])
def test_a_dataset_that_does_not_open(make_raw, missing):
    folder = converted(make_raw()).path
    (folder / missing).unlink()
    report = checked(folder)
    assert found(report) == [("damaged-dataset", "d", ())] and report.counts["slices"] == 0
    assert missing in report.findings[0].detail


def test_rows_alone_are_checked_without_reading_native_masks(make_raw):
    opened = converted(make_raw(tumorMask=EMPTY))
    (opened.path / "native_masks.npz").write_bytes(b"")
    assert found(check_rows(opened)) == [("empty-mask", "2.mat", (2,))]


def test_what_is_neither(tmp_path):
    with pytest.raises(UserError, match=r"holds no slice named"):
        checked(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        checked(tmp_path / "absent")
    with pytest.raises(UserError, match="--workers is 0"):
        check(tmp_path, workers=0)


# The report


def test_rules_are_told_apart_by_name():
    assert len({rule.code for rule in Rule}) == len(Rule) == 21


def test_the_report_as_text(make_raw):
    raw = make_raw(label=[[4.0]])
    for number in range(4, 9):
        slice_file(raw / "data" / f"{number}.mat", PID=codes("c"), tumorMask=EMPTY)
    report = checked(raw)
    assert report.verdict() == "Check: 1 error (label 1), 10 warnings (empty-mask 5, fold-missing 5)."
    lines = report.lines()
    assert lines[0] == f"{raw}: raw folder, 7 slices of 3 patients (0 meningioma, 7 glioma, 0 pituitary)"
    assert lines[1].endswith(
        "Here: slices -3,057, patients -230, meningioma -708, glioma -1,419, pituitary -930."
    ) and lines[1].startswith("NOTE: ")
    at = lines.index("warning      5  empty-mask: the mask marks no tumour")
    assert [line.strip() for line in lines[at + 1 : at + 6]] == [
        "4.mat: tumorMask has no pixel of 1",
        "5.mat: tumorMask has no pixel of 1",
        "6.mat: tumorMask has no pixel of 1",
        "and 2 more (--json FILE has all)",
        "convert: taken as it is",
    ]
    # Errors come first.
    assert lines.index("error        1  label: the label is none of 1, 2 and 3") < at
    assert lines[-1] == report.verdict()


def test_the_report_as_json(make_raw):
    content = json.loads(json.dumps(checked(make_raw(label=[[1.0]])).content()))
    assert content["counts"] == {"slices": 3, "patients": 2, "meningioma": 1, "glioma": 2, "pituitary": 0}
    assert (content["errors"], content["warnings"]) == (0, 1)
    assert content["published"] == PUBLISHED and content["difference"]["slices"] == 3 - 3064
    assert content["findings"] == [
        {
            "rule": "patient-types",
            "severity": "warning",
            "source": "patient b",
            "slices": [2, 3],
            "detail": "glioma: 3; meningioma: 2",
        }
    ]
    assert {r["rule"]: r["count"] for r in content["rules"] if r["count"]} == {"patient-types": 1}
    assert len(content["rules"]) == len(Rule)


def test_the_published_counts_add_up_and_are_recognised(make_raw):
    assert PUBLISHED["meningioma"] + PUBLISHED["glioma"] + PUBLISHED["pituitary"] == PUBLISHED["slices"] == 3064
    whole = replace(checked(make_raw()), counts=PUBLISHED)
    assert whole.lines()[1] == (
        "NOTE: the counts are those of the published dataset, doi:10.6084/m9.figshare.1512427.v5."
    )
