"""Zip archives that somebody made to do harm; see hostile.py."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from specimens import MEMBERS, zipped

Members = list[tuple[zipfile.ZipInfo | str, bytes]]


def archive(members: Members, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, content in members:
            target.writestr(name, content, compression)
    return buffer.getvalue()


def of_kind(kind: int, name: str = "1.mat") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    info.create_system = 3
    return info


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
    content = archive([("1.mat", bytes(size))])
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entries = b""
    for n in range(files):
        entries += content[start:end].replace(b"1.mat", b"%d.mat" % (n % 9 + 1))
    total = struct.pack("<HHI", files, files, len(entries))
    return content[:start] + entries + content[end : end + 8] + total + content[end + 16 :]


def many_files() -> bytes:
    return archive([(f"{n}.mat", b"") for n in range(1, 20_010)], zipfile.ZIP_STORED)


def zip_(outside: Path) -> dict[str, tuple[str, bytes | Callable[[], bytes], str]]:
    one: Members = [("1.mat", b"x" * 500)]
    good = archive(one)
    bomb = archive([("1.mat", bytes(2**26))])
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
        **{f"a name that leads {how}": archive([(name, b"x")]) for how, name in outwards.items()},
        **{
            f"a name that leads {how}, within": zipped({"b.zip": archive([(name, b"x")])})
            for how, name in outwards.items()
        },
        "a link": archive([(of_kind(stat.S_IFLNK), str(outside / "secret.mat").encode())]),
        "a link, and a file through it": archive(
            [(of_kind(stat.S_IFLNK, "data"), str(outside).encode()), ("data/1.mat", b"x")]
        ),
        "a device": archive([(of_kind(stat.S_IFCHR), b"")]),
        "a pipe": archive([(of_kind(stat.S_IFIFO), b"")]),
        "a socket": archive([(of_kind(stat.S_IFSOCK), b"")]),
        "one name twice": archive([("a/1.mat", b"x"), ("b/1.mat", b"y")]),
        "a program": archive([("1.mat", b"x"), ("setup.py", b"import os")]),
        "a hidden file": archive([(".1.mat", b"x")]),
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
        "a long name": archive([("a/" * 30_000 + "1.mat", b"x"), ("b" * 60_000 + ".mat", b"x")]),
        "a name of two lines": archive([("1\n2.mat", b"x")]),
        "a name that is no text": listed(archive([("\u00e9.mat", b"x")]), 46, b"\xff"),
        "another name in the list": listed(good, 46, b"2"),
        "a name that ends early": listed(archive([("1.mat-.exe", b"x")]), 51, b"\0"),
        "encrypted": said(good, 8, b"\1\0"),
        "compressed by nobody": said(good, 10, b"\x63\0"),
        "lzma": archive(one, zipfile.ZIP_LZMA),
        "bzip2": archive(one, zipfile.ZIP_BZIP2),
        "nothing": archive([]),
        "no slices": archive([("README.txt", b"x")]),
        "text": b"<html>" * 100,
    }
    crafted: dict[str, tuple[str, bytes | Callable[[], bytes], str]] = {}
    crafted |= {name: ("a.zip", content, "refused") for name, content in files.items()}
    crafted["many files"] = ("a.zip", many_files, "refused")
    junk = zipped({"__MACOSX/._1.mat": b"x", "a/.DS_Store": b"x", **MEMBERS})
    crafted["a folder's litter"] = ("a.zip", junk, "exact")
    crafted["a packed size beyond the end"] = (
        "a.zip",
        said(zipped(MEMBERS), 20, struct.pack("<I", 2**32 - 2)),
        "exact",
    )
    crafted["something before it"] = ("a.zip", b"#!/bin/sh\nexit\n" + zipped(MEMBERS), "exact")
    crafted["something after it"] = ("a.zip", zipped(MEMBERS) + bytes(99), "exact")
    crafted["another archive before it"] = ("a.zip", good + zipped(MEMBERS), "exact")
    crafted["a comment"] = ("a.zip", ended(zipped(MEMBERS), 20, b"\3\0") + b"abc", "exact")
    return crafted
