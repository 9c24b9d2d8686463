"""Figshare article of the dataset: download its archives, verify them, and unpack their slices."""

import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.config import FIGSHARE_API, TUMORS, UserError
from unet_jax.data.check.findings import PUBLISHED
from unet_jax.data.download.digests import find_damaged, has_md5, read_digests, write_digests
from unet_jax.data.download.fetch import Fetch, Say, WrongContent
from unet_jax.data.download.unpack import ARCHIVE, BESIDE, MAX_TOTAL_BYTES, plain_name, unpack
from unet_jax.imaging.formats.mat import SliceError, read_folds, read_patient
from unet_jax.shared.files import naming, writing_in
from unet_jax.shared.progress import track

ARTICLE = 1512427
PAGE = f"https://doi.org/10.6084/m9.figshare.{ARTICLE}"

MAX_ARTICLE_BYTES = 4 << 20
"""Largest answer of the API that is taken; the article's has a few kilobytes."""
MAX_ARCHIVES = 100


@dataclass(frozen=True)
class RemoteFile:
    """One file of the article."""

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]
    """Addresses, to be tried in order."""


def download(out: Path, *, api: str = FIGSHARE_API, keep_archives: bool = False, say: Say) -> list[str]:
    """Download the dataset to `out`: `data/N.mat`, `cvind.mat`, `README.txt`, and their digests in `MD5SUMS`.

    Archives that are in `out` or its `archives`, and hold the whole dataset, are unpacked without asking the network.
    What an earlier call fetched is used again: archives with the right digest, and the beginning of an unfinished one.
    A target that is complete is left alone. No file reaches its place before all archives are unpacked.

    Args:
        out: the folder to fill.
        api, keep_archives: as the command's options.
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
    known, there, foreign = read_digests(out), find_archives(out), list[Path]()
    if known is not None:
        damaged = find_damaged(out, known)
        if not damaged:
            say(f"{out} is complete; the digests of its {len(known)} files are right.")
            return sorted(known)
        say(f"{len(damaged)} of {len(known)} files are missing or damaged, {damaged[0]} among them.")
    else:
        # Files that unpacking would overwrite, or that would pass for slices of the dataset.
        places = (*(out / name for name in BESIDE.values()), *(out / "data").glob("*.mat"))
        foreign = [path for path in places if path.exists()]
        _refuse([path for path in foreign if path not in there])
    archives, work = out / "archives", out / ".unpacking"
    with writing_in(out, "Give another --out."):
        archives.mkdir(parents=True, exist_ok=True)
    try:
        paths = [path for path in there if path.parent == archives]
        digests = unpack_whole(there, work, say) if there else None
        if digests is None:
            _refuse(foreign)
            paths = fetch_files(api, archives, say)
            say(f"unpacking to {out}")
            digests = unpack(paths, work)
        # Before the files themselves: from here on the next run knows whose they are, and mends what is missing.
        write_digests(out, digests)
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


def _refuse(foreign: list[Path]) -> None:
    if foreign:
        raise UserError(f"{foreign[0]} is there already, and not from this command. Give another --out, or remove it.")


def find_archives(out: Path) -> list[Path]:
    """List the archives in OUT/archives, or else in OUT, with the dataset's other files beside them.

    Returns:
        Paths, of a file that a browser downloaded several times the first; none where there is no archive, or an
        unfinished one.
    """
    for folder in (out / "archives", out):
        paths = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        if any(path.suffix == ".part" for path in paths):
            return []
        # NAME comes last, and stays: "NAME (2)", "NAME (1)", "NAME".
        by_name = {plain_name(p.name): p for p in sorted(paths, key=lambda p: (len(p.name), p.name), reverse=True)}
        if any(ARCHIVE.fullmatch(name) for name in by_name):
            return [by_name[n] for n in sorted(by_name) if ARCHIVE.fullmatch(n) or n.lower() in BESIDE]
    return []


def unpack_whole(files: Sequence[Path], work: Path, say: Say) -> dict[str, str] | None:
    """Unpack archives that were not fetched by this command, if they hold the whole dataset.

    Args:
        files, work: as in `unpack`.
        say: told what is missing.

    Returns:
        As `unpack`; None where they are damaged, or do not hold the slices that their `cvind.mat` names or, without
        one, those of the published dataset.
    """
    folder = files[0].parent
    say(f"unpacking what is in {folder}, which nothing compares with the article's digests")
    try:
        digests = unpack(files, work)
        folds = read_folds(work / "cvind.mat") if "cvind.mat" in digests else None
    except UserError as e:
        # Files are called by their names in the archives, not in a folder that is gone soon.
        say(f"{str(e).removeprefix(f'{work}/').rstrip('.')}. Asking for the article.")
        return None
    slices = {int(Path(name).stem) for name in digests if name.startswith("data/")}
    named = set(range(1, PUBLISHED["slices"] + 1) if folds is None else (np.flatnonzero(folds) + 1).tolist())
    if slices != named:
        by, lacking = "cvind.mat names" if folds is not None else "and no cvind.mat; the dataset has", named - slices
        first = f"; {min(lacking)}.mat is the first of {len(lacking)} that lack" if lacking else ""
        say(f"{folder} holds {len(slices)} slices, {by} {len(named)}{first}. Asking for the article.")
        return None
    if folds is None:
        say(
            f"There is no cvind.mat, so that `--split.kind official` will lack its folds. Fetch it in a browser from "
            f"{PAGE} into {work.parent} to have them."
        )
    return digests


def fetch_files(api: str, folder: Path, say: Say) -> list[Path]:
    """Fetch the article's files into a folder; arguments and errors as those of `list_files` and `fetch_file`."""
    try:
        files = list_files(api, say)
    except ConnectionError as e:
        # An empty folder is removed, and the one above it is as good.
        place = folder if any(folder.iterdir()) else folder.parent
        raise ConnectionError(f"{e}. {_by_hand('the archives', place)}") from e
    say(f"{sum(f.size for f in files) / 1e6:.0f} MB to fetch from {api}")
    paths = []
    for file in files:
        say(f"{file.name}, {file.size / 1e6:.1f} MB")
        paths.append(fetch_file(file, folder, say))
    return paths


