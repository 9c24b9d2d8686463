"""Files that somebody made to do harm: by format and name, what to call them, their bytes, and what may come of them.

Each function gets a folder with `secret.mat` and `secret.bin`, which nothing may be read from.
"""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_archives
import hostile_hdf5
import hostile_itk
import hostile_medical
import numpy as np
from specimens import IMAGE, endless

from tests.helpers.figshare import zipped
from tests.helpers.images import chunk, png_bytes

Content = bytes | Callable[[], bytes]
"""Called when the file is wanted where it takes long to make."""
Crafted = dict[str, tuple[str, Content, str]]

SIDE = 8192
"""The largest that is read."""
BIG = 60_000


def npy(outside: Path) -> Crafted:
    def with_header(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
        length = struct.pack("<H" if version == 1 else "<I", len(header))
        return b"\x93NUMPY" + bytes([version, 0]) + length + header + data

    def described(descr: str, shape: str, data: bytes = b"", order: str = "False") -> bytes:
        return with_header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode(), data)

    # What unpickles it makes a file beside the one read.
    pickle = b"cos\nsystem\n(S'touch pickled'\ntR."
    files = {
        "pickle": described("'|O'", "(16, 16)", pickle),
        "pickle alone": pickle,
        "pickle in a field": described("[('a', '|O')]", "(16, 16)", pickle),
        "more values than memory": described("'<f8'", "(8192, 8192)"),
        "more rows than there are": described("'<f8'", "(999999999999, 999999999999)"),
        "rows below zero": described("'<f8'", "(-16, -16)", bytes(2048)),
        "rows that overflow": described("'<f8'", "(4294967296, 4294967296)", bytes(2048)),
        "a type of arrays": described("'(99999,99999)f8'", "(16, 16)"),
        "a type of many fields": described("'" + ",".join(["f8"] * 900) + "'", "(16, 16)"),
        "a type that is code": described("__import__('os').system('touch pickled')", "(16, 16)"),
        "a shape that is code": described("'<f8'", "__import__('os').system('touch pickled')"),
        "a header of brackets": with_header(b"(" * 9000),
        "a header of nines": with_header(b"9" * 9000),
        "a header of minus signs": with_header(b"-" * 9000 + b"1"),
        "a header beyond the end": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 100,
        "a header of a million": with_header(b"{" + b" " * 10**6 + b"}", version=2),
        "no version": b"\x93NUMPY\x09\x09" + bytes(300),
        "a zip archive": b"PK\x03\x04" + bytes(300),
        "not a number": described("'<f8'", "(16, 16)", np.full(256, np.nan).tobytes()),
        "infinite": described("'<f2'", "(16, 16)", np.full(256, np.inf, "<f2").tobytes()),
    }
    return {name: ("a.npy", content, "refused") for name, content in files.items()}


def png(outside: Path) -> Crafted:
    small = zlib.compress(bytes(17 * 16))
    bomb = endless(15, 8)

    def largest(colour: int, samples: int) -> Callable[[], bytes]:
        return lambda: png_bytes(SIDE, SIDE, 8, colour, zlib.compress(bytes(SIDE * (samples * SIDE + 1)), 1))

    files = {
        "the largest picture": (largest(0, 1), "valid"),
        "the largest picture in colour": (largest(2, 3), "valid"),
        "the largest picture without its rows": (png_bytes(SIDE, SIDE, 16, 6, small), "refused"),
        "sides beyond all": (png_bytes(BIG, BIG, 8, 0, small), "refused"),
        "sides of 31 bits": (png_bytes(2**31 - 1, 2**31 - 1, 8, 0, small), "refused"),
        "no sides": (png_bytes(0, 0, 8, 0, small), "refused"),
        "more rows than it says": (png_bytes(16, 16, 8, 0, bomb), "valid"),
        "an endless palette": (png_bytes(16, 16, 8, 3, small, chunk(b"PLTE", bytes(3 * 10**6))), "valid"),
        "no palette": (png_bytes(16, 16, 8, 3, small), "valid"),
        "an odd palette": (png_bytes(16, 16, 8, 3, small, chunk(b"PLTE", b"\1")), "valid"),
        "text that unpacks to more": (png_bytes(16, 16, 8, 0, small, chunk(b"zTXt", b"a\0\0" + bomb)), "valid"),
        "a profile that unpacks to more": (png_bytes(16, 16, 8, 0, small, chunk(b"iCCP", b"a\0\0" + bomb)), "valid"),
        "many texts": (png_bytes(16, 16, 8, 0, small, *[chunk(b"tEXt", b"a\0" + bytes(99))] * 20_000), "valid"),
        "chunks that nobody knows": (png_bytes(16, 16, 8, 0, small, *[chunk(b"prIv", b"")] * 50_000), "valid"),
        "many frames": (png_bytes(16, 16, 8, 0, small, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), "refused"),
        "a chunk beyond the end": (png_bytes(16, 16, 8, 0, small)[:-12] + b"\x7f\xff\xff\xffIDAT", "valid"),
        "odd depth": (png_bytes(16, 16, 7, 0, small), "refused"),
    }
    return {name: ("a.png", content, rule) for name, (content, rule) in files.items()}


