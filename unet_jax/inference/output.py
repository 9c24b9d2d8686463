"""Files that a prediction writes, and whether it may."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_jax.config import UserError
from unet_jax.imaging.read import format_of, stem_of

TABLE = "predictions"
"""Stem of the table (.csv), and of the file beside it that says how it was made (.json)."""
_TABLE_NAME = re.compile(rf"{TABLE}(\.\d+-of-\d+)?\.csv")
_SUFFIXES = {
    "mask": (".png", ".nii.gz"),
    "probs": (".probs.npy", ".probs.nii.gz"),
    "uncertainty": (".uncertainty.png", ".uncertainty.nii.gz"),
    "overlay": (".overlay.png", ".overlay"),
}
"""Suffixes of the files of a picture and of a volume, whose overlays are a folder."""


@dataclass(frozen=True)
class Output:
    """Choice of the files that are written, and their folder."""

    folder: Path
    probabilities: bool = False
    overlays: bool = False
    uncertainty: bool = False
    part: tuple[int, int] = (0, 1)
    """Numbers k and n of a prediction of every n-th image from the k-th on; 0 and 1 for all of them."""

    def of(self, image: Path, frame: int | None = None) -> dict[str, Path]:
        """Name an image's files, `mask` and the wanted of `probs`, `uncertainty` and `overlay`, in the folder.

        Args:
            image: of those that `find_images` lists.
            frame: number, from 0, of the one of several frames that the files are of.
        """
        return {kind: target for kind, target in _named(image, frame).items() if self._wants(kind)}

    def of_slices(self, image: Path, n: int) -> list[dict[str, Path]]:
        """Name the files of each of an image's n slices: the same for all of a volume, its own for each of n frames."""
        return [self.of(image, frame) for frame in _frames(image, n)]

    def unwanted_of_slices(self, image: Path, n: int) -> list[list[Path]]:
        """Name the files of the other kinds, which are not written, likewise of each of an image's n slices."""
        named = (_named(image, frame).items() for frame in _frames(image, n))
        return [[target for kind, target in items if not self._wants(kind)] for items in named]

    def _wants(self, kind: str) -> bool:
        wanted = {"probs": self.probabilities, "uncertainty": self.uncertainty, "overlay": self.overlays}
        return kind == "mask" or wanted[kind]

    def share(self, images: Sequence[Path]) -> Sequence[Path]:
        """Choose the images of this part: dealt out in turn, so that every part gets of every folder."""
        k, n = self.part
        return images[k::n]

    @property
    def table(self) -> Path:
        """Path of the table of this part."""
        k, n = self.part
        return self.folder / (f"{TABLE}.csv" if n == 1 else f"{TABLE}.{k}-of-{n}.csv")


def _named(image: Path, frame: int | None) -> dict[str, Path]:
    column = int(format_of(image).volume)
    stem = stem_of(image) + ("" if frame is None else f"-{frame + 1:04}")
    return {kind: image.with_name(stem + suffixes[column]) for kind, suffixes in _SUFFIXES.items()}


def _frames(image: Path, n: int) -> list[int | None]:
    return [None] * n if n == 1 or format_of(image).volume else list(range(n))


def without_frame(mask: str) -> str:
    """Name the mask of a file of one frame, of the name of a frame's mask; another name stays as it is."""
    return re.sub(r"-\d{4,}(?=\.png$)", "", mask)


def unfinished(table: Path) -> Path:
    """Name the file that a table is while it is being made."""
    return table.with_name(f".{table.name}.part")


def lock_of(table: Path) -> Path:
    """Name the file by which a table is locked while it is being made."""
    return table.with_name(f".{table.name}.lock")


def tables_in(folder: Path) -> list[Path]:
    """List the tables of a folder, whole or left unfinished by a process that was killed, by the name of the whole."""
    if not folder.is_dir():
        return []
    names = {p.name.removeprefix(".").removesuffix(".part") for p in folder.iterdir()}
    return [folder / name for name in sorted(names) if _TABLE_NAME.fullmatch(name)]


def folder_of(source: Path) -> Path:
    """Return the folder that the paths of `find_images(source)` start from."""
    return source if source.is_dir() else source.parent


def check_output(source: Path, images: Sequence[Path], output: Output) -> None:
    """Raise UserError where a prediction would write one file twice, overwrite an image, or lose somebody's files.

    The output cannot be the folder of the input, nor lie in an input folder, because its masks would be taken for
    slices the next time. Names that differ in case alone count as the same, since on many disks they are.

    Args:
        source: the image or folder given.
        images: all that `find_images` gives for `source`.
        output: choice of files to write, of all or of a part.
    """
    root = folder_of(source)
    within, out = root.resolve(), output.folder.resolve()
    if out == within or (source.is_dir() and within in out.parents):
        raise UserError(
            f"{output.folder} is or lies in the folder of the input, where masks would be taken for slices the next "
            "time. Give an --output elsewhere."
        )
    if output.folder.exists() and not output.folder.is_dir():
        raise UserError(f"{output.folder} is a file. Give a folder, or a name for a new one, as --output.")

    writers: dict[str, Path] = {}
    for image in images:
        for target in output.of(image).values():
            other = writers.setdefault(key_of(target), image)
            if other is not image:
                raise UserError(
                    f"{root / other} and {root / image} would both write {output.folder / target}. "
                    "Rename one, or predict them into different folders."
                )
    own = {output.table.name, output.table.with_suffix(".json").name}
    for image in {image.parent: image for image in images}.values():
        for folder in list(image.parents)[:-1]:
            if (other := writers.get(key_of(folder))) or key_of(folder) in own:
                raise UserError(
                    f"{root / image} needs the folder {output.folder / folder}, and "
                    f"{root / other if other else 'the table'} needs that name. Rename the folder."
                )
    if out in within.parents:
        below = within.relative_to(out)
        for image in images:
            # A volume's overlays are a folder, in which the image may lie.
            for path in (below / image, *(below / image).parents):
                if other := writers.get(key_of(path)):
                    raise UserError(
                        f"The mask of {root / other} would overwrite {root / image}. Give another --output."
                    )
    if output.folder.exists() and not tables_in(output.folder):
        for image in output.share(images):
            frames = [output.of(image, 0)] if format_of(image).frames else []
            for target in (target for files in (output.of(image), *frames) for target in files.values()):
                if os.path.exists(output.folder / target):  # False too for a name that is too long
                    raise UserError(
                        f"{output.folder / target} exists, and with no {TABLE}.csv beside it this folder is not one "
                        "that an earlier prediction wrote. Give another --output, or remove the file."
                    )


def check_frames(image: Path, n: int, images: Sequence[Path], output: Output) -> str | None:
    """Tell in what way a file of an image's frames is another image's, too; None where none is.

    Args:
        image: an image of n slices.
        n: known when it is opened, and not to `check_output`.
        images: all images, this one among them.
        output: choice of files to write.
    """
    if n == 1 or format_of(image).volume:
        return None
    own = {key_of(target): target for files in output.of_slices(image, n) for target in files.values()}
    start = stem_of(image).casefold()
    for other in images:
        if other != image and other.name.casefold().startswith(start):
            for target in output.of(other).values():
                if target := own.get(key_of(target)):
                    return f"would write {target}, as {other} would. Rename one, or predict them into different folders"
    return None


def key_of(path: Path) -> str:
    """Return what is equal for names that are one on disks that do not tell cases apart."""
    return path.as_posix().casefold()
