import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.helpers.images import refused
from unet_jax.imaging import read
from unet_jax.imaging.formats import nifti
from unet_jax.imaging.read import count_slices, read_image, silent_readers
from unet_jax.imaging.scan import ImageError, Reading

SHAPE = (16, 18, 20)
RAMP = np.arange(np.prod(SHAPE)).reshape(SHAPE)
"""No two sides alike, no symmetry."""
AFFINE = np.array([[0.5, 0, 0, -7], [0, 0.75, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]])


def nifti_file(path: Path, stored: np.ndarray, affine=AFFINE, kind=nib.Nifti1Image, **fields) -> Path:
    """A volume; each field is one of its header."""
    image = kind(stored, affine, dtype=stored.dtype)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patched(path: Path, **changes: bytes) -> Path:
    """A `.nii` with bytes changed at offsets: `at_112=b"..."`."""
    raw = bytearray(path.read_bytes())
    for name, value in changes.items():
        at = int(name.removeprefix("at_"))
        raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


def open_volume(path: Path, **reading) -> nifti.Volume:
    volume = read.open(path, Reading(**reading))
    assert isinstance(volume, nifti.Volume)
    return volume


class TestRead:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII"])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"])
    def test_every_type(self, tmp_path, dtype, suffix):
        values = ((RAMP - 100) * (3 if np.dtype(dtype).itemsize > 1 else 1)).astype(dtype)
        volume = open_volume(nifti_file(tmp_path / f"a{suffix}", values), axis=2)
        assert len(volume) == 20 and volume.read(0).shape == (16, 18)
        for i in (0, 7, 19):
            image = volume.read(i)
            assert image.dtype == values.dtype and image.flags.c_contiguous
            np.testing.assert_array_equal(image, values[:, :, i])

    def test_packed_and_plain_are_told_by_content(self, tmp_path):
        values = RAMP.astype(np.int16)
        plain = nifti_file(tmp_path / "plain.nii", values).read_bytes()
        (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
        (tmp_path / "plain.nii.gz").write_bytes(plain)
        for name in ("packed.nii", "plain.nii.gz"):
            assert count_slices(tmp_path / name) == 16
            np.testing.assert_array_equal(open_volume(tmp_path / name).read(3), values[3])

    @pytest.mark.parametrize("rest", [b"junk", bytes(9)])
    def test_what_lies_behind_what_is_packed_is_dropped(self, tmp_path, rest):
        values = RAMP.astype(np.int16)
        plain = nifti_file(tmp_path / "a.nii", values).read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain) + rest)
        np.testing.assert_array_equal(open_volume(tmp_path / "a.nii.gz").read(3), values[3])
        wrong = bytearray(gzip.compress(plain) + rest)
        wrong[-len(rest) - 5] ^= 1  # in the checksum
        (tmp_path / "a.nii.gz").write_bytes(wrong)
        refused(tmp_path / "a.nii.gz", "CRC check failed")

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_both_versions_in_big_endian(self, tmp_path, kind):
        values = RAMP.astype(">i2")
        image = kind(values, AFFINE, kind.header_class(endianness=">"))
        image.set_data_dtype(">i2")
        nib.save(image, tmp_path / "a.nii")
        np.testing.assert_array_equal(open_volume(tmp_path / "a.nii", axis=0).read(3), RAMP[3])

    @pytest.mark.parametrize(
        ("axis", "expected", "spacing"),
        [(0, RAMP[5], (0.75, 3)), (1, RAMP[:, 5], (0.5, 3)), (2, RAMP[:, :, 5], (0.5, 0.75))],
    )
    def test_slices_are_as_stored_along_each_axis(self, tmp_path, axis, expected, spacing):
        volume = open_volume(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)), axis=axis)
        assert len(volume) == SHAPE[axis] and volume.read(0).shape == expected.shape
        np.testing.assert_array_equal(volume.read(5), expected)
        assert volume.spacing == pytest.approx(spacing)

    @pytest.mark.parametrize(
        ("shape", "axis"),
        [
            ((5, 20, 20), 0),
            ((20, 5, 20), 1),
            ((20, 20, 5), 2),
            ((20, 20, 20), 2),
            ((16, 16, 20), 1),
            ((20, 20), 2),
            ((20, 20, 1, 1), 2),
        ],
    )
    def test_default_axis_has_the_fewest_slices(self, tmp_path, shape, axis):
        path = nifti_file(tmp_path / "a.nii", np.arange(np.prod(shape)).reshape(shape).astype(np.int16))
        assert open_volume(path).axis == axis
        assert count_slices(path) == len(open_volume(path))

    @pytest.mark.parametrize(
        ("slope", "inter", "expected"),
        [
            (2, -3, (RAMP * 2 - 3).astype(np.int32)),
            (0.5, 1.25, (RAMP * 0.5 + 1.25).astype(np.float32)),
            (0, 5, RAMP.astype(np.int16)),  # a slope of 0 says that there is none
        ],
    )
    def test_scaling(self, tmp_path, slope, inter, expected):
        path = patched(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)), at_112=struct.pack("<ff", slope, inter))
        image = open_volume(path).read(4)
        assert image.dtype == expected.dtype
        np.testing.assert_array_equal(image, expected[4])

    @pytest.mark.parametrize(
        ("unit", "spacing"), [(2, (0.75, 3)), (0, (0.75, 3)), (1, (750, 3000)), (3, (0.00075, 0.003)), (7, None)]
    )
    def test_spacing_is_in_millimetres(self, tmp_path, unit, spacing):
        volume = open_volume(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16), xyzt_units=unit))
        assert volume.spacing == (None if spacing is None else pytest.approx(spacing))

    def test_a_volume_is_no_slice(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", RAMP.astype(np.int16))
        with pytest.raises(ImageError, match="is a volume"):
            read_image(path)


class TestUpright:
    @pytest.mark.parametrize(
        "axes", ["RAS", "LPS", "LAS", "RPI", "ASR", "PSL", "SLA", "IRP", "ARS", "SAR", "PIR", "AIL", "RSA", "LIP"]
    )
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_however_it_is_stored(self, tmp_path, axes, axis):
        # A volume of known directions is stored along `axes`, with a tilt that leaves them the nearest ones.
        known = nib.Nifti1Image(RAMP.astype(np.int16), AFFINE)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        stored = known.as_reoriented(turn)
        tilt = np.eye(4)
        tilt[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
        path = nifti_file(tmp_path / "a.nii", np.asarray(stored.dataobj), tilt @ stored.affine)
        volume = open_volume(path, axis=axis, upright=True)
        direction = axes[axis]
        along = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[direction]
        for i in (0, 5):
            at = i if direction in "RAS" else SHAPE[along] - 1 - i
            # Of the known volume: superior, or else anterior, first; right, or else anterior, on the left.
            expected = np.take(RAMP, at, along)[::-1, ::-1].T
            np.testing.assert_array_equal(volume.read(i), expected)
            np.testing.assert_array_equal(volume.back(expected), np.take(np.asarray(stored.dataobj), i, axis))

    @pytest.mark.parametrize(
        "changes",
        [
            {"at_252": bytes(4)},  # neither of the two codes
            {"at_280": bytes(48)},  # an sform of zeros under a code that says otherwise
            {"at_280": struct.pack("<12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 3, 0)},  # two axes that are one
            {"at_280": struct.pack("<f", np.nan)},
        ],
    )
    def test_a_file_that_does_not_tell_is_taken_as_stored(self, tmp_path, changes):
        path = patched(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)), **changes)
        assert open_volume(path, axis=2).warnings == []
        volume = open_volume(path, axis=2, upright=True)
        assert volume.warnings == ["does not tell how it lies, so its slices were predicted as stored"]
        np.testing.assert_array_equal(volume.read(5), RAMP[:, :, 5])
        np.testing.assert_array_equal(volume.back(volume.read(5)), RAMP[:, :, 5])

    def test_the_qform_alone_tells(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16), sform_code=0, qform_code=1)
        volume = open_volume(path, axis=2, upright=True)
        assert volume.warnings == []
        np.testing.assert_array_equal(volume.read(5), RAMP[::-1, ::-1, 5].T)


class TestBackground:
    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    def test_what_is_not_a_number(self, tmp_path, dtype):
        values = RAMP.astype(dtype)
        values[:, :, :2] = values[3:5, 6, 9] = np.nan
        volume = open_volume(nifti_file(tmp_path / "a.nii", values), axis=2)
        assert volume.warnings == ["has 578 of its 5760 voxels not a number (NaN), taken for background"]  # 2 * 288 + 2
        for i in (0, 9, 10):
            image = volume.read(i)
            assert image.dtype == dtype
            np.testing.assert_array_equal(np.ma.getmaskarray(image), np.isnan(values[:, :, i]))
            np.testing.assert_array_equal(np.ma.filled(image, 0), np.nan_to_num(values[:, :, i]))
        assert not isinstance(volume.read(10), np.ma.MaskedArray)

    def test_turned_and_scaled_it_stays_where_it_is(self, tmp_path):
        values = RAMP.astype(np.float32)
        values[3, 6, 9] = np.nan
        path = patched(nifti_file(tmp_path / "a.nii", values), at_112=struct.pack("<ff", 2, -3))
        image = open_volume(path, axis=2, upright=True).read(9)
        np.testing.assert_array_equal(np.argwhere(image.mask), [[17 - 6, 15 - 3]])
        np.testing.assert_array_equal(image.filled(0), np.nan_to_num(values[::-1, ::-1, 9].T * 2 - 3))

    @pytest.mark.parametrize("dtype", ["i2", "f4"])
    def test_one_value_everywhere(self, tmp_path, dtype):
        values = np.full(SHAPE, 7).astype(dtype)
        path = patched(nifti_file(tmp_path / "a.nii", values), at_112=struct.pack("<ff", 2, 1))
        assert open_volume(path, axis=2).warnings == ["has the same value everywhere (15)"]
        values[0, 0, 0] = 6
        assert open_volume(nifti_file(tmp_path / "b.nii", values), axis=2).warnings == []


class TestPixels:
    @pytest.mark.parametrize(("axis", "aspect"), [(0, 0.75 / 3), (1, 0.5 / 3), (2, 0.5 / 0.75)])
    def test_their_height_over_their_width(self, tmp_path, axis, aspect):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16))
        assert open_volume(path, axis=axis).aspect == pytest.approx(aspect)
        turned = open_volume(path, axis=axis, upright=True)
        assert turned.aspect == pytest.approx(1 / aspect)  # of the upright slices, whose rows are the columns stored
        assert turned.stored_aspect == pytest.approx(aspect)
        assert turned.spacing == open_volume(path, axis=axis).spacing

    @pytest.mark.parametrize(
        ("axis", "zooms", "warning"),
        [
            (0, (0.5, 0.5, 6), "was sliced along axis 0, across slices 12 times as thick as their pixels; --axis 2 "),
            (1, (0.5, 0.5, 6), "was sliced along axis 1, across slices 12 times as thick as their pixels; --axis 2 "),
            (2, (0.5, 0.5, 6), None),
            (2, (4, 1, 1), "was sliced along axis 2, across slices 4 times as thick as their pixels; --axis 0 "),
            (2, (3, 1, 1), None),
            (2, (1, 3.1, 1), "was sliced along axis 2, across slices 3.1 times as thick as their pixels; --axis 1 "),
        ],
    )
    def test_slices_across_thick_ones(self, tmp_path, axis, zooms, warning):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16), np.diag([*zooms, 1]))
        warnings = open_volume(path, axis=axis).warnings
        assert warnings == ([] if warning is None else [warning + "takes those"])

    def test_a_picture_has_no_other_axis(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii", RAMP[0].astype(np.int16), np.diag([0.5, 4, 1, 1]))
        volume = open_volume(path)
        assert volume.warnings == [] and volume.aspect == 0.125

    def test_sides_that_no_scanner_has(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16), np.diag([0.001, 1, 1, 1]))
        volume = open_volume(path, axis=2)
        assert volume.aspect == 1
        assert volume.warnings == ["says that its pixels are 0.001 times as high as wide; taken for square"]