def _ifd(entries: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    """Tag to type, count, and value or offset."""
    packed = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def _tags(side: int, length: int) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, side),
        257: (4, 1, side),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 4096),
        277: (3, 1, 1),
        278: (4, 1, side),
        279: (4, 1, length),
    }


def _tiff(side: int = 16, following: int = 0, data: bytes = bytes(256), **tags: tuple[int, int, int]) -> bytes:
    entries = _tags(side, len(data)) | {int(tag[1:]): value for tag, value in tags.items()}
    return (b"II*\0" + struct.pack("<I", 8) + _ifd(entries, following)).ljust(4096, b"\0") + data


def tiff(outside: Path) -> Crafted:
    page = len(_ifd(_tags(16, 256)))
    chain = b"".join(_ifd(_tags(16, 256), 4096 + 256 + page * (i + 1)) for i in range(30_000))
    files = {
        "a loop of pages": (_tiff(following=8), "valid"),
        "a chain of pages": (_tiff(following=4096 + 256) + chain, "refused"),
        "sides beyond all": (_tiff(BIG), "refused"),
        "the largest picture without its rows": (_tiff(SIDE), "refused"),
        "rows beyond the end": (_tiff(t273=(4, 1, 2**32 - 1)), "refused"),
        "fewer bytes than rows": (_tiff(data=bytes(10)), "refused"),
        "a count beyond memory": (_tiff(t273=(4, 2**32 - 1, 4096)), "refused"),
        "a count of names beyond the end": (_tiff(t270=(2, 2**32 - 1, 4096)), "valid"),
        "many bits": (_tiff(t258=(3, 1, 65535)), "refused"),
        "many samples": (_tiff(t277=(3, 1, 65535)), "refused"),
        "no strips": (_tiff(t278=(4, 1, 0)), "valid"),
        "tiles of one pixel": (_tiff(SIDE, t322=(3, 1, 1), t323=(3, 1, 1), t324=(4, 1, 4096)), "refused"),
        "deflate that unpacks to more": (_tiff(t259=(3, 1, 8), data=endless(15, 8)), "valid"),
        "no compression that is known": (_tiff(t259=(3, 1, 50_000)), "refused"),
        "a jpeg inside that is none": (_tiff(t259=(3, 1, 7)), "refused"),
        "an endless palette": (_tiff(t262=(3, 1, 3), t320=(3, 2**20, 4096)), "refused"),
        "another file's directory": (_tiff(t330=(4, 1, 8), t34665=(4, 1, 8)), "valid"),
        "big tiff beyond the end": (b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63 + 5) + bytes(200), "refused"),
    }
    return {name: ("a.tif", content, rule) for name, (content, rule) in files.items()}


