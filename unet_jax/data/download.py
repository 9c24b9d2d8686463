"""The Figshare dataset: fetch the article's archives, verify them, and unpack their slices."""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from unet_jax import __version__
from unet_jax.config import FIGSHARE_API, UserError

ARTICLE = 1512427
PAGE = f"https://doi.org/10.6084/m9.figshare.{ARTICLE}"
DIGESTS = "MD5SUMS"
"""In the target: the digest of each unpacked file, as `md5sum -c` reads it."""

MAX_FILES = 20_000
MAX_TOTAL_BYTES = 8 << 30
"""What an archive may unpack to: the dataset has 3,064 slices of at most 512x512."""

_ARCHIVE = re.compile(r"[A-Za-z0-9][\w.-]*\.zip", re.ASCII)
_SLICE = re.compile(r"[1-9][0-9]{0,8}\.mat")
_BESIDE = {"cvind.mat": "cvind.mat", "readme.txt": "README.txt"}
_JUNK = re.compile(r"__MACOSX/|(.*/)?(\.DS_Store|Thumbs\.db)$")
_DIGEST = re.compile(r"(?P<md5>[0-9a-f]{32})  (?P<name>data/[1-9][0-9]*\.mat|cvind\.mat|README\.txt)")
_PIECE = 1 << 20

Say = Callable[[str], object]
Read = Callable[[int], bytes]


@dataclass(frozen=True)
class RemoteFile:
    """One file of the article."""

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]
    """Where it can be had, to be tried in order."""