def written(volume: nifti.Volume, path: Path, values: np.ndarray | None = None, kind="mask") -> nib.Nifti1Image:
    """Have the volume write values along its axis, by default its own slices."""
    n = len(volume)
    planes = [volume.back(volume.read(i)) if values is None else np.take(values, i, volume.axis) for i in range(n)]
    volume.write(kind, path, planes)
    return nib.load(path)


class TestWrite:
    @pytest.mark.parametrize(("what", "dtype"), [("mask", np.uint8), ("probs", np.float32)])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("shape", [SHAPE, (16, 18), (*SHAPE, 1), (16, 18, 1)])
    def test_shape_and_affine_are_the_volume_s(self, tmp_path, shape, kind, what, dtype):
        oblique = AFFINE.copy()
        oblique[:3, :3] = AFFINE[:3, :3] @ np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
        size = int(np.prod(shape))
        path = nifti_file(tmp_path / "a.nii", np.arange(size).reshape(shape).astype(np.int16), oblique, kind)
        original, values = nib.load(path), np.arange(size).reshape(*shape[:2], -1) % 2
        image = written(open_volume(path), tmp_path / "b.nii.gz", values, what)
        assert type(image) is kind and image.shape == shape and image.get_data_dtype() == dtype
        np.testing.assert_array_equal(image.affine, original.affine)
        assert image.header.get_zooms() == original.header.get_zooms()
        for name in ("sform_code", "qform_code", "xyzt_units"):
            assert image.header[name] == original.header[name]
        np.testing.assert_array_equal(np.asarray(image.dataobj).reshape(values.shape), values)

    def test_only_the_qform(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16), sform_code=0, qform_code=1)
        image = written(open_volume(path), tmp_path / "b.nii.gz")
        np.testing.assert_array_equal(image.affine, nib.load(path).affine)
        assert int(image.header["qform_code"]) == 1 and int(image.header["sform_code"]) == 0

    def test_scaling_does_not_apply_to_the_mask(self, tmp_path):
        path = patched(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)), at_112=struct.pack("<ff", 2, 100))
        values = RAMP % 2
        np.testing.assert_array_equal(written(open_volume(path), tmp_path / "b.nii.gz", values).get_fdata(), values)

    def test_whose_volume_it_is_is_not_written(self, tmp_path):
        image = nib.Nifti1Image(RAMP.astype(np.int16), AFFINE)
        image.header["descrip"] = image.header["aux_file"] = image.header["db_name"] = b"Jane Roe"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Roe"))
        nib.save(image, tmp_path / "a.nii")
        assert (tmp_path / "a.nii").read_bytes().count(b"Jane Roe") == 4
        written(open_volume(tmp_path / "a.nii"), tmp_path / "b.nii.gz")
        assert b"Jane" not in gzip.decompress((tmp_path / "b.nii.gz").read_bytes())

    def test_the_same_bytes_each_time(self, tmp_path):
        volume = open_volume(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)))
        for name in ("b.nii.gz", "c.nii.gz"):
            written(volume, tmp_path / name)
        assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "b.nii.gz", "c.nii.gz"]


