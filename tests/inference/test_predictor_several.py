"""Several networks, mirror images, dropout: what is averaged and what spreads; and the interface for notebooks."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unet_jax
from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.imaging.write import write_mask
from unet_jax.inference.programs import make_predict
from unet_jax.models.layers import Dropout
from unet_jax.models.network import UNet
from unet_jax.runs.choices import PostprocessChoice, Threshold, store_choice
from unet_jax.runs.load import load
from unet_jax.runs.networks import open_run
from unet_jax.runs.workdir import Workdir
from unet_jax.scoring.components import Postprocess


@pytest.fixture(scope="module")
def images(tiny_data):
    arrays = open_arrays(tiny_data)
    return [np.asarray(arrays.images[row]) for row in range(5)]


@pytest.fixture(scope="module")
def other(trained, tmp_path_factory):
    """Another network: the trained run's latest step, with a threshold of its own."""
    workdir = shutil.copytree(trained, tmp_path_factory.mktemp("other") / "run")
    chosen = json.loads((workdir / "threshold.json").read_text())
    steps = sorted(int(p.stem) for p in (workdir / "checkpoints").glob("*.json"))
    step = next(s for s in steps if s != chosen["checkpoint_step"])
    for extra in steps:
        if extra != step:
            shutil.rmtree(workdir / "checkpoints" / str(extra))
            (workdir / "checkpoints" / f"{extra}.json").unlink()
    store_choice(Workdir(workdir).threshold, Threshold(**chosen | {"checkpoint_step": step, "threshold": 0.9}))
    return workdir


def probabilities(predictor, images):
    return np.stack([p for p, _ in predictor.stream(images)])


def test_probabilities_are_averaged_and_their_spread_is_the_standard_deviation(trained, other, images):
    one, two = (probabilities(load(w), images) for w in (trained, other))
    assert np.abs(one - two).max() > 0.01
    both = load(trained, other, uncertainty=True)
    probs, spread = (np.stack(x) for x in zip(*both.stream(images), strict=True))
    np.testing.assert_allclose(probs, (one + two) / 2, atol=1e-6)
    np.testing.assert_allclose(spread, np.abs(one - two) / 2, atol=1e-6)
    assert [s for _, s in load(trained, other).stream(images[:1])] == [None]


def test_the_threshold_of_several_is_the_mean_of_theirs(trained, other, tmp_path):
    own = load(trained).threshold
    both = load(trained, other)
    assert both.threshold == pytest.approx((own + 0.9) / 2) and both.threshold_note is None
    assert load(trained, other, threshold=0.2).threshold == 0.2
    shutil.copytree(other, tmp_path / "lacking")
    (tmp_path / "lacking" / "threshold.json").unlink()
    lacking = load(trained, tmp_path / "lacking")
    assert lacking.threshold == pytest.approx((own + 0.5) / 2)
    assert lacking.threshold_note == f"{tmp_path / 'lacking'}: none was chosen on validation"


def test_equal_networks_are_described_equally_wherever_they_lie(trained, other, tmp_path):
    shutil.copytree(trained, tmp_path / "moved")
    described = load(trained).describe()
    assert load(tmp_path / "moved").describe() == described
    assert json.loads(json.dumps(described)) == described
    for changed in (
        load(other),
        load(trained, other),
        load(trained, tta=True),
        load(trained, threshold=0.123),
        load(trained, uncertainty=True),
    ):
        assert changed.describe() != described


def test_networks_of_different_sizes_are_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "other")
    path = tmp_path / "other" / "split.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": 64}))
    with pytest.raises(UserError, match=r"was trained at 32x32 and .* at 64x64"):
        load(trained, tmp_path / "other")


def test_tta_averages_a_slice_and_its_mirror_image(trained, images):
    plain, averaged = load(trained), load(trained, tta=True)
    mirrored = probabilities(plain, [i[:, ::-1] for i in images])[:, :, ::-1]
    np.testing.assert_allclose(
        probabilities(averaged, images), (probabilities(plain, images) + mirrored) / 2, atol=1e-6
    )
    # So a mirrored slice gives the mirrored answer.
    np.testing.assert_allclose(
        probabilities(averaged, [images[0][:, ::-1]])[0], probabilities(averaged, images[:1])[0][:, ::-1], atol=1e-6
    )


def test_dropout_spreads_and_leaves_the_probabilities(trained, images):
    plain, spreading = load(trained), load(trained, uncertainty=True, dropout_samples=8)
    spreads = {}
    for batch_size in (1, 3, 16):
        probs, spread = (np.stack(x) for x in zip(*spreading.stream(images, batch_size), strict=True))
        np.testing.assert_allclose(probs, probabilities(plain, images), atol=1e-6)
        spreads[batch_size] = spread
    # A slice's spread does not depend on its neighbours in the batch.
    np.testing.assert_array_equal(spreads[1], spreads[3])
    np.testing.assert_array_equal(spreads[1], spreads[16])
    assert 0 < spreads[1].max() <= 0.5 and spreads[1].min() >= 0


