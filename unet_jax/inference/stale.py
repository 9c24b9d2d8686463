"""Files beside a mask that is made anew which an earlier prediction left, and which would be taken for current."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from unet_jax.inference.output import Output, key_of


class Stale:
    """Files of the kinds that are not wanted now, such as overlays, of images that an earlier prediction did.

    They are told by name, and by the mask of their image: one that is there, which `check_output` lets nobody but a
    prediction have left, or one that a table lists. What is itself a mask of another image is none of them.
    """

    def __init__(self, output: Output, images: Sequence[Path], masks_before: set[str]):
        """Know the masks.

        Args:
            output: choice of the files that are wanted.
            images: of every part.
            masks_before: masks that the tables in the folder list.
        """
        self._output, self._before = output, masks_before
        self._masks = {key_of(output.of(image)["mask"]) for image in images} | {key_of(Path(m)) for m in masks_before}

    def remove(self, image: Path, n: int) -> None:
        """Remove those of an image of n slices, before its mask is written.

        Raises:
            OSError: one cannot be removed.
        """
        files = zip(self._output.of_slices(image, n), self._output.unwanted_of_slices(image, n), strict=True)
        for mask, unwanted in {wanted["mask"]: unwanted for wanted, unwanted in files}.items():
            if mask.as_posix() in self._before or os.path.exists(self._output.folder / mask):
                for target in unwanted:
                    self._remove(target)

    def _remove(self, target: Path) -> None:
        path = self._output.folder / target
        # Unlike those of Path, these two are False for a name that is too long.
        if not os.path.isdir(path) or os.path.islink(path):
            if os.path.lexists(path) and key_of(target) not in self._masks:
                path.unlink()
            return
        if target.suffix != ".overlay":  # else somebody's folder
            return
        for slice_ in path.iterdir():
            if re.fullmatch(r"\d+\.png", slice_.name) and key_of(target / slice_.name) not in self._masks:
                slice_.unlink()
        with suppress(OSError):  # it holds something else
            path.rmdir()
