"""DICOM files as scanners and archives write them, and what is refused of them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from tests.helpers import images
from tests.helpers.images import BIG_ENDIAN, EXPLICIT, RAMP, dicom_file, refused
from unet_jax.imaging import read
from unet_jax.imaging.find import find_images
from unet_jax.imaging.formats import dicom
from unet_jax.imaging.read import read_image, silent_readers
from unet_jax.imaging.scan import Reading, Refused

IMPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
JPEG, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, VIDEO, HTJ2K = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 70, 80, 90, 100, 201))


def same(path: Path, expected: np.ndarray) -> None:
    with silent_readers():
        images.same(path, expected)


class TestPixels:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
    def test_every_type(self, tmp_path, dtype, syntax):
        image = ((RAMP - 100) * (190 if np.dtype(dtype).itemsize > 1 else 1)).astype(dtype)
        same(dicom_file(tmp_path / "a.dcm", image, syntax), image)

    def test_odd_number_of_bytes_is_padded(self, tmp_path):
        image = np.arange(17 * 19).reshape(17, 19).astype(np.uint8)
        same(dicom_file(tmp_path / "a.dcm", image), image)

    def test_bits_beside_the_value_are_dropped_and_its_sign_is_extended(self, tmp_path):
        # Twelve bits, and an overlay in the four above.
        overlay = (RAMP % 16 << 12).astype(np.uint16)
        unsigned = (RAMP * 12).astype(np.uint16)
        same(dicom_file(tmp_path / "a.dcm", unsigned | overlay, BitsStored=12, HighBit=11), unsigned)
        signed = (RAMP * 12 - 2048).astype(np.int16)
        stored = (signed & 0xFFF).astype(np.int16) | overlay.view(np.int16)
        same(dicom_file(tmp_path / "b.dcm", stored, BitsStored=12, HighBit=11), signed)

    @pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (8, 15)])
    def test_bits_at_the_left_or_in_between(self, tmp_path, bits, high):
        up = high + 1 - bits
        beside = (RAMP % 2**up).astype(np.uint16) | (RAMP % 16 << high + 1).astype(np.uint16)
        unsigned = (RAMP * 12 % 2**bits).astype(np.uint16)
        more = {"BitsStored": bits, "HighBit": high}
        same(dicom_file(tmp_path / "a.dcm", unsigned << up | beside, **more), unsigned)
        signed = (unsigned.astype(int) - 2 ** (bits - 1)).astype(np.int16)
        stored = ((signed.view(np.uint16) & 2**bits - 1) << up | beside).view(np.int16)
        same(dicom_file(tmp_path / "b.dcm", stored, **more), signed)
        white = dicom_file(tmp_path / "c.dcm", unsigned << up, PhotometricInterpretation="MONOCHROME1", **more)
        same(white, 2**bits - 1 - unsigned)

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    @pytest.mark.parametrize(("rest", "told"), [(bytes(1), 0), (bytes(2048), 0), (b"abcd", 4), (bytes(99) + b"a", 100)])
    def test_what_lies_behind_the_pixels_is_dropped(self, tmp_path, dtype, rest, told):
        image = np.arange(17 * 19).reshape(17, 19).astype(dtype)
        path = dicom_file(tmp_path / "a.dcm", image, PixelData=image.tobytes() + rest)
        same(path, image)
        told += bool(told and len(rest + image.tobytes()) % 2)
        expected = [f"has {told} bytes behind its pixels, which were left out"] if told else []
        assert read.open(path).warnings == expected

    @pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
    @pytest.mark.parametrize("planar", [0, 1])
    def test_three_equal_channels_are_grey(self, tmp_path, kind, planar):
        grey = (RAMP % 256).astype(np.uint8)
        channels = [grey, grey, grey] if kind == "RGB" else [grey, np.full_like(grey, 128), np.full_like(grey, 128)]
        more = {"SamplesPerPixel": 3, "PhotometricInterpretation": kind, "PlanarConfiguration": planar}

        def file():
            return dicom_file(
                tmp_path / "a.dcm", grey, PixelData=np.stack(channels, axis=0 if planar else -1).tobytes(), **more
            )

        same(file(), grey)
        channels[1] = channels[1].copy()
        channels[1][3, 5] ^= 64
        refused(file(), f"is in colour ({kind}); expected a grey slice")

    @pytest.mark.parametrize("name", ["a.dcm", "a.DICOM", "IM0001", "1.2.840.113619.2.5"])
    def test_names(self, tmp_path, name):
        image = RAMP.astype(np.uint16)
        same(dicom_file(tmp_path / name, image), image)
        assert find_images(tmp_path / name) == [Path(name)]

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN])
    def test_without_a_preamble(self, tmp_path, syntax):
        image = RAMP.astype(np.uint16)
        whole = dicom_file(tmp_path / "a.dcm", image, syntax).read_bytes()
        (tmp_path / "b.dcm").write_bytes(whole[132:])
        same(tmp_path / "b.dcm", image)

    @pytest.mark.parametrize("implicit", [True, False])
    def test_elements_alone(self, tmp_path, implicit):
        image = RAMP.astype(np.uint16)
        data = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", image, IMPLICIT if implicit else EXPLICIT))
        del data.file_meta, data.preamble
        data.save_as(tmp_path / "b", implicit_vr=implicit, little_endian=True)
        assert (tmp_path / "b").read_bytes()[:2] == b"\x08\0"
        same(tmp_path / "b", image)

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.npy", "a.mat"])
    def test_under_another_format_s_name(self, tmp_path, name):
        same(dicom_file(tmp_path / name, RAMP.astype(np.uint16)), RAMP.astype(np.uint16))

    def test_spacing(self, tmp_path):
        image = RAMP.astype(np.uint16)
        for changes, expected in (
            ({}, None),
            ({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25)),
            ({"ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3)),
            ({"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [0.2, 0.3]}, (0.5, 0.25)),
            ({"PixelSpacing": [0, 0.25]}, None),
            ({"PixelSpacing": [-1, 1]}, None),
            ({"PixelSpacing": 0.5}, None),
            ({"PixelSpacing": [0, 0.25], "ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3)),
            ({"NominalScannedPixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ):
            assert read.open(dicom_file(tmp_path / "a.dcm", image, **changes)).spacing == expected

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("FD", [0.5, 0.25]),
            ("FL", [0.5, 0.25]),
            ("LO", ["0.5", "0.25"]),
            ("SH", ["0.5 ", " 0.25"]),
            ("UN", b"0.5\\0.25 "),
            ("LO", "0,5\\0,25"),
            ("LO", "0.5, 0.25"),
            ("UT", "0.5\\0.25"),
        ],
    )
    @pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
    def test_spacing_in_an_odd_representation(self, tmp_path, kind, value, syntax):
        data = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint16), syntax))
        data.add_new("PixelSpacing", kind, value)
        data.save_as(tmp_path / "a.dcm")
        with silent_readers():
            picture = read.open(tmp_path / "a.dcm")
        assert picture.spacing == (0.5, 0.25) and picture.warnings == []

    def test_spacing_with_decimal_commas(self, tmp_path):
        path = dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint16), PixelSpacing=[111, 2222])
        assert path.read_bytes().count(b"111.0\\2222.0") == 1
        path.write_bytes(path.read_bytes().replace(b"111.0\\2222.0", b"0,500\\0,2500"))
        with silent_readers():
            assert read.open(path).spacing == (0.5, 0.25)

    @pytest.mark.parametrize(
        ("kind", "value", "shown"),
        [("DS", [0, 0.25], "0.0\\0.25"), ("DS", "0.5", "0.5"), ("LO", "half", "half"), ("UN", b"12", "12.0")],
    )
    def test_spacing_that_tells_nothing_is_named(self, tmp_path, kind, value, shown):
        data = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint16)))
        data.add_new("PixelSpacing", kind, value)
        data.save_as(tmp_path / "a.dcm")
        with silent_readers():
            picture = read.open(tmp_path / "a.dcm")
        assert picture.spacing is None
        assert picture.warnings == [f"has a PixelSpacing of {shown}, which is no two lengths, and was not used"]

    def test_height_of_a_pixel_over_its_width(self, tmp_path):
        image = RAMP.astype(np.uint16)
        for changes, expected in (
            ({}, 1),
            ({"PixelSpacing": [0.5, 2]}, 0.25),  # first from row to row, then from column to column
            ({"ImagerPixelSpacing": [2, 0.5]}, 4),
            ({"PixelAspectRatio": [3, 2]}, 1.5),
            ({"PixelSpacing": [1, 1], "PixelAspectRatio": [3, 2]}, 1),
            ({"PixelAspectRatio": [0, 2]}, 1),
        ):
            assert read.open(dicom_file(tmp_path / "a.dcm", image, **changes)).aspect == expected


class TestModality:
    @pytest.mark.parametrize(
        ("slope", "intercept", "expected"),
        [
            (1, 0, RAMP.astype(np.int16)),
            (1, -1024, (RAMP - 1024).astype(np.int32)),
            (-2, 7, (7 - 2 * RAMP).astype(np.int32)),
            (0.5, 0.25, (RAMP / 2 + 0.25).astype(np.float32)),
            (70000, 0, (RAMP.astype(np.int64) * 70000)),  # of int16, whose largest value would leave 32 bits
        ],
    )
    def test_slope_and_intercept(self, tmp_path, slope, intercept, expected):
        stored = RAMP.astype(np.int16)
        same(dicom_file(tmp_path / "a.dcm", stored, RescaleSlope=slope, RescaleIntercept=intercept), expected)

    def test_8_bits_that_are_scaled_are_measurements(self, tmp_path):
        stored = (RAMP % 256).astype(np.uint8)
        expected = (RAMP % 256 * 3 + 1).astype(np.float32)
        same(dicom_file(tmp_path / "a.dcm", stored, RescaleSlope=3, RescaleIntercept=1), expected)

    def test_white_is_zero(self, tmp_path):
        inverted = {"PhotometricInterpretation": "MONOCHROME1"}
        stored = RAMP.astype(np.uint16)
        same(dicom_file(tmp_path / "a.dcm", stored, **inverted), (65535 - RAMP).astype(np.uint16))
        twelve = {"BitsStored": 12, "HighBit": 11}
        same(dicom_file(tmp_path / "b.dcm", stored, **inverted, **twelve), (4095 - RAMP).astype(np.uint16))
        same(dicom_file(tmp_path / "c.dcm", stored.astype(np.int16), **inverted), (-1 - RAMP).astype(np.int16))
        # From 0 to 4095 stored, so from 10 to 8200 scaled; the darkest is 0 stored.
        scaled = dicom_file(tmp_path / "d.dcm", stored, RescaleSlope=2, RescaleIntercept=10, **inverted, **twelve)
        same(scaled, (8200 - 2 * RAMP).astype(np.int32))

    @pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
    def test_lookup_table(self, tmp_path, kind):
        table = Dataset()
        table.add_new("LUTDescriptor", "SS", [4, -1, 16])  # four entries, the first for -1 and below
        table.add_new("LUTData", "US", [500, 100, 300, 200])
        table.ModalityLUTType = "US"
        stored = np.resize(np.array([-2, -1, 0, 1, 2, 3, 9], np.int16), (20, 17))
        expected = np.resize(np.array([500, 500, 100, 300, 200, 200, 200], np.uint16), (20, 17))
        changes = {"ModalityLUTSequence": Sequence([table]), "PhotometricInterpretation": kind}
        path = dicom_file(tmp_path / "a.dcm", stored, **changes)
        same(path, 65535 - expected if kind == "MONOCHROME1" else expected)

    @pytest.mark.parametrize("slope", [0, "nan", "inf"])
    def test_no_slope_at_all(self, tmp_path, slope):
        path = dicom_file(tmp_path / "a.dcm", RAMP.astype(np.int16), RescaleSlope="1234567")
        path.write_bytes(path.read_bytes().replace(b"1234567 ", str(slope).encode().ljust(8)))
        refused(path, "has a rescale slope of")


class TestPadding:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
    @pytest.mark.parametrize(
        ("dtype", "padding"), [("i2", -2000), ("i2", -32768), ("u2", 0), ("u2", 63536), ("u1", 255)]
    )
    def test_the_value_is_masked(self, tmp_path, dtype, padding, syntax):
        image = (RAMP % 200 + 1).astype(dtype)
        image[:3] = padding
        path = dicom_file(tmp_path / "a.dcm", image, syntax, PixelPaddingValue=padding)
        same(path, np.ma.MaskedArray(image, image == padding))
        # Without the element it is a value as any.
        same(dicom_file(tmp_path / "a.dcm", image, syntax), image)

    @pytest.mark.parametrize(("value", "limit"), [(-2000, -1990), (-1990, -2000)])
    def test_a_range_has_both_its_ends(self, tmp_path, value, limit):
        image = RAMP.astype(np.int16)
        image[0, :5] = [-2001, -2000, -1995, -1990, -1989]
        path = dicom_file(tmp_path / "a.dcm", image, PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
        same(path, np.ma.MaskedArray(image, (image >= -2000) & (image <= -1990)))

    @pytest.mark.parametrize(
        ("dtype", "stored", "vr", "value"), [("i2", -2000, "US", 63536), ("u2", 63536, "SS", -2000)]
    )
    def test_a_value_of_the_other_sign(self, tmp_path, dtype, stored, vr, value):
        image = RAMP.astype(dtype)
        image[:3] = stored
        data = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", image))
        data.add_new("PixelPaddingValue", vr, value)
        data.save_as(tmp_path / "a.dcm")
        same(tmp_path / "a.dcm", np.ma.MaskedArray(image, image == stored))

    def test_it_is_a_value_before_it_is_scaled_or_inverted(self, tmp_path):
        image = RAMP.astype(np.int16)
        image[:3] = -2000
        path = dicom_file(tmp_path / "a.dcm", image, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024)
        same(path, np.ma.MaskedArray(image.astype(np.int32) - 1024, image == -2000))
        white = dicom_file(tmp_path / "b.dcm", image, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
        same(white, np.ma.MaskedArray(-1 - image, image == -2000))

    def test_nothing_but_padding(self, tmp_path):
        picture = read.open(dicom_file(tmp_path / "a.dcm", np.full((20, 17), 9, np.int16), PixelPaddingValue=9))
        assert picture.warnings == ["has nothing but background"] and picture.read(0).mask.all()

    @pytest.mark.parametrize("value", ["", 70000])
    def test_values_that_are_none(self, tmp_path, value):
        image = (RAMP * 1000).astype(np.int32)
        data = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", image))
        data.add_new("PixelPaddingValue", "LO", str(value))
        data.save_as(tmp_path / "a.dcm")
        same(tmp_path / "a.dcm", np.ma.MaskedArray(image, image == value) if value else image)


class TestCompressed:
    def test_rle(self, tmp_path):
        image = (RAMP * 190).astype(np.uint16)
        data = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", image))
        data.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
        data.save_as(tmp_path / "b.dcm")
        same(tmp_path / "b.dcm", image)

    def test_jpeg(self, tmp_path):
        grey = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
        coded = BytesIO()
        Image.fromarray(grey).save(coded, "JPEG", quality=95)
        path = dicom_file(tmp_path / "a.dcm", grey, JPEG, PixelData=encapsulate([coded.getvalue()]))
        image = read_image(path)
        assert image.dtype == np.uint8 and np.abs(image.astype(int) - grey).max() <= 6

    def test_jpeg_2000(self, tmp_path):
        image, coded = (RAMP * 190).astype(np.uint16), BytesIO()
        Image.fromarray(image).save(coded, "JPEG2000", irreversible=False)
        start = coded.getvalue().index(b"\xff\x4f\xff\x51")  # the codestream without its file's boxes
        pixels = encapsulate([coded.getvalue()[start:]])
        same(dicom_file(tmp_path / "a.dcm", image, JPEG_2000, PixelData=pixels), image)

    @pytest.mark.parametrize(
        ("syntax", "name", "package"),
        [
            (JPEG_LOSSLESS, "JPEG Lossless", "pylibjpeg-libjpeg"),
            (JPEG_LS, "JPEG-LS Lossless", "pylibjpeg-libjpeg"),
            (HTJ2K, "High-Throughput JPEG 2000", "pylibjpeg-openjpeg"),
        ],
    )
    def test_what_nothing_decodes_names_the_package(self, tmp_path, monkeypatch, syntax, name, package):
        monkeypatch.setattr(pydicom.pixels.get_decoder(syntax), "_available", {})
        path = dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint16), syntax, PixelData=encapsulate([b"abcd"]))
        refused(path, f"is compressed as {name}")
        refused(path, package)

    def test_video_is_unknown_and_a_damaged_picture_is_told(self, tmp_path):
        for syntax, reason in ((VIDEO, "is compressed as MPEG2"), (JPEG, "cannot be decoded as JPEG Baseline")):
            pixels = encapsulate([b"abcd"])
            refused(dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint8), syntax, PixelData=pixels), reason)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"NumberOfFrames": 3, "PixelData": bytes(2 * 680)}, "holds 1360 bytes of pixels; its header says 2040"),
            ({"NumberOfFrames": 10**6}, "takes 680000000 bytes; expected at most 536870912"),
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "HSV"}, "is in colour (HSV)"),
            ({"SamplesPerPixel": 1, "PhotometricInterpretation": "RGB"}, "is in colour (RGB)"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "is a mosaic of slices"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "is in colour (PALETTE COLOR)"),
            ({"BitsAllocated": 1}, "has 1 bits a pixel"),
            ({"BitsStored": 17, "HighBit": 16}, "has values of 17 bits up to bit 16"),
            ({"BitsStored": 12, "HighBit": 10}, "has values of 12 bits up to bit 10"),
            ({"BitsStored": 12, "HighBit": 16}, "has values of 12 bits up to bit 16"),
            ({"Rows": 15}, "is 15x17 pixels; expected sides of 16 to 8192"),
            ({"Columns": 60000}, "is 20x60000 pixels"),
            ({"Rows": 8192, "Columns": 8192}, "holds 680 bytes of pixels; its header says 134217728"),
            ({"Rows": 21}, "holds 680 bytes of pixels; its header says 714"),
            ({"PixelData": None}, "holds no pixels"),
            ({"Rows": None, "Columns": None, "PixelData": None}, "holds no picture"),
        ],
    )
    def test_what_is_no_grey_slice(self, tmp_path, changes, reason):
        refused(dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint16), **changes), reason)

    def test_no_dicom_and_one_whose_size_is_checked_before_reading(self, tmp_path, monkeypatch):
        (tmp_path / "a.dcm").write_text("hello")
        refused(tmp_path / "a.dcm", "is no DICOM file")
        path = dicom_file(tmp_path / "a.dcm", RAMP.astype(np.uint16))
        monkeypatch.setattr(dicom, "MAX_BYTES", 900)
        refused(path, "bytes; expected at most 900")

    def test_deflated_bombs_are_not_inflated(self, tmp_path, monkeypatch):
        path = dicom_file(tmp_path / "a.dcm", np.zeros((4000, 4000), np.uint16), DEFLATED)
        assert path.stat().st_size < 10**5
        monkeypatch.setattr(dicom, "MAX_INFLATED_BYTES", 10**7)
        refused(path, "unpacks to over 10000000 bytes")
        with pytest.raises(Refused, match="unpacks to over"):
            dicom.count_slices(path, Reading())