def test_the_spread_is_that_of_passes_with_dropout(trained, tiny_data):
    spreading = load(trained, uncertainty=True, dropout_samples=4)
    run, part = open_run(trained), open_arrays(tiny_data).network_slice(0)
    ((_, spread),) = spreading.stream_network([part])
    x = np.clip((part.image - part.p1) / (part.p99 - part.p1), 0, 1).astype(np.float32)
    x = jnp.asarray(np.repeat(x[None, ..., None], 4, axis=0))
    rngs = {"dropout": jax.random.key(0)}
    logits = UNet(run.config.model).apply(run.variables, x, train=False, sample=True, rngs=rngs)
    passes = 1 / (1 + np.exp(-np.asarray(logits, np.float64)[..., 0]))
    assert np.abs(passes[0] - passes[1]).max() > 1e-3  # each pass drops other values
    np.testing.assert_allclose(spread, passes.std(axis=0), atol=1e-5)


def test_a_single_network_without_dropout_has_no_spread(trained, tmp_path, images):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["model"]["dropout"] = 0.0
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"without dropout, so one network alone has no spread\. Give several"):
        load(tmp_path / "run", uncertainty=True)
    both = load(tmp_path / "run", trained, uncertainty=True)
    assert next(both.stream(images[:1])).spread.max() < 1e-6  # the same weights twice
    with pytest.raises(UserError, match="--dropout-samples is 1; it must be at least 2"):
        load(trained, uncertainty=True, dropout_samples=1)


def test_sampling_drops_values_and_keeps_the_running_statistics(trained):
    run = open_run(trained)
    net = UNet(run.config.model)
    x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 1))
    plain = net.apply(run.variables, x, train=False)
    keys = [{"dropout": jax.random.key(k)} for k in (0, 1)]
    dropped = [net.apply(run.variables, x, train=False, sample=True, rngs=k) for k in keys]
    assert not np.allclose(plain, dropped[0]) and not np.allclose(*dropped)
    kept = Dropout(0.5).apply({}, jnp.ones((1, 8, 8, 4)), train=False)
    assert (np.asarray(kept) == 1).all()


def test_equal_networks_share_a_program(trained):
    config = open_run(trained).config
    assert make_predict(config.model, config.preprocess) is make_predict(config.model, config.preprocess)
    assert make_predict(config.model, config.preprocess) is not make_predict(config.model, config.preprocess, tta=True)


def test_masks_are_cleaned_as_chosen(trained, tmp_path, images):
    workdir = Workdir(shutil.copytree(trained, tmp_path / "run"))
    step = open_run(workdir.path).step
    entry = {"checkpoint_step": step, "threshold": 0.5, "micro_iou": 0.5}
    store_choice(workdir.postprocess, PostprocessChoice(5, True, **entry))
    probs = np.zeros((20, 20), np.float32)
    probs[2, 2] = probs[10:14, 10:14] = 0.99
    probs[11:13, 11:13] = 0
    plain, cleaned = load(workdir.path), load(workdir.path, postprocess=True)
    assert cleaned.postprocess == Postprocess(5, True)
    assert plain.mask(probs).sum() == 13 and cleaned.mask(probs).sum() == 16
    # Of several the least that any of them asks for.
    shutil.copytree(workdir.path, tmp_path / "second")
    store_choice(Workdir(tmp_path / "second").postprocess, PostprocessChoice(1, False, **entry))
    both = load(workdir.path, tmp_path / "second", postprocess=True)
    assert both.postprocess == Postprocess(1, False) and both.mask(probs).sum() == 13
    store_choice(workdir.postprocess, PostprocessChoice(5, True, **entry | {"checkpoint_step": step + 1}))
    with pytest.raises(UserError, match=rf"no post-processing chosen for step {step}\. Run .*--split val"):
        load(workdir.path, postprocess=True)


# unet_jax.load


def test_load_predicts_one_image_or_a_list(trained, images, tmp_path):
    network = unet_jax.load(trained)
    masks, probs = network.predict(images)
    assert isinstance(masks, list) and isinstance(probs, list)
    np.testing.assert_array_equal(np.stack(probs), probabilities(load(trained), images))
    np.testing.assert_array_equal(np.stack(masks), np.stack(probs) >= np.float32(network.threshold))
    mask, prob = network.predict(images[0])
    assert mask.dtype == bool and prob.dtype == np.float32 and mask.shape == prob.shape == images[0].shape
    np.testing.assert_allclose(prob, probs[0], atol=1e-6)
    write_mask(tmp_path / "a.png", images[0] > 100)
    wide = np.zeros((20, 50), bool)
    wide[5:9, 5:20] = True
    read, given = network.predict([str(tmp_path / "a.png"), wide])[0]
    assert read.shape == images[0].shape and given.shape == (20, 50)
    assert network.predict([]) == ([], [])


def test_load_averages_and_says_what_it_cannot_use(trained, other, images):
    both = unet_jax.load(str(trained), str(other))
    np.testing.assert_array_equal(
        both.predict(images[:1]).probs[0], next(load(trained, other).stream(images[:1])).probs
    )
    with pytest.raises(UserError, match=r"an image is uint8 of shape \(4, 4, 2\); expected \(height, width\)"):
        both.predict([np.zeros((4, 4, 2), np.uint8)])
    with pytest.raises(UserError, match="not a number"):
        both.predict(np.full((16, 16), np.nan))
    with pytest.raises(AttributeError, match="no attribute 'store'"):
        _ = unet_jax.store
