"""The Figshare dataset: fetch the article's archives, verify them, and unpack their slices."""

import hashlib
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_jax.config import FIGSHARE_API, TUMORS, UserError
from unet_jax.data.disk import naming
from unet_jax.data.download import fetch as http
from unet_jax.data.download.fetch import Patience, Say, WrongContent
from unet_jax.data.download.unpack import ARCHIVE, BESIDE, MAX_TOTAL_BYTES, new_md5, unpack

ARTICLE = 1512427
PAGE = f"https://doi.org/10.6084/m9.figshare.{ARTICLE}"
DIGESTS = "MD5SUMS"
"""In the target: the digest of each unpacked file, as `md5sum -c` reads it."""

MAX_ARTICLE_BYTES = 4 << 20
"""Of the API's answer, which is a few kilobytes."""
MAX_ARCHIVES = 100

_DIGEST = re.compile(r"(?P<md5>[0-9a-f]{32})  (?P<name>data/[1-9][0-9]*\.mat|cvind\.mat|README\.txt)")


@dataclass(frozen=True)
class RemoteFile:
    """One file of the article."""

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]
    """Where it can be had, to be tried in order."""


def download(
    out: Path,
    *,
    api: str = FIGSHARE_API,
    keep_archives: bool = False,
    progress: bool,
    say: Say,
    patience: Patience | None = None,
) -> list[str]:
    """Bring the dataset to `out`: `data/N.mat`, `cvind.mat`, `README.txt`, and their digests in `MD5SUMS`.

    What was fetched before is used again: archives if their digests are right, of an unfinished one the beginning. A
    target that is complete is left as it is. Nothing of an archive reaches its place before all archives are unpacked.

    Args:
        out: the folder to fill.
        api: root of Figshare's API, or of a mirror.
        keep_archives: leave the archives in `out/archives`.
        progress: show progress bars.
        say: takes each line for the person.
        patience: with the server; default `fetch.PATIENCE`.

    Returns:
        The names of the dataset's files, relative to `out`.

    Raises:
        UserError: bytes that do not match their digest, archives with something else in them, or foreign slices in
            the target.
        OSError: the network or the disk failed.
    """
    patience = patience or http.PATIENCE
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
    try:
        archives.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{out} cannot be written to ({e.strerror}). Give another --out.") from e
    try:
        files = list_files(api, say, patience)
        say(f"{sum(f.size for f in files) / 1e6:.0f} MB to fetch from {api}")
        paths = []
        for file in files:
            say(f"{file.name}, {file.size / 1e6:.1f} MB")
            paths.append(fetch_file(file, archives, progress, say, patience))
        say(f"unpacking to {out}")
        digests = unpack(paths, work, progress)
        # Before the files themselves: from here on the next run knows whose they are, and mends what is missing.
        _write_digests(out, digests)
        for name in digests:
            (out / name).parent.mkdir(exist_ok=True)
            os.replace(work / name, out / name)
        for name in set(known or ()) - set(digests):
            (out / name).unlink(missing_ok=True)
        if not keep_archives:
            for path in paths:
                path.unlink()
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not any(archives.iterdir()):
            archives.rmdir()
    return sorted(digests)


