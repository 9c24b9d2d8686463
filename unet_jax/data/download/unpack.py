"""The dataset's archives to its files, whatever else an archive may hold."""

import errno
import hashlib
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from unet_jax.config import UserError
from unet_jax.data.disk import naming
from unet_jax.data.untrusted import Clamped

ARCHIVE = re.compile(r"[A-Za-z0-9][\w.-]*\.zip", re.ASCII)
BESIDE = {"cvind.mat": "cvind.mat", "readme.txt": "README.txt"}
"""Files of the dataset that are no slices, by their name in lower case."""

MAX_FILES = 20_000
MAX_TOTAL_BYTES = 8 << 30
"""What the archives may unpack to: the dataset has 3,064 slices of at most 512x512."""
MAX_RATIO = 200
"""Of a file's size to what it takes in an archive; its slices are compressed already."""
SMALL = 1 << 20
"""Bytes that any file may unpack to, whatever the ratio."""
MAX_READ_BYTES = 8 << 20
"""At a time of an archive, and so of its list of contents."""

_SLICE = re.compile(r"[1-9][0-9]{0,8}\.mat")
_JUNK = re.compile(r"__MACOSX/|(.*/)?(\.DS_Store|Thumbs\.db)$")
_PIECE = 1 << 20
_END = struct.Struct("<10xH8xH")
"""The end of the list of contents: how many entries it has, how long the comment is that follows."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError, OverflowError)
"""The last two are of names that are no UTF-8, and of places before the file's beginning or beyond any file's end."""

Read = Callable[[int], bytes]


def new_md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def unpack(files: Sequence[Path], work: Path, progress: bool) -> dict[str, str]:
    """Unpack archives, and archives inside them, to `work/data/N.mat`, `work/cvind.mat` and `work/README.txt`.

    Folders inside an archive do not matter, names do: nothing is written but regular files of the names expected.

    Args:
        files: zip archives of slices or of such archives; `cvind.mat` and `README.txt` are taken over as they are.
        work: a folder that this call makes anew.
        progress: show a progress bar.

    Returns:
        MD5 by name relative to `work`.

    Raises:
        UserError: a damaged archive, one with something else in it, or one beyond the limits above.
        OSError: the disk failed.
    """
    from tqdm import tqdm

    shutil.rmtree(work, ignore_errors=True)
    (work / "data").mkdir(parents=True)
    with tqdm(total=sum(f.stat().st_size for f in files), unit="B", unit_scale=True, disable=not progress) as bar:
        unpacking = _Unpacking(work, bar.update)
        for file in files:
            if ARCHIVE.fullmatch(file.name):
                unpacking.archive(file, str(file), nested=False)
            else:
                with file.open("rb") as source:
                    unpacking.keep(source.read, BESIDE[file.name.lower()], str(file))
    if not any(name.startswith("data/") for name in unpacking.digests):
        raise UserError(f"{', '.join(str(f) for f in files)}: no slice in there; expected files 1.mat, 2.mat, ...")
    return unpacking.digests


class _Unpacking:
    def __init__(self, work: Path, advance: Callable[[int], object]):
        self.digests: dict[str, str] = {}
        self._work, self._advance = work, advance
        self._members = self._bytes = 0

    def archive(self, path: Path, shown: str, *, nested: bool) -> None:
        """Take what `path` holds; `shown` is what to call it."""
        try:
            # The list of contents is read at once, and an object made of each entry.
            with path.open("rb") as file, zipfile.ZipFile(cast(Any, Clamped(file, MAX_READ_BYTES))) as archive:
                members = archive.infolist()
                if len(members) > MAX_FILES:
                    raise UserError(f"{shown} has {len(members)} files; expected at most {MAX_FILES}.")
                _check_whole(file, members)
                for member in members:
                    self._member(archive, member, f"{shown}: {member.filename!r}", nested)
        except _DAMAGE as e:
            raise _damaged(shown, e) from e
        except OSError as e:
            # Of a read, before the beginning of the file; those of writes are about space or permission.
            if e.errno != errno.EINVAL:
                raise
            raise _damaged(shown, e) from e

    def keep(self, read: Read, name: str, shown: str) -> None:
        """Write a file of the dataset."""
        if name in self.digests:
            raise UserError(f"{shown} is there twice; expected each file once.")
        self.digests[name] = self._write(read, self._work / name)

    def _write(self, read: Read, path: Path) -> str:
        md5 = new_md5()
        with naming(path), path.open("xb") as target:
            while piece := read(_PIECE):
                md5.update(piece)
                target.write(piece)
        return md5.hexdigest()

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str, nested: bool) -> None:
        if not member.filename:
            raise UserError(f"{shown} has no name.")
        path, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or any(set(part) & set("\\:") for part in path.parts):
            raise UserError(f"{shown} leads out of the archive's folder.")
        if member.is_dir() or _JUNK.match(member.filename):
            return
        plain = kind in (0, stat.S_IFREG) and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or member.flag_bits & 1:
            raise UserError(f"{shown} is a link, encrypted or oddly compressed; expected plain files.")
        if member.file_size > SMALL + MAX_RATIO * member.compress_size:
            raise UserError(
                f"{shown} takes {member.compress_size} bytes and says that it unpacks to {member.file_size}; expected "
                f"at most {MAX_RATIO} times as many."
            )
        self._members, self._bytes = self._members + 1, self._bytes + member.file_size
        if self._members > MAX_FILES or self._bytes > MAX_TOTAL_BYTES:
            raise UserError(
                f"{shown} is beyond {MAX_FILES} files or {MAX_TOTAL_BYTES >> 30} GiB; the dataset is about 2 GB."
            )
        with archive.open(member) as source:
            if _SLICE.fullmatch(path.name):
                self.keep(source.read, f"data/{path.name}", shown)
            elif path.name.lower() in BESIDE:
                self.keep(source.read, BESIDE[path.name.lower()], shown)
            elif ARCHIVE.fullmatch(path.name) and not nested:
                self._inner(source.read, shown)
                return
            else:
                raise UserError(f"{shown} is no part of the dataset.")
            # zipfile compares the checksum of what it reads, but not whether it reads all.
            if source.tell() != member.file_size:
                raise zipfile.BadZipFile(f"{member.filename!r} has another size than it says")
        self._advance(member.compress_size)

    def _inner(self, read: Read, shown: str) -> None:
        inner = self._work / "inner.zip"
        self._write(read, inner)
        self.archive(inner, shown, nested=True)
        inner.unlink()


def _check_whole(file: BinaryIO, members: Sequence[zipfile.ZipInfo]) -> None:
    """Raise BadZipFile unless the list of contents is of this archive, at its end, and has as many entries as it says.

    An archive that is cut off may end with another one inside it, and a damaged entry hide the next ones.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _END.size - 0xFFFF))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    *_, entries, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail) or (members and min(m.header_offset for m in members) > 0):
        raise zipfile.BadZipFile("it is cut off, or something is before or after it")
    if entries not in (len(members), 0xFFFF):
        raise zipfile.BadZipFile(f"its list of contents has {len(members)} of {entries} entries")


def _damaged(shown: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{shown} is a damaged archive ({reason}). Remove it, and run this again.")