def bmp(outside: Path) -> Crafted:
    def made(
        w: int = 16, h: int = 16, bits: int = 8, kind: int = 0, colours: int = 256, data: bytes = b"", at: int = 1078
    ) -> bytes:
        info = struct.pack("<IiiHHIIiiII", 40, w, h, 1, bits, kind, len(data), 0, 0, colours, 0)
        palette = bytes(v for i in range(256) for v in (i, i, i, 0))
        return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, at) + info + palette + data

    rows = bytes(256)
    files = {
        "sides beyond all": (made(BIG, BIG, data=rows), "refused"),
        "sides of 31 bits": (made(2**31 - 1, 2**31 - 1, data=rows), "refused"),
        "the lowest height": (made(16, -(2**31), data=rows), "refused"),
        "no width": (made(0, 16, data=rows), "refused"),
        "the largest picture without its rows": (made(SIDE, SIDE, data=rows), "refused"),
        "an endless palette": (made(colours=2**32 - 1, data=rows), "valid"),
        "a long palette": (made(colours=65536, data=rows), "valid"),
        "rows beyond the end": (made(at=2**32 - 1, data=rows), "refused"),
        "runs of nothing": (made(SIDE, SIDE, kind=1, data=b"\0\0" * 500_000), "valid"),
        "runs that leap": (made(SIDE, SIDE, kind=1, data=b"\0\2\xff\xff" * 100_000), "valid"),
        "runs of one value": (made(SIDE, SIDE, kind=1, data=b"\xff\1" * 270_000), "valid"),
        "odd bits": (made(bits=7, data=rows), "refused"),
        "a jpeg inside": (made(kind=4, data=rows), "refused"),
    }
    return {name: ("a.bmp", content, rule) for name, (content, rule) in files.items()}


def jpeg(outside: Path) -> Crafted:
    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    def frame(kind: int, h: int, w: int) -> bytes:
        return segment(kind, struct.pack(">BHHB", 8, h, w, 1) + b"\1\x11\0")

    start = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes([1]) * 64)
    # One code, of one bit, for no coefficient: a block of zeros is a bit.
    tables = b"".join(segment(0xC4, bytes([kind, 1]) + bytes(15) + b"\0") for kind in (0x00, 0x10))
    scan = segment(0xDA, b"\1\1\0\0\0\0")
    scans = b"".join(segment(0xDA, b"\1\1\0\0\0" + bytes([0x10 * (i > 0)])) + b"\0\0" for i in range(3000))
    files = {
        "many scans": (start + frame(0xC2, SIDE, SIDE) + tables + scans + b"\xff\xd9", "refused"),
        "the largest picture without its rows": (start + frame(0xC0, SIDE, SIDE) + tables + scan + b"\0", "refused"),
        "sides beyond all": (start + frame(0xC0, 65535, 65535) + tables + scan + b"\0\xff\xd9", "refused"),
        "no sides": (start + frame(0xC0, 0, 0) + tables + scan + b"\0\xff\xd9", "refused"),
        "no tables": (start + frame(0xC0, 16, 16) + scan + b"\0\xff\xd9", "valid"),
        "no frame": (start + scan + b"\0\xff\xd9", "refused"),
        "two frames": (start + frame(0xC0, 16, 16) + frame(0xC0, 4096, 4096) + tables + scan + b"\0", "refused"),
        "a segment of no length": (start + b"\xff\xe1\0\0" + frame(0xC0, 16, 16), "refused"),
        "markers without end": (start + b"\xff" * 10**6, "refused"),
        "many comments": (start + segment(0xFE, bytes(9)) * 50_000 + frame(0xC0, 16, 16), "refused"),
        "odd metadata": (start + segment(0xE1, b"Exif\0\0II*\0" + b"\xff" * 90) + frame(0xC0, 16, 16), "refused"),
        "many pictures": (start + segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + b"\xff" * 90), "refused"),
    }
    return {name: ("a.jpg", content, rule) for name, (content, rule) in files.items()}


