"""Reads damaged and hostile files in a process of its own, which one of them may end; run by test_files.py.

    python tests/faults/read_cases.py FOLDER --seed SEED --rounds N [--sample N] [--case NAME] FORMAT...

prints a line of JSON before and after each file: its format and name, and what is wrong with how it was read, if
anything is. It sets limits to itself: MEMORY beyond what it has at the start, and SECONDS of processor time a file.
"""

import argparse
import json
import re
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mutate import Case, crafted, mutated
from specimens import MEMBERS, SPECIMENS

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import FILES, open_arrays
from unet_jax.data.download.unpack import unpack
from unet_jax.imaging import read as imaging
from unet_jax.imaging.formats import mat as figshare
from unet_jax.imaging.scan import Reading

MEMORY = 3 << 29
SECONDS, PATIENCE = 5, 120
_ALLOCATION = re.compile("alloc[a-z]* failed|(unable to|can't|cannot|failed to) alloc")
SECRET = 12_321
"""What every pixel outside has."""


def read_mat(path: Path) -> list[Any]:
    one = figshare.read_slice(path)
    return [one.image, one.mask, one.border, one.label, one.pid, imaging.read_image(path)]


def read_slices(path: Path) -> list[Any]:
    slices = imaging.open(path, Reading(upright=True))
    images = np.stack([np.ma.filled(slices.read(i), 0) for i in range(len(slices))])
    assert np.isfinite(images).all(), "values that are not finite"
    return [images]


def read_dataset(path: Path) -> list[Any]:
    opened = open_arrays(path.parent)
    native = [opened.native_mask(row) for row in range(len(opened))]
    return [np.array(opened.images), np.array(opened.masks), *native]


def read_archive(path: Path) -> list[Any]:
    unpack([path], path.parent / "work")
    places = [path.parent / "work" / ("data" * name[0].isdigit()) / name for name in MEMBERS]
    return [place.read_bytes() if place.exists() else None for place in places]


DATASET = ("dataset.json", *FILES)
"""A file of a dataset may be the damaged one, and another one that which is named."""


def write(folder: Path, file: str, content: bytes, beside: Mapping[str, bytes]) -> Path:
    """Make the folder anew, with the file in it and those beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, other in beside.items():
        (folder / name).write_bytes(other)
    (folder / file).write_bytes(content)
    if beside and file != "dataset.json":
        # Else its size would give it away.
        info = json.loads(beside["dataset.json"])
        info["files"][file]["bytes"] = len(content)
        (folder / "dataset.json").write_text(json.dumps(info))
    return folder / file


READERS: dict[str, Callable[[Path], list[Any]]] = {
    **dict.fromkeys(("npy", "npz", "png", "jpeg", "tiff", "bmp", "pictures"), read_slices),
    **dict.fromkeys(("dicom", "nifti", "mgh", "nrrd", "mha"), read_slices),
    "dataset": read_dataset,
    "mat": read_mat,
    "zip": read_archive,
}


class Watch:
    """Sees what is opened by Python in the folder, besides the file read, and what is changed there."""

    def __init__(self, root: Path):
        self.root, self.opened = root, list[str]()
        self.own: Path | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.own is None:
            return
        if event in ("os.system", "subprocess.Popen", "pickle.find_class"):
            self.opened.append(event)
        if event == "open" and isinstance(args[0], str) and str(self.root) in args[0]:
            path = Path(args[0])
            if path.parent != self.own.parent and self.own.parent / "work" not in path.parents:
                self.opened.append(args[0])

    def listing(self) -> dict[str, tuple[int, int]]:
        return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in self.root.rglob("*") if not p.is_dir()}


def alike(rule: str, got: list[Any], wanted: list[Any] | None) -> bool:
    if rule == "refused":
        return False
    pairs = list(zip(got, wanted, strict=True)) if wanted is not None else []
    if rule == "exact":
        return all(type(a) is type(b) and np.array_equal(a, b) for a, b in pairs)
    if rule == "shape":
        return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs if isinstance(a, np.ndarray))
    return True


def chain(error: BaseException) -> list[BaseException]:
    return [error, *(chain(cause) if (cause := error.__cause__ or error.__context__) else [])]


def ran_out(error: BaseException) -> bool:
    """Whether it is about memory that would be filled.

    Not meant are Python's parser, which says so of what nests too deeply for it, and the headers of HDF5, for which the
    library makes room before it sees that the file ends sooner.
    """
    frames = traceback.extract_tb(error.__traceback__)
    parser = frames and frames[-1].filename.endswith("ast.py")
    said = _ALLOCATION.search(str(error)) and "on disk image buffer" not in str(error)
    return (isinstance(error, MemoryError) and not parser) or bool(said)


def fault(case: Case, path: Path, read: Callable[[Path], list[Any]], wanted: list[Any] | None) -> str | None:
    """What is wrong with how the file is read."""
    try:
        got = read(path)
    except UserError as e:
        named = path.parent if path.name in DATASET else path
        if str(named) not in str(e) or "\n" in str(e):
            return f"an error that does not name the file in one line: {e}"
        if any(ran_out(cause) for cause in chain(e)):
            return f"too much memory: {e}"
        return None
    except Exception as e:
        return f"{type(e).__name__} instead of an error for the person: {e}"
    if any(isinstance(part, np.ndarray) and (part == SECRET).all() and part.size for part in got):
        return "what is in another file"
    if not alike(case.rule, got, wanted):
        shown = [(part.shape, str(part.dtype)) if isinstance(part, np.ndarray) else part for part in got]
        return f"read as {shown}; expected an error{' or ' + case.rule if case.rule != 'refused' else ''}"[:500]
    return None


def limit_memory() -> None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except FileNotFoundError:
        return  # only Linux tells
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("formats", nargs="+", choices=SPECIMENS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--case", help="the only one to be read")
    options = parser.parse_args()

    root, place = options.folder.absolute(), options.folder.absolute() / "place"
    outside = root / "outside"
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch(root)
    for format in options.formats:
        good = SPECIMENS[format]()
        wanted = {}
        with imaging.silent_readers():
            for specimen in good:
                path = write(place, specimen.file, specimen.content, specimen.beside)
                wanted[specimen.name] = READERS[format](path)
        cases = [*mutated(format, options.seed, options.rounds)]
        if options.sample is not None:
            rng = np.random.default_rng(options.seed)
            cases = [cases[i] for i in rng.permutation(len(cases))[: options.sample]]
        for case in [*cases, *crafted(format, outside, options.seed, options.sample)]:
            if options.case not in (None, case.name):
                continue
            path = write(place, case.file, case.content, good[0].beside)
            before = watch.listing()
            print(json.dumps({"format": format, "case": case.name}), flush=True)
            soft = resource.getrlimit(resource.RLIMIT_AS)
            limit_memory()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            watch.own = path
            with imaging.silent_readers():
                name = case.specimen.name if case.specimen else None
                expected = list(MEMBERS.values()) if format == "zip" else wanted.get(name or "")
                wrong = fault(case, path, READERS[format], expected)
            watch.own = None
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, soft)
            shutil.rmtree(place / "work", ignore_errors=True)
            wrong = [] if wrong is None else [wrong]
            if watch.opened:
                wrong.append(f"opened {watch.opened}")
                watch.opened.clear()
            if watch.listing() != before:
                wrong.append("changed what is beside it")
            print(json.dumps({"format": format, "case": case.name, "fault": "; ".join(wrong)}), flush=True)


if __name__ == "__main__":
    main()
