"""The default phantom's values, which no change of the code may change."""

import csv
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from unet_jax.config import PhantomConfig
from unet_jax.data.phantom.heads import views
from unet_jax.data.phantom.make import PhantomSlice, patient_slices

SLICES = list(csv.DictReader(Path(__file__).with_name("default.csv").read_text().splitlines()))
"""Two neighbours of each of eight patients: every view and every type of tumour, one patient at half the resolution."""


def block_means(image: np.ndarray) -> np.ndarray:
    """Means of 8 x 8 equal blocks of an image."""
    side = len(image) // 8
    return image.reshape(8, side, 8, side).mean((1, 3)).ravel()


def digest(s: PhantomSlice) -> str:
    """SHA-256 of the outline, in hundredths of a pixel, and of the mask."""
    return hashlib.sha256(np.rint(s.border * 100).astype("<i4").tobytes() + s.mask.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, str], PhantomSlice]:
    patients = sorted({int(row["patient"]) for row in SLICES})
    return {
        (str(patient), str(i)): s
        for patient in patients
        for i, s in enumerate(itertools.islice(patient_slices(PhantomConfig().seed, patient), 2))
    }


@pytest.mark.parametrize("row", SLICES, ids=lambda row: f"{row['patient']}-{row['slice']}")
def test_a_slice_is_what_it_was(row: dict[str, str], made: dict[tuple[str, str], PhantomSlice]) -> None:
    s = made[row["patient"], row["slice"]]
    assert (str(s.label), s.pid, s.view, s.image.shape[0]) == (row["label"], row["pid"], row["view"], int(row["side"]))
    assert digest(s) == row["sha256"]
    # Another processor may round a few pixels by one: 0.05 is far above that, and far below a change of any shape.
    np.testing.assert_allclose(block_means(s.image), np.array(row["block_means"].split(), float), rtol=0, atol=0.05)


def test_every_view_and_type_is_among_them() -> None:
    assert {row["view"] for row in SLICES} == set(views())
    assert {row["label"] for row in SLICES} == {"1", "2", "3"}