def download(out: Path, *, api: str = FIGSHARE_API, keep_archives: bool = False, progress: bool, say: Say) -> list[str]:
    """Bring the dataset to `out`: `data/N.mat`, `cvind.mat`, `README.txt`, and their digests in `MD5SUMS`.

    Archives that were fetched before are used again if their digests are right, and a target that is complete is left
    as it is. Nothing of an archive reaches its place before all archives are unpacked.

    Args:
        out: the folder to fill.
        api: root of Figshare's API, or of a mirror.
        keep_archives: leave the archives in `out/archives`.
        progress: show progress bars.
        say: takes each line for the person.

    Returns:
        The names of the dataset's files, relative to `out`.

    Raises:
        UserError: bytes that do not match their digest, archives with something else in them, or foreign slices in
            the target.
        OSError: the network or the disk failed.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; expected a folder, or a name for a new one.")
    known = read_digests(out)
    if known is not None:
        damaged = find_damaged(out, known, progress)
        if not damaged:
            say(f"{out} is complete; the digests of its {len(known)} files are right.")
            return sorted(known)
        say(f"{len(damaged)} of {len(known)} files are missing or damaged, {damaged[0]} among them: fetching again.")
    elif foreign := _foreign(out):
        raise UserError(f"{foreign} is there already, and not from this command. Give another --out, or remove it.")
    archives, work = out / "archives", out / ".unpacking"
    files = list_files(api, say)
    say(f"{sum(f.size for f in files) / 1e6:.0f} MB to fetch from {api}")
    paths = []
    for file in files:
        say(f"{file.name}, {file.size / 1e6:.1f} MB")
        paths.append(fetch(file, archives, progress, say))
    say(f"unpacking to {out}")
    try:
        digests = unpack(paths, work, progress)
        # Before the files themselves: from here on the next run knows whose they are, and mends what is missing.
        _write_digests(out, digests)
        for name in digests:
            (out / name).parent.mkdir(exist_ok=True)
            os.replace(work / name, out / name)
        for name in set(known or ()) - set(digests):
            (out / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not keep_archives:
        for path in paths:
            path.unlink()
        if not any(archives.iterdir()):
            archives.rmdir()
    return sorted(digests)


def list_files(api: str, say: Say) -> list[RemoteFile]:
    """Ask the API for the article's files.

    Args:
        api: root of the API.
        say: told of files of the article that are none of the dataset's.

    Raises:
        UserError: no address, or an answer that is no article with archives.
        OSError: the network failed.
    """
    if not api.startswith(("https://", "http://")):
        raise UserError(
            f"--api is {api}; expected an address that starts with https:// (the default is {FIGSHARE_API})."
        )
    api = api.rstrip("/")
    address, buffer = f"{api}/articles/{ARTICLE}", io.BytesIO()
    _get(address, buffer, progress=False)
    try:
        listed = json.loads(buffer.getvalue())["files"]
        found = [_remote_file(entry, api) for entry in listed]
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{address} did not answer with a Figshare article ({type(e).__name__}: {e}).") from e
    wanted = [f for f in found if _ARCHIVE.fullmatch(f.name) or f.name.lower() in _BESIDE]
    for file in found:
        if file not in wanted:
            say(f"left out: {file.name!r}, no part of the dataset")
    if not any(_ARCHIVE.fullmatch(f.name) for f in wanted):
        raise UserError(f"{address} lists no zip archive; expected the dataset's.")
    if len({f.name.lower() for f in wanted}) < len(wanted):
        raise UserError(f"{address} lists two files of one name.")
    return wanted


def _remote_file(entry: dict[str, Any], api: str) -> RemoteFile:
    name, size = str(entry["name"]), int(entry["size"])
    md5 = str(entry.get("computed_md5") or entry["supplied_md5"]).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise ValueError(f"{name} has no MD5")
    url = str(entry["download_url"])
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{name} is at {url}")
    # Figshare's download host at times answers programs with an empty page; its API serves the same bytes.
    by_api = (f"{api}/file/download/{entry['id']}",) if "id" in entry else ()
    return RemoteFile(name, size, md5, (url, *by_api))


def fetch(file: RemoteFile, folder: Path, progress: bool, say: Say) -> Path:
    """Fetch a file of the article into `folder`, unless it is there already, and verify its MD5.

    Raises:
        UserError: the bytes have another digest.
        OSError: the network or the disk failed.
    """
    import pooch

    # Its own lines would say each thing a second time.
    pooch.get_logger().setLevel("WARNING")
    wrong: list[int] = []

    def downloader(url: str, path: str, _: object) -> None:
        _get(url, path, progress)
        size = os.path.getsize(path)
        if not size:
            raise ConnectionError(f"{url} answered with an empty page")
        wrong.append(size)

    failure: Exception | None = None
    for url in file.urls:
        try:
            # pooch's own type for it has other parameter names than pooch calls it with.
            return Path(pooch.retrieve(url, f"md5:{file.md5}", file.name, folder, downloader=cast(Any, downloader)))
        except (ConnectionError, ValueError) as e:  # ValueError is pooch's for another digest
            failure = failure or e
        if url != file.urls[-1]:
            say(f"{file.name}: not at {url}; trying {file.urls[-1]}")
    by_hand = f"Try again later, or fetch it in a browser from {PAGE} into {folder} and run this again."
    if wrong:
        raise UserError(
            f"{file.name} came with {wrong[-1]} bytes that have another MD5 than the article's {file.size} bytes, "
            f"{file.md5}. {by_hand}"
        ) from failure
    raise ConnectionError(f"{file.name} could not be fetched: {failure}. {by_hand}") from failure


def _get(url: str, target: Any, progress: bool) -> None:
    import pooch
    import requests

    headers = {"User-Agent": f"unet-jax/{__version__}"}
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, headers=headers)
    try:
        downloader(url, target, None)
    except requests.HTTPError as e:
        response = e.response
        assert response is not None, "a status is raised for a response alone"
        response.close()  # pooch leaves it open
        raise ConnectionError(f"{url} answered with HTTP {response.status_code}") from e
    except requests.RequestException as e:
        raise ConnectionError(f"{url} cannot be reached ({_root(e)}); check the network and its proxy") from e


def _root(error: BaseException) -> str:
    # The innermost error is the one that means something: "Connection refused", "Name or service not known".
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


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
        UserError: a damaged archive, or one with something else in it.
    """
    from tqdm import tqdm

    shutil.rmtree(work, ignore_errors=True)
    (work / "data").mkdir(parents=True)
    with tqdm(total=sum(f.stat().st_size for f in files), unit="B", unit_scale=True, disable=not progress) as bar:
        unpacking = _Unpacking(work, bar.update)
        for file in files:
            if _ARCHIVE.fullmatch(file.name):
                unpacking.archive(file, str(file), nested=False)
            else:
                with file.open("rb") as source:
                    unpacking.keep(source.read, _BESIDE[file.name.lower()], str(file))
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
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    self._member(archive, member, f"{shown}: {member.filename!r}", nested)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error) as e:
            raise UserError(f"{shown} is a damaged archive ({e}). Remove it, and run this again.") from e

    def keep(self, read: Read, name: str, shown: str) -> None:
        """Write a file of the dataset."""
        if name in self.digests:
            raise UserError(f"{shown} is there twice; expected each file once.")
        md5 = _md5()
        with (self._work / name).open("xb") as target:
            while piece := read(_PIECE):
                md5.update(piece)
                target.write(piece)
        self.digests[name] = md5.hexdigest()

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str, nested: bool) -> None:
        path, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or any(set(part) & set("\\:") for part in path.parts):
            raise UserError(f"{shown} leads out of the archive's folder.")
        if member.is_dir() or _JUNK.match(member.filename):
            return
        plain = kind in (0, stat.S_IFREG) and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or member.flag_bits & 1:
            raise UserError(f"{shown} is a link, encrypted or oddly compressed; expected plain files.")
        self._members, self._bytes = self._members + 1, self._bytes + member.file_size
        if self._members > MAX_FILES or self._bytes > MAX_TOTAL_BYTES:
            raise UserError(
                f"{shown} is beyond {MAX_FILES} files or {MAX_TOTAL_BYTES >> 30} GiB; the dataset is about 2 GB."
            )
        with archive.open(member) as source:
            if _SLICE.fullmatch(path.name):
                self.keep(source.read, f"data/{path.name}", shown)
            elif path.name.lower() in _BESIDE:
                self.keep(source.read, _BESIDE[path.name.lower()], shown)
            elif _ARCHIVE.fullmatch(path.name) and not nested:
                self._inner(source.read, shown)
                return
            else:
                raise UserError(f"{shown} is no part of the dataset.")
        self._advance(member.compress_size)

    def _inner(self, read: Read, shown: str) -> None:
        inner = self._work / "inner.zip"
        with inner.open("wb") as target:
            while piece := read(_PIECE):
                target.write(piece)
        self.archive(inner, shown, nested=True)
        inner.unlink()


