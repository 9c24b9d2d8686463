"""MD5 digests of the dataset's files, and the file `MD5SUMS` that keeps them."""

import hashlib
import re
from pathlib import Path
from typing import Any

from unet_jax.config import UserError
from unet_jax.shared.files import write_text
from unet_jax.shared.progress import track

DIGESTS = "MD5SUMS"
"""Name of the file of digests, which `md5sum -c` reads."""

_LINE = re.compile(r"(?P<md5>[0-9a-f]{32})  (?P<name>data/[1-9][0-9]*\.mat|cvind\.mat|README\.txt)")


def file_md5(file: Any) -> str:
    """Compute the MD5 of what an open binary file holds from its position on, in hexadecimal digits."""
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def has_md5(path: Path, md5: str) -> bool:
    """Tell whether there is such a file, and whether its content has that MD5."""
    try:
        with path.open("rb") as f:
            return file_md5(f) == md5
    except FileNotFoundError:
        return False


def read_digests(out: Path) -> dict[str, str] | None:
    """Read the digests of a finished download in `out`.

    Returns:
        MD5 by name relative to `out`; None where there is no finished download.

    Raises:
        UserError: the file of digests is not as `write_digests` writes it.
    """
    path = out / DIGESTS
    try:
        lines = path.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = [_LINE.fullmatch(line) for line in lines]
    digests = {m["name"]: m["md5"] for m in found if m}
    if not digests or len(digests) < len(lines):
        raise UserError(f"{path} is not as this command writes it. Give another --out, or remove it and the dataset.")
    return digests


def write_digests(out: Path, digests: dict[str, str]) -> None:
    """Write MD5 by name to the download's file of digests, whole or not at all."""
    write_text(out / DIGESTS, "".join(f"{md5}  {name}\n" for name, md5 in sorted(digests.items())))


def find_damaged(out: Path, digests: dict[str, str]) -> list[str]:
    """List the names, of those of `read_digests`, whose files are missing or have another digest."""
    verified = track(digests.items(), len(digests), "verify", "file")
    return [name for name, md5 in verified if not has_md5(out / name, md5)]
