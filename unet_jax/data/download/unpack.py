"""Archives of the dataset, unpacked to its files: the archives are verified, their members are not trusted."""

import errno
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from unet_jax.config import UserError
from unet_jax.data.download.digests import file_md5
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.shared.files import naming
from unet_jax.shared.progress import progress

ARCHIVE = re.compile(r"[A-Za-z0-9][\w.-]*\.zip", re.ASCII)
BESIDE = {"cvind.mat": "cvind.mat", "readme.txt": "README.txt"}
"""Files of the dataset that are no slices, by their name in lower case."""

MAX_FILES = 20_000
MAX_TOTAL_BYTES = 8 << 30
"""Most bytes that the archives may unpack to; the dataset has 3,064 slices of at most 512x512."""
MAX_RATIO = 200
"""Largest ratio of a member's size to its size in the archive; slices are compressed already."""
SMALL = 1 << 20
"""Bytes that any member may unpack to, whatever the ratio."""
MAX_READ_BYTES = 8 << 20
"""Most bytes of an archive read at a time, and so the longest list of contents."""

_COPY = re.compile(r" ?\([0-9]{1,3}\)(?=\.[A-Za-z]{3}$)")
_SLICE = re.compile(r"[1-9][0-9]{0,8}\.mat")
_JUNK = re.compile(r"__MACOSX/|(.*/)?(\.DS_Store|Thumbs\.db)$")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError, OverflowError)
"""Errors of reading a damaged archive; the last two are of names that are no UTF-8 and of impossible positions."""


def plain_name(name: str) -> str:
    """Take from a name the number that a browser gives to a second download, as in `cvind (1).mat`."""
    return _COPY.sub("", name)


def unpack(files: Sequence[Path], work: Path) -> dict[str, str]:
    """Unpack archives, and archives inside them, to `work/data/N.mat`, `work/cvind.mat` and `work/README.txt`.

    Folders inside an archive do not matter, names do: nothing is written but regular files of the names expected.

    Args:
        files: zip archives of slices or of such archives; `cvind.mat` and `README.txt` are taken over as they are.
            Names may be those of a browser's second download.
        work: a folder that this call makes anew.

    Returns:
        MD5 by name relative to `work`.

    Raises:
        UserError: a damaged archive, one with something else in it, or one beyond the limits above.
        OSError: the disk failed.
    """
    shutil.rmtree(work, ignore_errors=True)
    (work / "data").mkdir(parents=True)
    with progress(sum(f.stat().st_size for f in files), "unpack", "B") as advance:
        unpacking = _Unpacking(work, advance)
        for path in files:
            name = plain_name(path.name)
            with path.open("rb") as file:
                if ARCHIVE.fullmatch(name):
                    unpacking.archive(file, str(path))
                else:
                    unpacking.keep(file, name, str(path))
    if not any(name.startswith("data/") for name in unpacking.digests):
        raise UserError(f"{', '.join(str(f) for f in files)}: no slice in there; expected files 1.mat, 2.mat, ...")
    return unpacking.digests


class _Unpacking:
    def __init__(self, work: Path, advance: Callable[[int], object]):
        self.digests: dict[str, str] = {}
        self._work, self._advance = work, advance
        self._members = self._bytes = 0

    def archive(self, file: Any, shown: str, *, nested: bool = False) -> None:
        """Keep the dataset's files in an open archive, which messages call `shown`."""
        try:
            with zipfile.ZipFile(cast(Any, Clamped(file, MAX_READ_BYTES))) as archive:
                members = archive.infolist()
                self._members += len(members)
                self._bytes += sum(member.file_size for member in members)
                if self._members > MAX_FILES or self._bytes > MAX_TOTAL_BYTES:
                    most = f"{MAX_FILES} files or {MAX_TOTAL_BYTES >> 30} GiB"
                    raise UserError(f"{shown} is beyond {most}; the dataset is about 2 GB.")
                for member in members:
                    self._member(archive, member, f"{shown}: {member.filename!r}", nested)
        except (*_DAMAGE, OSError) as e:
            # A position before the archive's beginning gives EINVAL; other errors of the system are about the disk.
            if isinstance(e, OSError) and e.errno != errno.EINVAL:
                raise
            reason = " ".join(str(e).split()) or type(e).__name__
            raise UserError(f"{shown} is a damaged archive ({reason}). Remove it, and run this again.") from e

    def keep(self, file: Any, name: str, shown: str) -> None:
        """Write an open file that is called `name`, and `shown` in messages, to its place; note its digest."""
        place = f"data/{name}" if _SLICE.fullmatch(name) else BESIDE.get(name.lower())
        if place is None:
            raise UserError(f"{shown} is no part of the dataset.")
        if place in self.digests:
            raise UserError(f"{shown} is there twice; expected each file once.")
        path = self._work / place
        with naming(path), path.open("x+b") as target:
            shutil.copyfileobj(file, target)
            target.seek(0)
            self.digests[place] = file_md5(target)

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str, nested: bool) -> None:
        path, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        if not path.name or path.is_absolute() or ".." in path.parts or set(member.filename) & set("\\:"):
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
        with archive.open(member) as source:
            if nested or not ARCHIVE.fullmatch(path.name):
                self.keep(source, path.name, shown)
                self._advance(member.compress_size)
                return
            inner = self._work / "inner.zip"
            with naming(inner), inner.open("x+b") as file:
                shutil.copyfileobj(source, file)
                self.archive(file, shown, nested=True)
            inner.unlink()
