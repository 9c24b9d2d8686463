"""The predictor: one slice gives the same mask however it comes, and the same bytes each time."""

import json
import shutil
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from unet_jax import predict
from unet_jax.config import PreprocessConfig, UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.raw import find_slices
from unet_jax.data.splits import load_split
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.imaging.resize import to_network
from unet_jax.models.preprocess import preprocess
from unet_jax.runs.load import load
from unet_jax.runs.workdir import Workdir


def overlap(a, b):
    union = (a | b).sum()
    return 1.0 if not union else (a & b).sum() / union


def test_a_slice_from_its_file_is_bit_identical_to_the_converted_one(trained, tiny_data, raw_phantom):
    predictor, arrays = load(trained), open_arrays(tiny_data)
    files = find_slices(raw_phantom)[:5]
    from_files = list(predictor.stream_network([to_network(read_slice(f).image, 32) for f in files], batch_size=5))
    rows = [arrays.network_slice(r) for r in range(5)]
    for a, b in zip(from_files, predictor.stream_network(rows, batch_size=5), strict=True):
        np.testing.assert_array_equal(a.probs, b.probs)


def test_mat_8_bit_and_16_bit_png_give_the_same_masks(trained, raw_phantom, tmp_path):
    # Slices that it was trained on, and the middle of its probabilities: elsewhere so small a network is unsure, and a
    # hair's breadth changes its mind.
    known = load_split(trained / "split.json").train
    source, files = tmp_path / "in", [f for f in find_slices(raw_phantom) if int(f.stem) in known][::3]
    for kind in ("mat", "png8", "png16"):
        (source / kind).mkdir(parents=True)
    for file in files:
        image = read_slice(file).image
        shutil.copy(file, source / "mat" / file.name)
        Image.fromarray(image.astype(np.uint16)).save(source / "png16" / f"{file.stem}.png")
        grey = np.rint(image * (255 / image.max())).astype(np.uint8)
        Image.fromarray(grey).save(source / "png8" / f"{file.stem}.png")
    argv = ["--workdir", str(trained), "--input", str(source), "--output", str(tmp_path / "out")]
    assert predict.main([*argv, "--threshold", "0.5"]) == 0
    masks = {
        kind: np.concatenate(
            [np.asarray(Image.open(tmp_path / "out" / kind / f"{f.stem}.png")).ravel() > 0 for f in files]
        )
        for kind in ("mat", "png8", "png16")
    }
    assert masks["mat"].any()
    np.testing.assert_array_equal(masks["mat"], masks["png16"])
    assert overlap(masks["mat"], masks["png8"]) >= 0.99


def test_8_bits_change_the_network_input_by_rounding_alone(raw_phantom):
    """On every slice: half a grey level at the pixel and at each percentile, over the percentiles' distance."""
    for file in find_slices(raw_phantom):
        image = read_slice(file).image
        grey = np.rint(image * (255 / image.max())).astype(np.uint8)
        inputs = []
        for native in (image, grey):
            network = to_network(native, 32)
            percentiles = (jnp.float32([p]) for p in (network.p1, network.p99))
            inputs.append(preprocess(jnp.asarray(network.image[None]), *percentiles, PreprocessConfig()))
        span = network.p99 - network.p1  # of the 8-bit slice, in grey levels
        assert float(jnp.abs(inputs[0] - inputs[1]).max()) <= 2 / (span - 1)


def test_any_size_and_aspect_and_batch(trained):
    predictor = load(trained)
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 255, shape).astype(np.uint8) for shape in [(20, 50), (64, 64), (90, 33), (16, 17), (5, 200)]
    ]
    probs = [p for p, _ in predictor.stream(images, batch_size=2)]
    assert [p.shape for p in probs] == [i.shape for i in images]
    assert all(p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 for p in probs)
    for a, (b, _) in zip(probs, predictor.stream(iter(images), batch_size=4), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert list(predictor.stream([])) == []


@pytest.mark.parametrize(
    ("slices", "batch_size", "computed"),
    [
        (1, 16, [1]),
        (2, 16, [2]),
        (3, 16, [4]),
        (5, 6, [6]),
        (9, 16, [16]),
        (16, 16, [16]),
        (5, 4, [4, 4]),
        (2, 1, [1, 1]),
    ],
)
def test_few_slices_are_few_to_compute(trained, slices, batch_size, computed):
    predictor, shapes = load(trained), []
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (32, 32)).astype(np.uint8) for _ in range(slices)]
    expected = [p for p, _ in predictor.stream(images + images[:1] * (16 - slices), batch_size=16)][:slices]
    (network,) = predictor.networks

    def noted(images, p1, p99, *, tta):
        shapes.append(len(images))
        return network.probabilities(images, p1, p99, tta=tta)

    predictor = replace(predictor, networks=[replace(network, probabilities=noted)])
    probs = [p for p, _ in predictor.stream(images, batch_size)]
    assert shapes == computed
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_threshold_of_another_checkpoint_is_not_used(trained):
    chosen = json.loads((trained / "threshold.json").read_text())
    assert load(trained).threshold == chosen["threshold"]
    assert load(trained).threshold_note is None
    assert load(trained, threshold=0.3).threshold == 0.3
    workdir = Workdir(trained)
    kept = workdir.threshold.read_text()
    try:
        workdir.threshold.write_text(json.dumps(chosen | {"checkpoint_step": 1}))
        other = load(trained)
        assert other.threshold == 0.5 and "is for step 1" in other.threshold_note
        workdir.threshold.unlink()
        absent = load(trained)
        assert absent.threshold == 0.5 and absent.threshold_note == "none was chosen on validation"
        for damaged in ("{", "{}", "[]", json.dumps(chosen | {"threshold": "high"})):
            workdir.threshold.write_text(damaged)
            with pytest.raises(UserError, match=r"is damaged\. Delete it"):
                load(trained)
    finally:
        workdir.threshold.write_text(kept)


def test_fixed_scale_warns_of_other_units(trained):
    predictor = load(trained)
    assert predictor.warn_about(np.ones((4, 4))) is None
    config = json.loads((trained / "config.json").read_text())
    config["preprocess"]["kind"] = "fixed"
    other = trained.parent / "fixed"
    shutil.copytree(trained, other)
    (other / "config.json").write_text(json.dumps(config))
    fixed, largest = load(other), load_split(other / "split.json").intensity_max
    assert "below a quarter of the training data's" in fixed.warn_about(np.full((4, 4), largest / 4 - 1))
    assert fixed.warn_about(np.full((4, 4), largest / 4)) is None


def test_no_checkpoints(trained, tmp_path):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(UserError, match="has no checkpoints"):
        load(tmp_path)
