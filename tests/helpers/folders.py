"""Contents of folders."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder, by their sorted paths relative to the folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