def dataset(outside: Path) -> Crafted:
    """Files of a converted dataset; dataset.json is made to name their sizes."""
    header = "slice,label,tumor,pid,fold,height,width,tumor_pixels,p1,p99,source,sha256\n"

    def table(cells: str) -> bytes:
        return (header + "".join(f"{n},{cells},x.mat,00\n" for n in (1, 2, 30))).encode()

    def array(descr: str, shape: str, data: bytes = bytes(768)) -> bytes:
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data

    def info(**changes: object) -> bytes:
        entries = {name: {"bytes": 7} for name in ("images.npy", "masks.npy", "native_masks.npz", "slices.csv")}
        good = {"format_version": 1, "size": 16, "mask_rule": "area", "counts": {"slices": 3}, "digest": ""}
        return json.dumps({**good, "files": entries, **changes}).encode()

    bombs = zipped({f"{n}.npy": bytes(2**26) for n in (1, 2, 30)})
    claims = zipped({f"{n}.npy": array("'|u1'", "(999999999, 999999999)") for n in (1, 2, 30)})
    files = {
        "brackets": ("dataset.json", b"[" * 10**6),
        "a long number": ("dataset.json", b'{"format_version": ' + b"9" * 10**5 + b"}"),
        "files elsewhere": ("dataset.json", info(files={str(outside / "secret.bin"): {"bytes": 7}})),
        "files that are a list": ("dataset.json", info(files=["images.npy"])),
        "no slices": ("dataset.json", info(counts={"slices": -1})),
        "more slices than memory": ("dataset.json", info(counts={"slices": 10**15})),
        "a pickle": ("images.npy", array("'|O'", "(3, 16, 16)", b"cos\nsystem\n(S'touch pickled'\ntR.")),
        "a zip archive": ("images.npy", b"PK\3\4" + bytes(900)),
        "more values than there are": ("masks.npy", array("'|u1'", "(99999999, 16, 16)")),
        "another type": ("masks.npy", array("'|i1'", "(3, 16, 16)")),
        "a header of brackets": ("masks.npy", b"\x93NUMPY\1\0\x28\x23" + b"(" * 9000),
        "bombs": ("native_masks.npz", bombs),
        "headers that lie": ("native_masks.npz", claims),
        "no archive": ("native_masks.npz", b"PK\5\6" + bytes(18)),
        "numbers beyond 64 bits": ("slices.csv", table(f"1,meningioma,a,0,40,36,{10**30},0,1")),
        "sides beyond memory": ("slices.csv", table("1,meningioma,a,0,999999999,999999999,5,0,1")),
        "sides below zero": ("slices.csv", table("1,meningioma,a,0,-40,-36,5,0,1")),
        "percentiles that are none": ("slices.csv", table("1,meningioma,a,0,40,36,5,nan,nan")),
        "a fold that is none": ("slices.csv", table("1,meningioma,a,9,40,36,5,0,1")),
        "another tumour": ("slices.csv", table("1,glioma,a,0,40,36,5,0,1")),
        "too few cells": ("slices.csv", table("1,meningioma")),
        "a cell without end": ("slices.csv", header.encode() + b'1,1,"' + b"a" * 10**6),
        "zeros": ("slices.csv", bytes(1000)),
    }
    return {name: (file, content, "refused") for name, (file, content) in files.items()}


def npz(outside: Path) -> Crafted:
    def archive(**arrays: Any) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    def zipped_npy(content: bytes) -> bytes:
        return zipped({"image.npy": content}, zipfile.ZIP_DEFLATED)

    claimed = io.BytesIO()
    np.lib.format.write_array_header_1_0(claimed, {"descr": "<f8", "fortran_order": False, "shape": (2**15, 2**15)})
    return {
        "two arrays": ("a.npz", archive(a=IMAGE, b=IMAGE), "refused"),
        "no array": ("a.npz", archive(), "refused"),
        "objects": ("a.npz", archive(a=np.array([[os.system] * 40] * 40, object)), "refused"),
        "an array that is not there": ("a.npz", zipped_npy(claimed.getvalue()), "refused"),
        "a bomb": ("a.npz", zipped_npy(claimed.getvalue() + bytes(2**26)), "refused"),
        "no numpy at all": ("a.npz", zipped_npy(b"two" * 700), "refused"),
    }


def pictures(outside: Path) -> Crafted:
    return {
        "a GIF of all sides": ("a.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";", "refused"),
        "a PGM of all memory": ("a.pgm", b"P5 99999 99999 255\n" + bytes(99), "refused"),
        "a PGM that is too short": ("a.pgm", b"P5 40 36 255\n" + bytes(99), "refused"),
        "a WebP of nothing": ("a.webp", b"RIFF\x0c\0\0\0WEBPVP8L\0\0\0\0", "refused"),
        "a JPEG 2000 of nothing": ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "refused"),
    }


HOSTILE: dict[str, Callable[[Path], Crafted]] = {
    "dataset": dataset,
    "mat": hostile_hdf5.mat,
    "npy": npy,
    "npz": npz,
    "png": png,
    "jpeg": jpeg,
    "tiff": tiff,
    "bmp": bmp,
    "pictures": pictures,
    "dicom": hostile_medical.dicom,
    "nifti": hostile_medical.nifti,
    "mgh": hostile_medical.mgh,
    "nrrd": hostile_itk.nrrd,
    "mha": hostile_itk.mha,
    "zip": hostile_archives.zip_,
}