class TestRefused:
    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            (np.zeros((16, 16, 4, 2), np.int16), "has shape (16, 16, 4, 2); expected one volume"),
            (np.zeros(300, np.int16), "has shape (300,); expected one volume"),
            (np.zeros((15, 16, 3), np.int16), "is 15x16 pixels; expected sides of 16"),
            (np.zeros((5, 4, 300), np.int16), "is 5x300 pixels"),
            (np.zeros((16, 16, 3), np.complex64), "holds complex64"),
            (np.zeros((16, 16, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds ["),
            (np.full(SHAPE, np.nan), "has no voxel that is a number"),
            (np.where(RAMP == 7, -np.inf, RAMP), "infinite"),
            (np.where(RAMP == 7, 1e31, RAMP), "beyond 1e+30"),
        ],
    )
    def test_what_is_no_volume(self, tmp_path, values, reason):
        refused(nifti_file(tmp_path / "a.nii", values), reason)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("content", [b"", b"hello", bytes(400), b"\x1f\x8b" + bytes(200)])
    def test_no_nifti(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "")

    def test_absent(self, tmp_path):
        refused(tmp_path / "a.nii", "No such file")
        assert count_slices(tmp_path / "a.nii") == 1

    def test_a_wrong_checksum(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", RAMP.astype(np.int16))
        raw = bytearray(path.read_bytes())
        raw[-6] ^= 1
        path.write_bytes(raw)
        refused(path, "CRC check failed")

    def test_a_tail_that_does_not_end(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16))
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(100)))
        assert len(open_volume(tmp_path / "a.nii.gz")) == 16
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(2**21)))
        refused(tmp_path / "a.nii.gz", "goes on for 1048576 bytes and more")

    def test_a_header_that_promises_too_much_costs_no_memory(self, tmp_path):
        small = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16))
        # 8192 x 8192 x 20 voxels of 16 bits fill 2.5 GiB, and 8192 x 8192 x 3 would be allowed if they were there.
        refused(patched(small, at_42=struct.pack("<hh", 8192, 8192)), "takes 2684354560 bytes; expected at most")
        refused(patched(small, at_46=struct.pack("<h", 3)), "is too short for the 402653184 bytes")
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(small.read_bytes()))
        refused(tmp_path / "a.nii.gz", "is too short for the 402653184 bytes")

    def test_extensions_that_would_fill_the_memory(self, tmp_path):
        start = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)).read_bytes()[:348]
        start = start[:108] + struct.pack("<f", 2e9) + start[112:]
        bomb = gzip.compress(start + b"\1\0\0\0" + struct.pack("<ii", 1999999488, 6) + bytes(10**6))
        (tmp_path / "a.nii.gz").write_bytes(bomb)
        refused(tmp_path / "a.nii.gz", "has a header of 2e+09 bytes")

    def test_size_and_scaled_values_are_bounded(self, tmp_path, monkeypatch):
        path = nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16))
        refused(patched(path, at_112=struct.pack("<ff", 1e30, 0)), "beyond 1e+30")
        monkeypatch.setattr(nifti, "MAX_BYTES", 1000)
        refused(path, "takes 11520 bytes; expected at most 1000")

    def test_odd_headers_are_silent(self, tmp_path, capfd):
        path = patched(nifti_file(tmp_path / "a.nii", RAMP.astype(np.int16)), at_80=struct.pack("<f", -0.5))
        with silent_readers():
            assert open_volume(path).spacing == pytest.approx((0.75, 3))
        assert capfd.readouterr() == ("", "")
