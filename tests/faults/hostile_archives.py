"""Zip archives that somebody made to do harm; see hostile.py."""

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from specimens import MEMBERS

from tests.helpers.figshare import entry, zipped


def listed(content: bytes, offset: int, value: bytes) -> bytes:
    """With these bytes in the first entry of the list of contents."""
    at = content.index(b"PK\1\2") + offset
    return content[:at] + value + content[at + len(value) :]


def said(content: bytes, offset: int, value: bytes) -> bytes:
    """Both in the list and before the file itself, where it stands two bytes earlier."""
    at = content.index(b"PK\3\4") + offset - 2
    return listed(content[:at] + value + content[at + len(value) :], offset, value)


def ended(content: bytes, offset: int, value: bytes) -> bytes:
    at = content.index(b"PK\5\6") + offset
    return content[:at] + value + content[at + len(value) :]


def overlapping(files: int, size: int) -> bytes:
    """Many entries for one and the same file."""
    content = zipped([("1.mat", bytes(size))])
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entries = b""
    for n in range(files):
        entries += content[start:end].replace(b"1.mat", b"%d.mat" % (n % 9 + 1))
    total = struct.pack("<HHI", files, files, len(entries))
    return content[:start] + entries + content[end : end + 8] + total + content[end + 16 :]


def many_files() -> bytes:
    return zipped([(f"{n}.mat", b"") for n in range(1, 20_010)], zipfile.ZIP_STORED)


def zip_(outside: Path) -> dict[str, tuple[str, bytes | Callable[[], bytes], str]]:
    one = [("1.mat", b"x" * 500)]
    good = zipped(one)
    bomb = zipped([("1.mat", bytes(2**26))])
    outwards = {
        "up": "../1.mat",
        "far up": "a/" * 3 + "../" * 9 + "tmp/1.mat",
        "absolute": "/tmp/1.mat",
        "to the folder beside": str(outside / "1.mat"),
        "backslashes": "..\\1.mat",
        "a drive": "C:/1.mat",
        "a stream": "1.mat:other",
        "junk that leads up": "__MACOSX/../../1.mat",
    }
    files = {
        **{f"a name that leads {how}": zipped([(name, b"x")]) for how, name in outwards.items()},
        **{
            f"a name that leads {how}, within": zipped({"b.zip": zipped([(name, b"x")])})
            for how, name in outwards.items()
        },
        "a link": zipped([(entry(stat.S_IFLNK), str(outside / "secret.mat").encode())]),
        "a link, and a file through it": zipped(
            [(entry(stat.S_IFLNK, "data"), str(outside).encode()), ("data/1.mat", b"x")]
        ),
        "a device": zipped([(entry(stat.S_IFCHR), b"")]),
        "a pipe": zipped([(entry(stat.S_IFIFO), b"")]),
        "a socket": zipped([(entry(stat.S_IFSOCK), b"")]),
        "one name twice": zipped([("a/1.mat", b"x"), ("b/1.mat", b"y")]),
        "a program": zipped([("1.mat", b"x"), ("setup.py", b"import os")]),
        "a hidden file": zipped([(".1.mat", b"x")]),
        "a bomb": bomb,
        "a bomb within": zipped({"b.zip": bomb}),
        "a bomb that denies it": said(bomb, 24, struct.pack("<I", 1000)),
        "a bomb in three layers": zipped({"b.zip": zipped({"c.zip": bomb})}),
        "an archive within an archive within": zipped({"b.zip": zipped({"c.zip": good})}),
        "one file many times": overlapping(30_000, 10**6),
        "one file nine times": overlapping(9, 10**5),
        "a size beyond all": said(good, 24, struct.pack("<I", 2**32 - 2)),
        "no size": said(good, 24, struct.pack("<I", 0)),
        "a place beyond the end": listed(good, 42, struct.pack("<I", 2**32 - 2)),
        "a list before the beginning": ended(good, 12, struct.pack("<II", 2**31, 2**31)),
        "a list beyond the end": ended(good, 16, struct.pack("<I", 2**32 - 2)),
        "a long name": zipped([("a/" * 30_000 + "1.mat", b"x"), ("b" * 60_000 + ".mat", b"x")]),
        "a name of two lines": zipped([("1\n2.mat", b"x")]),
        "a name that is no text": listed(zipped([("\u00e9.mat", b"x")]), 46, b"\xff"),
        "another name in the list": listed(good, 46, b"2"),
        "a name that ends early": listed(zipped([("1.mat-.exe", b"x")]), 51, b"\0"),
        "encrypted": said(good, 8, b"\1\0"),
        "compressed by nobody": said(good, 10, b"\x63\0"),
        "lzma": zipped(one, zipfile.ZIP_LZMA),
        "bzip2": zipped(one, zipfile.ZIP_BZIP2),
        "nothing": zipped([]),
        "no slices": zipped([("README.txt", b"x")]),
        "text": b"<html>" * 100,
    }
    good_ones = {
        "a folder's litter": zipped({"__MACOSX/._1.mat": b"x", "a/.DS_Store": b"x", **MEMBERS}),
        "a packed size beyond the end": said(zipped(MEMBERS), 20, struct.pack("<I", 2**32 - 2)),
        "something before it": b"#!/bin/sh\nexit\n" + zipped(MEMBERS),
        "something after it": zipped(MEMBERS) + bytes(99),
        "another archive before it": good + zipped(MEMBERS),
        "a comment": ended(zipped(MEMBERS), 20, b"\3\0") + b"abc",
    }
    return {
        **{name: ("a.zip", content, "refused") for name, content in files.items()},
        "many files": ("a.zip", many_files, "refused"),
        **{name: ("a.zip", content, "exact") for name, content in good_ones.items()},
    }
