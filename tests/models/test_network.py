"""The network: sizes, structure, and equality with the same network written with Flax's plain layers."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.models.one_function import OneFunction
from unet_jax.config import ModelConfig, PreprocessConfig, UserError
from unet_jax.inference.programs import make_predict
from unet_jax.models.encoders.table import ENCODERS
from unet_jax.models.heads import tumor_logits
from unet_jax.models.network import UNet, abstract_variables

SMALL = ModelConfig(width=2, levels=2, dropout=0.0)


class PlainUNet(nn.Module):
    """The original notebook's network as Flax's layers give it, two levels."""

    width: int

    @nn.compact
    def __call__(self, x, *, train):
        def block(x, features, name):
            for i in range(2):
                x = nn.relu(nn.Conv(features, (3, 3), name=f"{name}_{i}")(x))
            return x

        w, skips = self.width, []
        for level in range(2):
            x = block(x, w * 2**level, f"down{level}")
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
            x = nn.BatchNorm(not train, momentum=0.8, epsilon=1e-3, name=f"norm{level}")(x)
        x = block(x, w * 2, "bottom")
        for level in (1, 0):
            x = nn.ConvTranspose(w * 2**level, (3, 3), (2, 2), name=f"transpose{level}")(x)
            x = block(jnp.concatenate([x, skips[level]], -1), w * 2**level, f"up{level}")
        return nn.Conv(1, (1, 1), name="output")(x)


def as_plain(params):
    """The same values under the plain network's names."""
    flat = {}
    for name, value in params.items():
        if "conv0" in value:
            flat |= {f"{name}_{i}": value[f"conv{i}"] for i in range(2)}
        else:
            flat[name] = value
    return flat


def initialised(config, size=16, seed=0):
    x = jax.random.normal(jax.random.key(seed + 1), (2, size, size, 1))
    return UNet(config).init(jax.random.key(seed), x, train=False), x


def test_parameter_counts_of_the_original():
    variables = abstract_variables(ModelConfig())
    sizes = {k: sum(np.prod(x.shape) for x in jax.tree.leaves(v)) for k, v in variables.items()}
    assert sizes["params"] == 22_716_609
    assert sizes["params"] + sizes["batch_stats"] == 22_718_529


