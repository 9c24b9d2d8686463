"""DICOM and NIfTI files that somebody made to do harm; see hostile.py."""

import gzip
import struct
from pathlib import Path

import specimens
from specimens import endless

HEADER = b"\0" * 128 + b"DICM"
EXPLICIT = b"1.2.840.10008.1.2.1\0"
DEFLATED = b"1.2.840.10008.1.2.1.99"
JPEG = b"1.2.840.10008.1.2.4.50"


def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    """Of explicit representation, little endian."""
    length = len(value) if length is None else length
    long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    packed = struct.pack("<HI", 0, length) if long else struct.pack("<H", length)
    return struct.pack("<HH", group, number) + kind + packed + value


def file_of(body: bytes, syntax: bytes = EXPLICIT) -> bytes:
    meta = element(2, 0x10, b"UI", syntax)
    return HEADER + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + body


def picture(
    rows: int = 24, columns: int = 20, bits: int = 16, frames: bytes = b"", pixels: bytes | None = None
) -> bytes:
    short = {0x02: 1, 0x10: rows, 0x11: columns, 0x100: bits, 0x101: bits, 0x102: bits - 1, 0x103: 0}
    pixels = bytes(rows * columns * bits // 8) if pixels is None else pixels
    body = element(0x28, 0x02, b"US", struct.pack("<H", 1)) + element(0x28, 0x04, b"CS", b"MONOCHROME2 ")
    body += element(0x28, 0x08, b"IS", frames) if frames else b""
    for number, value in short.items():
        body += element(0x28, number, b"US", struct.pack("<H", value)) if number != 2 else b""
    return body + (element(0x7FE0, 0x10, b"OW", pixels) if pixels else b"")


def fragments(*parts: bytes) -> bytes:
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in (b"", *parts))
    return element(0x7FE0, 0x10, b"OB", b"", 0xFFFFFFFF) + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def dicom(outside: Path) -> dict[str, tuple[str, bytes, str]]:
    undefined = 0xFFFFFFFF
    item = struct.pack("<HHI", 0xFFFE, 0xE000, undefined)
    nested = (struct.pack("<HH", 8, 0x1140) + b"SQ" + struct.pack("<HI", 0, undefined) + item) * 20_000
    table = struct.pack("<16I", 15, *[64] * 15)
    files = {
        "more rows than there are": (file_of(picture(8192, 8192, pixels=bytes(100))), "refused"),
        "rows beyond all": (file_of(picture(65535, 65535, pixels=bytes(100))), "refused"),
        "no rows": (file_of(picture(0, 0, pixels=bytes(100))), "refused"),
        "no pixels": (file_of(picture(pixels=b"")), "refused"),
        "many frames": (file_of(picture(frames=b"99999999")), "refused"),
        "frames that are no number": (file_of(picture(frames=b"ninety")), "refused"),
        "odd bits": (file_of(picture(bits=7, pixels=bytes(999))), "refused"),
        "a value beyond the end": (
            file_of(element(8, 0x60, b"UT", b"MR", 0xFFFFFFF0) + picture()),
            "refused",
        ),
        "sequences within sequences": (file_of(nested + picture()), "valid"),
        "a sequence without an end": (file_of(element(8, 0x1140, b"SQ", b"", undefined) + picture()), "valid"),
        "many elements": (file_of(element(9, 1, b"UN", b"") * 100_000 + picture()), "valid"),
        "deflated to 1 GB": (file_of(endless(-15, 64, element(9, 1, b"OB", b"", 2**30)), DEFLATED), "refused"),
        "deflated noise": (file_of(b"\xff" * 900, DEFLATED), "refused"),
        "a syntax that nobody knows": (file_of(picture(), b"1.2.3.4.5.6.7.8.9\0"), "refused"),
        "a jpeg that is none": (file_of(picture(pixels=b"") + fragments(b"\xff\xd8" + bytes(98)), JPEG), "refused"),
        "a jpeg of other sides": (
            file_of(picture(bits=8, pixels=b"") + fragments(specimens.jpeg()[0].content), JPEG),
            "valid",
        ),
        "no fragments": (file_of(picture(pixels=b"") + fragments(), JPEG), "refused"),
        "runs of nothing": (
            file_of(picture(pixels=b"") + fragments(table + b"\x80" * 10**5), b"1.2.840.10008.1.2.5\0"),
            "refused",
        ),
        "runs of too much": (
            file_of(picture(pixels=b"") + fragments(table + b"\x81\0" * 10**6), b"1.2.840.10008.1.2.5\0"),
            "valid",
        ),
        "no preamble": (picture(), "refused"),
        "a name that is code": (file_of(element(8, 5, b"CS", b"\\ISO 2022 IR 87\\..\\..") + picture()), "valid"),
    }
    return {name: ("a.dcm", content, rule) for name, (content, rule) in files.items()}


