"""The network of the package, and its twin whose scores are recorded: what is said of them is true."""

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unet_jax
from unet_jax.data.phantom.make import patient_slices
from unet_jax.data.polygon import fill_polygon
from unet_jax.reporting.templates import number
from unet_jax.runs.model_folder import CARD, SHIPPED, SHIPPED_FOLDER, WEIGHTS, read_info, read_training_slices

FOLDER = SHIPPED_FOLDER / SHIPPED
RECORDED = Path(__file__).parents[2] / "experiments" / "best" / "summary.json"
TWIN = RECORDED.with_name("network")
"""Folder of the network that has not seen the test patients."""
SHA256 = {
    FOLDER: "2a782520183001f05b45d94dec0141c98b369fe2b71aa644b61883ef8633bf2c",
    TWIN: "f81651f624e3079308b472eb90ede13eb7d3cc86778840f1ac24ad0b2568a672",
}
FIGSHARE = os.environ.get("UNET_JAX_FIGSHARE")
"""A folder with slices.csv (slice, label, pid, size, border_xy) and slices/NUMBER.webp."""


@pytest.fixture(scope="module")
def network():
    return unet_jax.load()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("folder", SHA256, ids=["own", "twin"])
def test_the_weights_are_those_that_were_trained(folder):
    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == SHA256[folder]
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size <= 12e6


def test_threshold_and_cleaning_are_the_twins():
    own, twin = read_info(FOLDER), read_info(TWIN)
    assert (own.threshold, own.postprocess, own.model) == (twin.threshold, twin.postprocess, twin.model)


@pytest.mark.parametrize("folder", SHA256, ids=["own", "twin"])
def test_the_card_has_the_recorded_scores(folder):
    summary, card = json.loads(RECORDED.read_text()), (folder / CARD).read_text()
    assert ("They are those of another network" in card) == (folder == FOLDER)
    native = summary["native"]
    for label, group in {"All": native, **native["by_tumor"]}.items():
        low, high = group["ci95"]["mean_dice"]
        score = f"{group['mean_dice']:.3f} ({low:.3f} to {high:.3f})"
        assert (
            f"| {label.capitalize()} | {number(group.get('n_slices', summary['n_slices']), 'count')} | {score} |"
            in card
        )
    assert f"Split `test`, {summary['n_slices']} slices of {summary['n_patients']} patients" in card
    assert "Not a medical device" in card


def test_they_know_the_slices_they_were_trained_on():
    own, twin = (sorted(read_training_slices(folder).slice.tolist()) for folder in (FOLDER, TWIN))
    split = json.loads(RECORDED.with_name("split.json").read_text())
    assert twin == split["train"] and not set(twin) & {*split["val"], *split["test"]}
    assert own == sorted([*split["train"], *split["val"], *split["test"]]) and len(own) == 2653


def test_the_same_masks_twice_and_tumors_of_the_phantom(network):
    pieces = list(patient_slices(0, 0))
    images = [piece.image for piece in pieces]
    first, again = (each.predict(images) for each in (network, unet_jax.load(model=SHIPPED)))
    np.testing.assert_array_equal(first.probs, again.probs)
    assert np.mean([dice(mask, piece.mask > 0) for mask, piece in zip(first.masks, pieces, strict=True)]) > 0.8


@pytest.mark.skipif(FIGSHARE is None, reason="UNET_JAX_FIGSHARE names no folder of real slices")
def test_real_tumors_are_found(network):
    """The first four slices of each tumour type."""
    root, scores = Path(str(FIGSHARE)), {}
    with (root / "slices.csv").open(newline="") as f:
        for row in csv.DictReader(f):
            done = scores.setdefault(row["label"], [])
            if len(done) < 4:
                corners = np.array([point.split(",") for point in row["border_xy"].split()], np.float64) - 1
                image = np.asarray(Image.open(root / "slices" / f"{row['slice']}.webp").convert("L"))
                mask, _ = network.predict(image)
                done.append(dice(mask, fill_polygon(corners, image.shape)))
    assert sorted(scores) == ["1", "2", "3"]
    assert all(np.mean(done) > 0.7 for done in scores.values()), scores