def list_files(api: str, say: Say, patience: Patience) -> list[RemoteFile]:
    """Ask the API for the article's files.

    Args:
        api: root of the API.
        say: told of files of the article that are none of the dataset's, and of further attempts.
        patience: with the server.

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
    try:
        http.fetch([address], buffer, limit=MAX_ARTICLE_BYTES, right=lambda _: True, patience=patience, say=say)
        listed = json.loads(buffer.getvalue())["files"]
        found = [_remote_file(entry, api) for entry in listed]
    except WrongContent as e:
        raise UserError(f"{address} answered with {e.length} bytes; expected a Figshare article.") from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(f"{address} did not answer with a Figshare article ({type(e).__name__}: {e}).") from e
    wanted = [f for f in found if ARCHIVE.fullmatch(f.name) or f.name.lower() in BESIDE]
    for file in found:
        if file not in wanted:
            say(f"left out: {file.name!r}, no part of the dataset")
    if not any(ARCHIVE.fullmatch(f.name) for f in wanted):
        raise UserError(f"{address} lists no zip archive; expected the dataset's.")
    if len({f.name.lower() for f in wanted}) < len(wanted):
        raise UserError(f"{address} lists two files of one name.")
    total = sum(f.size for f in wanted)
    if len(wanted) > MAX_ARCHIVES or total > MAX_TOTAL_BYTES:
        raise UserError(f"{address} lists {len(wanted)} files of {total} bytes; the dataset has some 900 MB in 6.")
    return wanted


def _remote_file(entry: dict[str, Any], api: str) -> RemoteFile:
    name, size = str(entry["name"]), int(entry["size"])
    if size < 0:
        raise ValueError(f"{name} has {size} bytes")
    md5 = str(entry.get("computed_md5") or entry["supplied_md5"]).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise ValueError(f"{name} has no MD5")
    url = str(entry["download_url"])
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{name} is at {url}")
    # Figshare's download host at times answers programs with an empty page; its API serves the same bytes.
    by_api = (f"{api}/file/download/{entry['id']}",) if "id" in entry else ()
    return RemoteFile(name, size, md5, (url, *by_api))


def fetch_file(file: RemoteFile, folder: Path, progress: bool, say: Say, patience: Patience) -> Path:
    """Fetch a file of the article into `folder`, unless it is there already, and verify its MD5.

    Until it is whole and right it has a hidden name. What came of it stays there, and the next call goes on from it.

    Raises:
        UserError: the bytes have another digest; they are removed.
        OSError: the network or the disk failed.
    """

    def right(content: Any) -> bool:
        return hashlib.file_digest(content, new_md5).hexdigest() == file.md5

    path, part = folder / file.name, folder / f".{file.name}.part"
    if path.exists():
        with path.open("rb") as f:
            if right(f):
                return path
        say(f"{path} has another MD5 than the article's file: fetching it again")
    by_hand = f"Try again later, or fetch it in a browser from {PAGE} into {folder} and run this again."
    try:
        with naming(part), part.open("a+b") as target:
            http.fetch(
                file.urls,
                target,
                size=file.size,
                limit=file.size,
                right=right,
                patience=patience,
                say=say,
                progress=progress,
            )
    except WrongContent as e:
        part.unlink()
        raise UserError(
            f"{file.name} came with {e.length} bytes that have another MD5 than the article's {file.size} bytes, "
            f"{file.md5}; they were removed. {by_hand}"
        ) from e
    except ConnectionError as e:
        raise ConnectionError(f"{file.name} could not be fetched: {e}. {by_hand}") from e
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
    os.replace(part, path)
    return path


def read_digests(out: Path) -> dict[str, str] | None:
    """The digests of a finished download's files, by name relative to `out`; None where there was no such download.

    Raises:
        UserError: the file of digests is not as `download` writes it.
    """
    path = out / DIGESTS
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
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
                right = hashlib.file_digest(f, new_md5).hexdigest() == md5
        except FileNotFoundError:
            right = False
        if not right:
            damaged.append(name)
    return damaged


def count_slices(out: Path, names: Sequence[str], progress: bool) -> tuple[str, list[UserError]]:
    """Say how many slices there are, of which tumours and how many patients.

    Args:
        out: the folder of a download.
        names: what `download` returned for it.
        progress: show a progress bar.

    Returns:
        "N slices of M patients (A meningioma, B glioma, C pituitary)", of those that can be read, and what is wrong
        with the others.
    """
    from tqdm import tqdm

    from unet_jax.data.figshare import SliceError, read_patient

    labels: Counter[int] = Counter()
    patients: set[str] = set()
    unreadable: list[UserError] = []
    for name in tqdm([n for n in names if n.startswith("data/")], unit="slice", disable=not progress):
        try:
            label, pid = read_patient(out / name)
        except SliceError as e:
            unreadable.append(e)
            continue
        labels[label] += 1
        patients.add(pid)
    tumors = ", ".join(f"{labels[label]} {name}" for label, name in enumerate(TUMORS, 1))
    return f"{labels.total()} slices of {len(patients)} patients ({tumors})", unreadable


def _write_digests(out: Path, digests: dict[str, str]) -> None:
    part = out / f".{DIGESTS}.part"
    try:
        with naming(part):
            part.write_text("".join(f"{md5}  {name}\n" for name, md5 in sorted(digests.items())))
        os.replace(part, out / DIGESTS)
    finally:
        part.unlink(missing_ok=True)


def _foreign(out: Path) -> Path | None:
    """A file that unpacking would write over, or that would pass for a slice of the dataset."""
    places: Iterable[Path] = (*(out / name for name in BESIDE.values()), *(out / "data").glob("*.mat"))
    return next((p for p in places if p.exists()), None)
