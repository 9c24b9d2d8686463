"""NRRD and MetaImage volumes, as SimpleITK writes them, and headers of other programs."""

import gzip
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.images import refused
from unet_jax.imaging import read
from unet_jax.imaging.formats.nifti import Volume
from unet_jax.imaging.read import count_slices
from unet_jax.imaging.scan import NO_TURN, Kind, Reading, Turn

SIDES = (18, 20, 16)
"""Along x, y and z; NumPy has them in the order z, y, x, and x changes fastest."""
RAMP = np.arange(np.prod(SIDES)).reshape(SIDES, order="F")
SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""x runs to the back, y to the feet and z to the right."""
ANGLE = np.deg2rad(20)
OBLIQUE = (np.cos(ANGLE), -np.sin(ANGLE), 0.0, np.sin(ANGLE), np.cos(ANGLE), 0.0, 0.0, 0.0, 1.0)
SUFFIXES = (".nrrd", ".mha")


def image_of(values: np.ndarray, directions: tuple[float, ...] | None = None) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing((0.5, 0.75, 3.0)[: values.ndim])
    image.SetOrigin((-7.0, 8.0, 9.0)[: values.ndim])
    if directions:
        image.SetDirection(directions)
    return image


def written(path: Path, image: sitk.Image, packed: bool = False) -> Path:
    sitk.WriteImage(image, str(path), packed)
    return path


def opened(path: Path, **reading) -> Volume:
    volume = read.open(path, Reading(**reading))
    assert isinstance(volume, Volume)
    return volume


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type(tmp_path, dtype, suffix, packed):
    values = (RAMP % 120).astype(dtype)
    path = written(tmp_path / f"a{suffix}", image_of(values), packed)
    assert count_slices(path, Reading(axis=2)) == 16
    volume = opened(path, axis=2, upright=False)
    assert len(volume) == 16 and volume.spacing == (0.5, 0.75)
    for i in (0, 7, 15):
        assert volume.read(i).dtype == np.dtype(dtype)
        np.testing.assert_array_equal(volume.read(i), values[:, :, i])


@pytest.mark.parametrize("axis", [0, 1, 2, None])
@pytest.mark.parametrize("directions", [None, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_read_as_the_same_volume_in_nifti(tmp_path, suffix, directions, axis):
    image = image_of(RAMP.astype(np.int16), directions)
    nifti, other = (opened(written(tmp_path / f"a{end}", image), axis=axis, upright=True) for end in (".nii", suffix))
    assert (len(other), other.axis, other.turn) == (len(nifti), nifti.axis, nifti.turn)
    assert other.spacing == pytest.approx(nifti.spacing, rel=1e-6)
    assert other.aspect == pytest.approx(nifti.aspect, rel=1e-6)
    assert other.warnings == nifti.warnings
    for i in (0, len(nifti) - 1):
        np.testing.assert_array_equal(other.read(i), nifti.read(i))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mask_is_nifti_of_the_same_place(tmp_path, suffix):
    image = image_of(RAMP.astype(np.float32), OBLIQUE)
    volume = opened(written(tmp_path / f"a{suffix}", image), axis=2)
    masks = [np.zeros(SIDES[:2], bool) for _ in range(SIDES[2])]
    masks[3][5, 6] = True
    kind: Kind = "mask"
    volume.write(kind, tmp_path / "m.nii.gz", masks)
    mask = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    assert mask.GetSize() == SIDES and np.argwhere(sitk.GetArrayFromImage(mask)).tolist() == [[3, 6, 5]]
    for of in (sitk.Image.GetOrigin, sitk.Image.GetSpacing, sitk.Image.GetDirection):
        np.testing.assert_allclose(of(mask), of(image), atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_of_two_axes_stands_as_programs_show_it(tmp_path, suffix):
    pixels = RAMP[:, :, 0].astype(np.uint8)  # x and y
    path = written(tmp_path / f"a{suffix}", image_of(pixels)).rename(tmp_path / f"a{suffix.upper()}")
    volume = opened(path, upright=True)
    assert len(volume) == 1 and volume.spacing == (0.5, 0.75) and not volume.warnings
    np.testing.assert_array_equal(volume.read(0), pixels.T)
    volume.write("mask", tmp_path / "m.nii.gz", [np.zeros(SIDES[:2], bool)])
    assert nib.load(tmp_path / "m.nii.gz").shape == (18, 20, 1)


def nrrd(path: Path, *fields: str, voxels: bytes = RAMP.astype("<i2").tobytes("F"), encoding: str = "raw") -> Path:
    lines = ["NRRD0005", "# comment: of no use", "type: int16", "dimension: 3", *fields, "sizes: 18 20 16"]
    if not any(field.startswith("endian") for field in fields):
        lines.append("endian: little")
    path.write_bytes("\n".join([*lines, f"encoding: {encoding}", "", ""]).encode() + voxels)
    return path


def meta(path: Path, *fields: str, voxels: bytes = RAMP.astype("<i2").tobytes("F"), last: str = "LOCAL") -> Path:
    lines = ["NDims = 3", "BinaryData = True", *fields, "DimSize = 18 20 16", "ElementType = MET_SHORT"]
    path.write_bytes("\n".join([*lines, f"ElementDataFile = {last}", ""]).encode() + voxels)
    return path


DIRECTIONS = "space directions: (0.5,0,0) (0,0.75,0) (0,0,3)"
MATRIX = "TransformMatrix = 1 0 0 0 1 0 0 0 1"


@pytest.mark.parametrize(
    ("space", "turn"),
    [
        # Rows run along x and columns along y as stored; upright x runs to the left and y to the back.
        ("left-posterior-superior", Turn(True, (1, 1))),
        ("LPS", Turn(True, (1, 1))),
        ("RAS", Turn(True, (-1, -1))),
        ("Left-Anterior-Superior", Turn(True, (-1, 1))),
    ],
)
def test_spaces_of_a_patient(tmp_path, space, turn):
    volume = opened(nrrd(tmp_path / "a.nrrd", f"space: {space}", DIRECTIONS), axis=2, upright=True)
    assert (volume.turn, volume.spacing, volume.warnings) == (turn, (0.5, 0.75), [])


@pytest.mark.parametrize(
    "fields", [("space: scanner-xyz", DIRECTIONS), ("space dimension: 3", DIRECTIONS), ("spacings: 0.5 0.75 3",)]
)
def test_other_spaces_do_not_tell_how_a_slice_lies(tmp_path, fields):
    volume = opened(nrrd(tmp_path / "a.nrrd", *fields), axis=2, upright=True)
    assert (volume.turn, volume.spacing) == (NO_TURN, (0.5, 0.75))
    assert any("does not tell how it lies" in warning for warning in volume.warnings)
    np.testing.assert_array_equal(volume.read(4), RAMP[:, :, 4])


@pytest.mark.parametrize(
    ("write", "fields"),
    [
        (nrrd, ("space: scanner-xyz", "space directions: (-0.5,0,0) (0,-0.75,0) (0,0,3)", "space origin: (1,2,3)")),
        (nrrd, ("space dimension: 3", "space directions: (0,-0.5,0) (0.75,0,0) (0,0,3)")),
        (nrrd, ("spacings: 0.5 0.75 3", "axis mins: 5 6 7")),
        (nrrd, ("spacings: -0.5 0.75 3",)),
        (meta, ("Offset = 1 2 3", "ElementSpacing = 0.5 0.75 3", "AnatomicalOrientation = RAS")),
    ],
)
def test_a_mask_lies_where_programs_see_a_volume_that_does_not_tell(tmp_path, write, fields):
    path = write(tmp_path / f"a{'.nrrd' if write is nrrd else '.mha'}", *fields)
    volume = opened(path, axis=2, upright=True)
    assert volume.turn == NO_TURN and volume.spacing == (0.5, 0.75)
    volume.write("mask", tmp_path / "m.nii.gz", [np.zeros(SIDES[:2], bool)] * 16)
    mask, image = sitk.ReadImage(str(tmp_path / "m.nii.gz")), sitk.ReadImage(str(path))
    corners = [(0, 0, 0), (17, 0, 0), (0, 19, 0), (0, 0, 15)]
    for corner in corners:
        np.testing.assert_allclose(
            mask.TransformIndexToPhysicalPoint(corner), image.TransformIndexToPhysicalPoint(corner), atol=1e-4
        )


@pytest.mark.parametrize(
    ("write", "fields"),
    [
        (nrrd, ()),
        (nrrd, ("space: RAS", 'space units: "um" "um" "um"', DIRECTIONS)),
        (nrrd, ('units: "cm" "cm" "cm"', "spacings: 1 1 1")),
        (meta, (MATRIX,)),
    ],
)
def test_sides_that_are_not_told_in_millimetres_are_not_known(tmp_path, write, fields):
    path = write(tmp_path / f"a{'.nrrd' if write is nrrd else '.mha'}", *fields)
    assert opened(path, axis=2).spacing is None


@pytest.mark.parametrize(
    ("write", "suffix", "fields"),
    [
        (nrrd, ".nrrd", ("space: RAS", 'space units: "mm" "mm" "mm"', DIRECTIONS)),
        (meta, ".mha", ("ElementSpacing = 0.5 0.75 3", "CenterOfRotation = 0 0 0")),
        (meta, ".mha", ("ElementSize = 0.5 0.75 3", "Modality: MET_MOD_MR")),
    ],
)
def test_sides_in_millimetres(tmp_path, write, suffix, fields):
    assert opened(write(tmp_path / f"a{suffix}", *fields), axis=2).spacing == (0.5, 0.75)


@pytest.mark.parametrize("space", ["(0,0,0) (0,0.75,0) (0,0,3)", "(0.5,0,0) (0.5,0,0) (0,0,3)"])
def test_directions_that_are_none_do_not_tell_how_a_slice_lies(tmp_path, space):
    path = nrrd(tmp_path / "a.nrrd", "space: RAS", f"space directions: {space}")
    volume = opened(path, axis=2, upright=True)
    assert volume.turn == NO_TURN and any("does not tell" in warning for warning in volume.warnings)


@pytest.mark.parametrize(
    ("write", "suffix", "fields"),
    [
        (nrrd, ".nrrd", ("endian: big",)),
        (meta, ".mha", ("BinaryDataByteOrderMSB = True",)),
        (meta, ".mha", ("ElementByteOrderMSB = True",)),
    ],
)
def test_big_endian(tmp_path, write, suffix, fields):
    path = write(tmp_path / f"a{suffix}", *fields, voxels=RAMP.astype(">i2").tobytes("F"))
    np.testing.assert_array_equal(opened(path, axis=2).read(5), RAMP[:, :, 5])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), RAMP.T)


@pytest.mark.parametrize(("write", "skip"), [(nrrd, "byte skip: -1"), (meta, "HeaderSize = -1")])
def test_voxels_at_the_end_of_the_file(tmp_path, write, skip):
    path = write(tmp_path / f"a{'.nrrd' if write is nrrd else '.mha'}", skip)
    header, voxels = path.read_bytes()[:-11520], path.read_bytes()[-11520:]
    path.write_bytes(header + b"something else" + voxels)
    np.testing.assert_array_equal(opened(path, axis=2).read(5), RAMP[:, :, 5])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), RAMP.T)


@pytest.mark.parametrize(
    ("sizes", "kinds", "directions"),
    [
        ("1 18 20 16", "list domain domain domain", "none (0.5,0,0) (0,0.75,0) (0,0,3)"),
        ("1 18 20 16", "vector domain domain domain", "none (0.5,0,0) (0,0.75,0) (0,0,3)"),
        ("18 20 16 1", "domain domain domain list", "(0.5,0,0) (0,0.75,0) (0,0,3) none"),
    ],
)
def test_a_list_of_one(tmp_path, sizes, kinds, directions):
    fields = ["space: LPS", f"sizes: {sizes}", f"kinds: {kinds}", f"space directions: {directions}"]
    path = nrrd(tmp_path / "a.nrrd", *fields, 'space units: "mm" "mm" "mm"')
    lines = path.read_bytes().replace(b"dimension: 3", b"dimension: 4")
    path.write_bytes(lines.replace(b"sizes: 18 20 16\nendian", b"endian"))
    volume = opened(path, axis=2, upright=True)
    assert (volume.turn, volume.spacing, volume.warnings) == (Turn(True, (1, 1)), (0.5, 0.75), [])
    np.testing.assert_array_equal(volume.read(5), RAMP[:, :, 5].T)


def test_sides_that_are_no_lengths_are_named(tmp_path):
    path = meta(tmp_path / "a.mha", MATRIX, "ElementSpacing = 0,5 0,75 3,0")
    volume = opened(path, axis=2, upright=True)
    assert volume.spacing is None and volume.aspect == 1 and volume.turn == Turn(True, (1, 1))
    assert volume.warnings == ["has voxels of 0.0 x 0.0 x 0.0, which are no lengths"]


@pytest.mark.parametrize("long", ["foo: ", "space: ", "kinds: ", "type: ", "nothing", "a note: it says: a:="])
def test_lines_that_simpleitk_has_no_room_for(tmp_path, long):
    # They end the process.
    refused(nrrd(tmp_path / "a.nrrd", long + "q" * 2000), "has a header with a line of 2")


@pytest.mark.parametrize("axes", [1, 6, 12, 16])
def test_axes_that_simpleitk_has_no_room_for(tmp_path, axes):
    path = nrrd(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"dimension: 3", b"dimension: %d" % axes))
    refused(path, f"has {axes} axes; expected one volume of three")


@pytest.mark.parametrize("long", ["content: ", "# ", "note:=", "a note:=it says: "])
def test_long_lines_of_text(tmp_path, long):
    path = nrrd(tmp_path / "a.nrrd", long + "q" * 50_000)
    np.testing.assert_array_equal(opened(path, axis=2).read(5), RAMP[:, :, 5])


def test_comments_may_be_many(tmp_path):
    path = meta(tmp_path / "a.mha", "Comment = a", "Comment = b")
    np.testing.assert_array_equal(opened(path, axis=2).read(5), RAMP[:, :, 5])


def test_lines_may_end_as_on_windows(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", "space: RAS", DIRECTIONS, voxels=b"")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + RAMP.astype("<i2").tobytes("F"))
    np.testing.assert_array_equal(opened(path, axis=2).read(5), RAMP[:, :, 5])


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_packed_voxels_of_a_length_that_is_not_told(tmp_path, pack):
    # SimpleITK 2.5.7 gives what happens to be in memory for these, and no error.
    path = meta(tmp_path / "a.mha", "CompressedData = True", voxels=pack(RAMP.astype("<i2").tobytes("F")))
    np.testing.assert_array_equal(opened(path, axis=2).read(5), RAMP[:, :, 5])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nan_is_background(tmp_path, suffix):
    values = RAMP.astype(np.float32)
    values[:, :, 2] = np.nan
    volume = opened(written(tmp_path / f"a{suffix}", image_of(values)), axis=2)
    assert np.ma.getmaskarray(volume.read(2)).all()
    assert any("voxels not a number" in warning for warning in volume.warnings)


@pytest.mark.parametrize(
    ("suffix", "packed", "half", "less_by_1"),
    [
        (".nrrd", False, "is too short for the 11520 bytes", "ends after 11519 of its 11520 bytes"),
        (".mha", False, "is too short for the 11520 bytes", "ends after 11519 of its 11520 bytes"),
        (".nrrd", True, "Compressed file ended", "Compressed file ended"),
        (".mha", True, "ends, or is damaged, within its packed voxels", "11520 of 11520 bytes are there"),
    ],
)
def test_a_file_that_is_cut_is_refused(tmp_path, suffix, packed, half, less_by_1):
    path = written(tmp_path / f"a{suffix}", image_of(RAMP.astype(np.int16)), packed)
    whole, start = path.read_bytes(), "has a header without an end"
    for size, said in {0: start, 9: start, 100: start, len(whole) // 2: half, len(whole) - 1: less_by_1}.items():
        path.write_bytes(whole[:size])
        refused(path, said)


@pytest.mark.parametrize(("suffix", "place", "said"), [(".nrrd", -5, "CRC check failed"), (".mha", -1, "data check")])
def test_packed_voxels_that_are_damaged_are_refused(tmp_path, suffix, place, said):
    path = written(tmp_path / f"a{suffix}", image_of(RAMP.astype(np.int16)), True)
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    refused(path, said)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("data file: b.raw",), "has its voxels in another file, b.raw; write both to one .nrrd"),
        (("DataFile: b.raw",), "another file"),
        (("byte skip: 4",), "has 4 bytes between its header and its voxels"),
        (("line skip: 1",), "has 1 lines between its header and its voxels"),
        (("kinds: vector domain domain",), "holds voxels of 18 values (vector of 16-bit signed integer)"),
        (("space directions: none (1,0,0)",), "has a header that SimpleITK cannot read: "),
        (("oddities: 3",), 'cannot read: failed to parse "oddities" as field identifier'),
    ],
)
def test_nrrd_that_is_no_such_volume(tmp_path, fields, message):
    (tmp_path / "b.raw").write_bytes(RAMP.astype("<i2").tobytes("F"))
    refused(nrrd(tmp_path / "a.nrrd", *fields), message)


@pytest.mark.parametrize("encoding", ["ascii", "hex", "bzip2"])
def test_encodings_that_are_not_read(tmp_path, encoding):
    refused(nrrd(tmp_path / "a.nrrd", encoding=encoding), f"has voxels of encoding {encoding}; expected raw or gzip")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("BinaryData = False",), "gives BinaryData twice"),
        (("HeaderSize = 4",), "has 4 bytes between its header and its voxels"),
        (("ElementNumberOfChannels = 2",), "holds voxels of 2 values (vector of 16-bit signed integer)"),
        (("ElementSpacing = 0.5 0.75",), "has ElementSpacing = 0.5 0.75; expected 3 numbers, for 3 axes"),
        (("Offset = 1 2 3", "Offset = 3 2 1"), "gives Offset twice"),
        (("ElementByteOrderMSB = False", "ElementByteOrderMSB = True"), "gives ElementByteOrderMSB twice"),
        (("HeaderSize = 0", "HeaderSize = 4"), "gives HeaderSize twice"),
        (("Comment = \0",), "has a header with bytes of zero"),
    ],
)
def test_metaimage_that_is_no_such_volume(tmp_path, fields, message):
    refused(meta(tmp_path / "a.mha", *fields), message)


def test_metaimage_of_other_files(tmp_path):
    (tmp_path / "b.raw").write_bytes(RAMP.astype("<i2").tobytes("F"))
    refused(meta(tmp_path / "a.mha", last="b.raw"), "has its voxels in another file, b.raw; write both to one .mha")
    path = meta(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(b"BinaryData = True", b"BinaryData = False"))
    refused(path, "has voxels that are text")
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", b"NDims = 999"))
    refused(path, "has 999 axes")
    path.write_bytes(path.read_bytes().replace(b"NDims = 999", b"NDims = 4"))
    refused(path, "has DimSize = 18 20 16; expected 4 numbers, for 4 axes")
    path.write_bytes(path.read_bytes().replace(b"NDims = 4\n", b"").replace(b"ElementType", b"NDims = 3\nElementType"))
    refused(path, "gives DimSize before NDims, the number of axes")
    meta(path, "ElementSpacing = a b c")
    path.write_bytes(path.read_bytes().replace(b"MET_SHORT", b"MET_SHORE"))
    refused(path, "has a header that SimpleITK cannot read: ")
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(path, "has a header without an end")


@pytest.mark.skipif(os.name == "nt", reason="paths are no bytes there")
def test_a_path_that_is_not_utf8(tmp_path):
    # SimpleITK 2.5.7 ends the process.
    path = Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"\xff.mha"))
    refused(meta(path), "has a path that is not UTF-8")