@pytest.mark.slow
def test_equals_the_plain_network_with_gradients():
    variables, x = initialised(SMALL)
    plain = {"params": as_plain(variables["params"]), "batch_stats": variables["batch_stats"]}
    target = jax.random.normal(jax.random.key(9), (2, 16, 16, 1))

    def run(net, stats):
        def loss(params):
            y, updates = net.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
            return ((y - target) ** 2).mean(), updates["batch_stats"]

        return jax.value_and_grad(loss, has_aux=True)

    (ours, stats), grads = run(UNet(SMALL), variables["batch_stats"])(variables["params"])
    (other, plain_stats), plain_grads = run(PlainUNet(2), plain["batch_stats"])(plain["params"])
    np.testing.assert_allclose(ours, other, rtol=1e-5)
    for got, expected in ((stats, plain_stats), (as_plain(grads), plain_grads)):
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_skip_connection_reaches_its_level(level):
    """With all upsampled features cut off above it, a level still sees its own skip connection, at its resolution."""
    config = ModelConfig(width=2, levels=3, dropout=0.0)
    x = jax.random.normal(jax.random.key(1), (1, 32, 32, 1))
    variables = UNet(config).init(jax.random.key(0), x, train=False)
    cut = jax.tree.map(jnp.zeros_like, variables["params"][f"transpose{level}"])
    params = variables["params"] | {f"transpose{level}": cut}

    def seen(x):
        _, state = UNet(config).apply(
            variables | {"params": params}, x, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return state["intermediates"][f"up{level}"]["__call__"][0]

    side = 32 // 2**level
    assert seen(x).shape == (1, side, side, 2 * 2**level)
    # One pixel changed moves only features near it: what arrives came by the skip, not through the bottom.
    row = 17
    change = jnp.abs(seen(x) - seen(x.at[0, row, row, 0].add(1.0))).sum(-1)[0]
    assert float(change.max()) > 0
    ys, xs = np.nonzero(np.asarray(change))
    reach = 2 + 2 + 2 * level  # this block's two convolutions, and those on the way down, in pixels of this level
    assert max(np.abs(ys - row // 2**level).max(), np.abs(xs - row // 2**level).max()) <= reach


def test_norm_position_and_classes():
    counts = {}
    for norm in ("pool", "conv", "none"):
        variables = abstract_variables(ModelConfig(width=2, levels=2, norm=norm, classes=3))
        assert variables["params"]["output"]["kernel"].shape == (1, 1, 2, 3)
        counts[norm] = sum(np.prod(x.shape) for x in jax.tree.leaves(variables["batch_stats"]))
    # Means and variances: after each pooling 2 + 4 channels; after each convolution 2, 4, 4 (bottom), 4, 2, twice.
    assert counts == {"pool": 2 * (2 + 4), "conv": 2 * 2 * (2 + 4 + 4 + 4 + 2), "none": 0}


def test_dropout_only_in_training():
    config = ModelConfig(width=2, levels=2, dropout=0.5, norm="none")
    variables, x = initialised(config)
    apply = UNet(config).apply
    still = apply(variables, x, train=False)
    np.testing.assert_array_equal(still, apply(variables, x, train=False))
    one, other = (apply(variables, x, train=True, rngs={"dropout": jax.random.key(i)}) for i in range(2))
    assert float(jnp.abs(one - other).max()) > 0
    assert float(jnp.abs(one - still).max()) > 0


@pytest.mark.parametrize(("h", "w"), [(20, 16), (16, 24), (0, 16)])
def test_size_that_the_levels_do_not_divide(h, w):
    config = ModelConfig(width=2, levels=4)
    with pytest.raises(UserError, match=rf"{h}x{w}; both sides must be multiples of 16"):
        UNet(config).init(jax.random.key(0), jnp.zeros((1, h, w, 1)), train=False)


def test_sides_may_differ():
    variables, _ = initialised(SMALL)
    assert UNet(SMALL).apply(variables, jnp.zeros((1, 8, 20, 1)), train=False).shape == (1, 8, 20, 1)


def test_tumor_logits_are_the_largest_of_the_classes():
    logits = jnp.array([[-1.0, 2.0, 0.5]]).reshape(1, 1, 1, 3)
    assert float(tumor_logits(logits)[0, 0, 0]) == 2.0


def test_predict_is_the_sigmoid_of_the_normalised_slice():
    variables, _ = initialised(SMALL)
    images = np.random.default_rng(0).integers(0, 1000, (2, 16, 16)).astype(np.float32)
    p1, p99 = np.array([0, 100], np.float32), np.array([500, 900], np.float32)
    probs = make_predict(SMALL, PreprocessConfig())(variables, images, p1, p99)
    x = jnp.clip((images - p1[:, None, None]) / (p99 - p1)[:, None, None], 0, 1)[..., None]
    logits = np.asarray(UNet(SMALL).apply(variables, x, train=False))[..., 0]
    np.testing.assert_allclose(probs, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def loss_and_gradients(config, variables, x):
    """A mean square of the logits in training, with dropout, and its gradient for each parameter."""

    def loss(params):
        y, _ = UNet(config).apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(3)}
        )
        assert y.dtype == jnp.float32
        return ((y - 1) ** 2).mean()

    return jax.jit(jax.value_and_grad(loss))(variables["params"])


@pytest.mark.parametrize("norm", ["pool", "conv"])
def test_rematerialisation_changes_nothing(norm):
    config = ModelConfig(width=4, levels=2, norm=norm, dropout=0.3)
    variables, x = initialised(config)
    remat = dataclasses.replace(config, remat=True)
    names = jax.tree.map(jnp.shape, UNet(remat).init(jax.random.key(0), x, train=False))
    assert names == jax.tree.map(jnp.shape, variables)
    (loss, grads), (again, same) = (loss_and_gradients(c, variables, x) for c in (config, remat))
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), same, grads)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "gradients_within"), [("pool", 0.05), ("conv", 0.15)])
def test_bfloat16_is_float32_within_its_precision(norm, gradients_within):
    """bfloat16 has 8 bits: 0.4 % a value. Parameters, statistics and logits stay float32.

    Normalising each convolution by a small batch enlarges the differences.
    """
    config = ModelConfig(width=8, levels=2, norm=norm)
    variables, x = initialised(config)
    half = dataclasses.replace(config, precision="bfloat16")
    dtypes = jax.tree.map(lambda v: v.dtype, UNet(half).init(jax.random.key(0), x, train=False))
    assert set(jax.tree.leaves(dtypes)) == {jnp.dtype("float32")}
    (loss, grads), (near, others) = (loss_and_gradients(c, variables, x) for c in (config, half))
    assert 0 < abs(near - loss) < 0.02 * loss
    flat, other = (np.concatenate([np.ravel(g) for g in jax.tree.leaves(tree)]) for tree in (grads, others))
    assert np.linalg.norm(other - flat) < gradients_within * np.linalg.norm(flat)

    raw = (x[..., 0], jnp.full(len(x), -2.0), jnp.full(len(x), 2.0))  # with percentiles of -2 and 2
    probs, rough = (make_predict(c, PreprocessConfig())(variables, *raw) for c in (config, half))
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, probs, atol=0.02)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(width=2, levels=3),
        ModelConfig(width=2, levels=2, norm="conv", classes=3, dropout=0.3),
        ModelConfig(width=2, levels=2, norm="none", remat=True),
    ],
    ids=["pool", "conv", "none"],
)
def test_divided_it_is_the_same_network_to_the_bit(config):
    """Names and order of parameters, draws of weights and dropout, output, running statistics and gradients."""
    x = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    results = []
    for net in (UNet(config), OneFunction(config)):
        variables = net.init(jax.random.key(0), x, train=False)

        def loss(params, net=net, variables=variables):
            rest = {name: tree for name, tree in variables.items() if name != "params"}
            rngs = {"dropout": jax.random.key(7)}
            y, updates = net.apply({"params": params} | rest, x, train=True, mutable=["batch_stats"], rngs=rngs)
            return (y**2).sum(), (y, updates)

        results.append((variables, jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])))
    (ours, theirs) = results
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_every_encoder_has_its_name_in_the_configuration():
    (field,) = (field for field in dataclasses.fields(ModelConfig) if field.name == "encoder")
    assert set(typing.get_args(field.type)) == set(ENCODERS)