def read_digests(out: Path) -> dict[str, str] | None:
    """The digests of a finished download's files, by name relative to `out`; None where there was no such download.

    Raises:
        UserError: the file of digests is not as `download` writes it.
    """
    path = out / DIGESTS
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        lines = [""]
    found = [_DIGEST.fullmatch(line) for line in lines]
    digests = {m["name"]: m["md5"] for m in found if m}
    if not digests or len(digests) < len(lines):
        raise UserError(f"{path} is not as this command writes it. Give another --out, or remove it and the dataset.")
    return digests


def find_damaged(out: Path, digests: dict[str, str], progress: bool) -> list[str]:
    """The names whose files are missing or have another digest."""
    from tqdm import tqdm

    damaged = []
    for name, md5 in tqdm(digests.items(), unit="file", disable=not progress):
        try:
            with (out / name).open("rb") as f:
                right = hashlib.file_digest(f, _md5).hexdigest() == md5
        except FileNotFoundError:
            right = False
        if not right:
            damaged.append(name)
    return damaged


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _write_digests(out: Path, digests: dict[str, str]) -> None:
    part = out / f".{DIGESTS}.part"
    part.write_text("".join(f"{md5}  {name}\n" for name, md5 in sorted(digests.items())))
    os.replace(part, out / DIGESTS)


def _foreign(out: Path) -> Path | None:
    """A file that unpacking would write over, or that would pass for a slice of the dataset."""
    places: Iterable[Path] = (*(out / name for name in _BESIDE.values()), *(out / "data").glob("*.mat"))
    return next((p for p in places if p.exists()), None)
