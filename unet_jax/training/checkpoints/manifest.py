"""Manifest of a checkpoint: sizes and SHA-256 of its files, sealed after the last of them is on the disk."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_jax.shared.files import sync, write_text


class DamageError(Exception):
    """A file that is not as it was written; its message begins with the file's path."""


@dataclass(frozen=True)
class Manifest:
    """The record of one checkpoint."""

    step: int
    metric: float | None
    files: dict[str, list[Any]]
    """Name relative to the checkpoint's folder, with slashes, to [bytes, SHA-256 in hexadecimal]."""


def take(folder: Path, step: int, metric: float | None) -> Manifest:
    """The manifest of the files in `folder`, which are on the disk when this returns, and their folders too."""
    files = {}
    for name, path in _files(folder).items():
        with path.open("r+b") as f:  # Windows syncs only what is open for writing
            os.fsync(f.fileno())
            files[name] = [path.stat().st_size, hashlib.file_digest(f, "sha256").hexdigest()]
    for root, _, _ in os.walk(folder):
        sync(Path(root))
    sync(folder.parent)
    return Manifest(step, metric, files)


def write(path: Path, manifest: Manifest) -> None:
    """Write `manifest` to `path`, whole or not at all, with a digest of its own; on the disk when this returns."""
    body = dataclasses.asdict(manifest)
    write_text(path, json.dumps(body | {"sha256": _digest(body)}, indent=1), durable=True)


def read(path: Path) -> Manifest:
    """Read a manifest that `write` wrote.

    Raises:
        DamageError: it is something else.
        FileNotFoundError: it is absent.
    """
    text = path.read_bytes()
    try:
        body = json.loads(text)
        if body.pop("sha256") == _digest(body):
            return Manifest(**body)
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise DamageError(f"{path} is damaged: its contents are not those it was saved with")


def verify(folder: Path, manifest: Manifest, items: Collection[str]) -> None:
    """Compare the files of `folder` with `manifest`.

    Args:
        folder, manifest: of the checkpoint.
        items: the subfolders to look at, besides the files that stand in `folder` itself.

    Raises:
        DamageError: the first file by name that is missing, is not listed, or is of another size or SHA-256.
    """
    found = _files(folder)
    for name in sorted(manifest.files.keys() | found.keys()):
        if "/" in name and name.split("/")[0] not in items:
            continue
        path = folder / name
        if name not in manifest.files:
            raise DamageError(f"{path} is not part of the checkpoint: its manifest does not list it")
        size, sha256 = manifest.files[name]
        try:
            with path.open("rb") as f:
                actual = os.fstat(f.fileno()).st_size
                if actual != size:
                    raise DamageError(f"{path} has {actual} bytes, expected {size}")
                if hashlib.file_digest(f, "sha256").hexdigest() != sha256:
                    raise DamageError(f"{path} is damaged: its SHA-256 is not the one it was saved with")
        except FileNotFoundError:
            raise DamageError(f"{path} is missing") from None


def item_digest(manifest: Manifest, item: str) -> str:
    """SHA-256 over the names, sizes and digests of the files of one subfolder."""
    return _digest({name: entry for name, entry in manifest.files.items() if name.split("/")[0] == item})


def _files(folder: Path) -> dict[str, Path]:
    # Hidden files are what desktops and network disks leave; Orbax writes none.
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("[!.]*") if not path.is_dir()}


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
