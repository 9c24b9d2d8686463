"""A predictor without a network, and folders to predict from and to."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from unet_jax.imaging.resize import NativeSlice
from unet_jax.inference.predictor import Predictor, Probabilities
from unet_jax.predict import main

AFFINE = np.diag([0.5, 1.5, 3, 1.0])
"""Affine of all volumes."""


class FakePredictor(Predictor):
    """Takes brightness for probability and a quarter of it for the spread, a batch at a time."""

    threshold, threshold_note, name = 0.5, None, "checkpoint of step 7"
    uncertainty, dropout_samples = False, 16
    opened: tuple | None = None
    given: dict | None = None

    def __init__(self, **own):
        vars(self).update(own)  # a predictor is frozen

    @classmethod
    def open(cls, *workdirs, checkpoint="best", threshold=None, **given):
        cls.opened, cls.given = (workdirs, checkpoint, threshold), given
        own = {name: given[name] for name in ("uncertainty", "dropout_samples")}
        return cls(threshold=cls.threshold if threshold is None else threshold, **own)

    def describe(self):
        samples = {"dropout_samples": self.dropout_samples} if self.uncertainty else {}
        return {"networks": [7], "threshold": self.threshold, **samples}

    def warn_about(self, image):
        return "dark" if image.max() < 20 else None

    def mask(self, probs):
        return probs >= self.threshold

    def note(self, image):
        """Take notice of an image that the network is given; for tests to replace."""

    def stream(self, images, batch_size=16):
        images = iter(images)
        while batch := list(islice(images, batch_size)):
            for given in batch:
                image = given.image if isinstance(given, NativeSlice) else given
                self.note(image)
                probs = np.ma.filled(image, 0).astype(np.float32) / 255
                yield Probabilities(probs, probs / 4 if self.uncertainty else None)

    @classmethod
    @contextmanager
    def interrupted(cls, after: int) -> Iterator[None]:
        """Have Ctrl-C come after so many slices."""
        whole = cls.stream

        def stream(self, images, batch_size):
            yield from islice(whole(self, images, batch_size), after)
            raise KeyboardInterrupt

        cls.stream = stream
        yield
        cls.stream = whole


def bright(rows: int, h: int = 20, w: int = 17) -> np.ndarray:
    """A dark picture whose first rows are bright: `rows` * `w` pixels of tumour for `FakePredictor`."""
    image = np.full((h, w), 51, np.uint8)
    image[-1, -1] = 50  # of one value, it would be warned about
    image[:rows] = 204
    return image


class Job:
    """The folders `in` and `out` of a prediction."""

    def __init__(self, folder: Path):
        self.folder, self.source, self.out = folder, folder / "in", folder / "out"

    bright = staticmethod(bright)

    def put(self, name: str, image: np.ndarray) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, image)
        elif path.suffix in (".nii", ".gz"):
            nib.save(nib.Nifti1Image(image, AFFINE), path)
        else:
            Image.fromarray(image).save(path)
        return path

    def run(self, *more: str, source: Path | None = None, out: Path | None = None) -> int:
        folders = ["--input", str(source or self.source), "--output", str(out or self.out)]
        return main(["--workdir", "runs/a", *folders, *more])

    def table(self, name: str = "predictions.csv") -> list[dict[str, str]]:
        with (self.out / name).open(newline="") as f:
            return list(csv.DictReader(f))

    def files(self, folder: Path | None = None) -> list[str]:
        """All but predictions.json, which lies beside every table."""
        folder = folder or self.out
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        return [name for name in names if name != "predictions.json"]