def list_files(api: str, say: Say) -> list[RemoteFile]:
    """Ask the API for the article's files; tell `say` of those that are no part of the dataset.

    Raises:
        UserError: no address, or an answer that is no article with archives.
        OSError: the network failed.
    """
    if not api.startswith(("https://", "http://")):
        raise UserError(
            f"--api is {api}; expected an address that starts with https:// (the default is {FIGSHARE_API})."
        )
    api = api.rstrip("/")
    address, answer = f"{api}/articles/{ARTICLE}", io.BytesIO()
    try:
        Fetch(urls=[address], target=answer, limit=MAX_ARTICLE_BYTES, say=say).run()
        found = [_remote_file(entry, api) for entry in json.loads(answer.getvalue())["files"]]
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


def fetch_file(file: RemoteFile, folder: Path, say: Say) -> Path:
    """Fetch a file of the article into `folder`, unless it is there already, and verify its MD5.

    An unfinished file has a hidden name, under which the next call finds it and goes on.

    Raises:
        UserError: the bytes have another digest; they are removed.
        OSError: the network or the disk failed.
    """
    path, part = folder / file.name, folder / f".{file.name}.part"
    if has_md5(path, file.md5):
        return path
    if path.exists():
        say(f"{path} has another MD5 than the article's file: fetching it again")
    by_hand = _by_hand("it", folder)
    try:
        with naming(part), part.open("a+b") as target:
            Fetch(
                urls=file.urls,
                target=target,
                size=file.size,
                md5=file.md5,
                limit=file.size,
                say=say,
                name=file.name,
            ).run()
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


def _by_hand(what: str, folder: Path) -> str:
    return (
        f"Try again later, or fetch {what} in a browser from {PAGE} into {folder} and run this again; where archives "
        "are unpacked already, give the folder above them to `unet_jax.convert --raw`."
    )


def count_slices(out: Path, names: Sequence[str]) -> tuple[str, list[UserError]]:
    """Count the slices among the names that `download` returned for `out`, by tumour type, and their patients.

    Returns:
        "N slices of M patients (A meningioma, B glioma, C pituitary)", of those that can be read, and what is wrong
        with the others.
    """
    read: list[tuple[int, str]] = []
    unreadable: list[UserError] = []
    slices = [name for name in names if name.startswith("data/")]
    for name in track(slices, len(slices), "count"):
        try:
            read.append(read_patient(out / name))
        except SliceError as e:
            unreadable.append(e)
    labels, patients = Counter(label for label, _ in read), {pid for _, pid in read}
    tumors = ", ".join(f"{labels[label]} {name}" for label, name in enumerate(TUMORS, 1))
    return f"{len(read)} slices of {len(patients)} patients ({tumors})", unreadable