def test_the_decoder_has_widths_of_its_own():
    params = abstract_variables(dataclasses.replace(SMALL, decoder_widths=(5, 7)))["params"]
    shapes = {name: params[name]["conv0"]["kernel"].shape[2:] for name in ("down0", "down1", "bottom", "up1", "up0")}
    assert shapes == {"down0": (1, 2), "down1": (2, 4), "bottom": (4, 4), "up1": (7 + 4, 7), "up0": (5 + 2, 5)}


def test_a_toy_encoder_is_a_function_and_a_row(monkeypatch):
    """One convolution a level and no pooling but every second pixel; the decoder joins it as any other."""

    def encode(x, layers):
        features = []
        for level, width in enumerate((*layers.config.widths, layers.config.widths[-1])):
            x = layers.block(width, f"toy{level}")(x if level == 0 else x[:, ::2, ::2])
            features.append(x)
        return features

    monkeypatch.setitem(ENCODERS, "toy", encode)
    config = dataclasses.replace(SMALL)
    object.__setattr__(config, "encoder", "toy")  # which the type of the field does not name
    net, x = UNet(config), jnp.ones((1, 16, 16, 1))
    variables = net.init(jax.random.key(0), x, train=False)
    assert {"toy0", "toy1", "toy2", "up0", "up1", "output"} <= set(variables["params"])
    assert "down0" not in variables["params"]
    assert net.apply(variables, x, train=False).shape == (1, 16, 16, 1)