def nifti(outside: Path) -> dict[str, tuple[str, bytes, str]]:
    plain = specimens.nifti()[0].content

    def told(offset: int, layout: str, *values: float) -> bytes:
        changed = bytearray(plain)
        struct.pack_into(f"<{layout}", changed, offset, *values)
        return bytes(changed)

    huge = told(40, "8h", 3, 8192, 8192, 4096, 1, 1, 1, 1)
    files = {
        "more voxels than there are": ("a.nii", huge, "refused"),
        "more voxels than memory": ("a.nii", told(40, "8h", 3, *[32767] * 3, 1, 1, 1, 1), "refused"),
        "sides below zero": ("a.nii", told(40, "8h", 3, -24, -20, -3, 1, 1, 1, 1), "refused"),
        "no sides": ("a.nii", told(40, "8h", 3, 0, 0, 0, 0, 0, 0, 0), "refused"),
        "eight axes": ("a.nii", told(40, "h", 8), "refused"),
        "no axes": ("a.nii", told(40, "h", 0), "refused"),
        "voxels before the beginning": ("a.nii", told(108, "f", -1e9), "refused"),
        "voxels nowhere": ("a.nii", told(108, "f", float("nan")), "refused"),
        "voxels at the end of the world": ("a.nii", told(108, "f", 3e38), "refused"),
        "voxels in the header": ("a.nii", told(108, "f", 0.0), "valid"),
        "a header of a terabyte": ("a.nii.gz", endless(31, 16, told(108, "f", 1e12)), "refused"),
        "a scaling that is not a number": ("a.nii", told(112, "ff", float("nan"), float("nan")), "valid"),
        "a scaling beyond all": ("a.nii", told(112, "ff", 3e38, 3e38), "refused"),
        "a type that nobody knows": ("a.nii", told(70, "hh", 9999, 16), "refused"),
        "colour": ("a.nii", told(70, "hh", 128, 24), "refused"),
        "long double": ("a.nii", told(70, "hh", 1536, 128), "refused"),
        "an extension beyond the end": (
            "a.nii",
            told(108, "f", 1e6)[:348] + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 4) + plain[348:],
            "refused",
        ),
        "an extension of no length": (
            "a.nii",
            told(108, "f", 400.0)[:348] + b"\1\0\0\0" + bytes(64) + plain[352:],
            "valid",
        ),
        "a bomb": ("a.nii.gz", endless(31, 256, plain), "valid"),
        "a bomb that says so": ("a.nii.gz", endless(31, 16, huge), "refused"),
        "two archives": ("a.nii.gz", gzip.compress(plain) * 2, "valid"),
        "an archive in an archive": ("a.nii.gz", gzip.compress(gzip.compress(plain)), "refused"),
        "an older format": ("a.nii", b"\x5c\1\0\0" + bytes(344), "refused"),
    }
    return files


def mgh(outside: Path) -> dict[str, tuple[str, bytes, str]]:
    plain = specimens.mgh()[0].content

    def told(offset: int, layout: str, *values: float) -> bytes:
        changed = bytearray(plain)
        struct.pack_into(f">{layout}", changed, offset, *values)
        return bytes(changed)

    huge = told(4, "4i", 8192, 8192, 4096, 1)
    return {
        "more voxels than there are": ("a.mgh", huge, "refused"),
        "more voxels than memory": ("a.mgh", told(4, "4i", *[2**31 - 1] * 3, 1), "refused"),
        "sides below zero": ("a.mgh", told(4, "4i", -40, -36, -3, 1), "refused"),
        "no sides": ("a.mgh", told(4, "4i", 0, 0, 0, 0), "refused"),
        "two volumes": ("a.mgh", told(4, "4i", 40, 36, 1, 3), "refused"),
        "a type that nobody knows": ("a.mgh", told(20, "i", 77), "refused"),
        "pixels of no size": ("a.mgh", told(30, "3f", 0, 0, 0), "valid"),
        "pixels that are not a number": ("a.mgh", told(30, "3f", *[float("nan")] * 3), "valid"),
        "axes that are not a number": ("a.mgh", told(42, "9f", *[float("nan")] * 9), "valid"),
        "a bomb": ("a.mgz", endless(31, 256, plain), "valid"),
        "a bomb that says so": ("a.mgz", endless(31, 16, huge), "refused"),
        "an archive in an archive": ("a.mgz", gzip.compress(gzip.compress(plain)), "refused"),
    }
