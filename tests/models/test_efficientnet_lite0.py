"""The encoder EfficientNet-Lite0: its structure, timm's features, and its place in the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.helpers.lite0 import images, timm_weights, uniform
from unet_jax.config import ModelConfig, UserError
from unet_jax.models.encoders.efficientnet_lite0 import encode
from unet_jax.models.layers import Dropout, Layers
from unet_jax.models.network import UNet, abstract_variables
from unet_jax.models.pretrained import Pretrained, with_pretrained

CONFIG = ModelConfig(levels=5, encoder="efficientnet_lite0", decoder_widths=(2, 3, 4, 5, 6), norm="conv", dropout=0.0)

# Printed by `python -m tests.models.timm_features`, with timm 1.0.31 and torch 2.14.1.
OF_TIMM = [
    [-0.07521, 0.19483, 0.4417, -0.1903, -0.99874, 0.09511],
    [-1.11465, -1.96768, 0.0005, -0.45266, 0.18057, -0.43558],
    [-0.34411, 4.05928, 2.37227, -3.9423, 0.28587, -0.3982],
    [-1.88652, -4.06899, 1.48614, 1.20129, 4.28828, -4.45361],
    [-3.09753, -0.85502, 3.14166, -3.34562, -7.75254, -1.26947],
]


class Features(nn.Module):
    """The encoder alone, with its running statistics."""

    @nn.compact
    def __call__(self, x):
        return encode(x, Layers(CONFIG, Dropout(0.0), train=False, drop=False))


def of_encoder(tree):
    return {name: value for name, value in tree.items() if name.startswith("encoder_")}


def variables():
    """The whole network's: the encoder's as timm has them, kernels of the decoder drawn, the rest 0 or 1."""

    def draw(path, leaf):
        name = jax.tree_util.keystr(path)
        if "kernel" in name:
            return jnp.asarray(uniform(name, leaf.shape) * np.sqrt(6 / np.prod(leaf.shape[:3])), jnp.float32)
        return jnp.full(leaf.shape, 1.0 if "scale" in name or "var" in name else 0.0)

    drawn = jax.tree_util.tree_map_with_path(draw, abstract_variables(CONFIG))
    return with_pretrained(drawn, Pretrained("timm's", "", timm_weights()))


def features(x):
    encoder = {name: of_encoder(tree) for name, tree in variables().items()}
    return jax.jit(Features().apply)(encoder, x)


def test_parameters_are_counted_and_named():
    """timm's `tf_efficientnet_lite0`, features only: 2,958,848 with 2 x 288 more for three channels of input."""
    variables = abstract_variables(CONFIG)
    counts = {k: sum(np.prod(x.shape) for x in jax.tree.leaves(of_encoder(v))) for k, v in variables.items()}
    assert counts == {"params": 2_958_848 - 576, "batch_stats": 39_456}
    params = variables["params"]
    places = enumerate((1, 2, 2, 3, 3, 4, 1))
    blocks = {f"encoder_block{stage}_{place}" for stage, repeats in places for place in range(repeats)}
    assert set(of_encoder(params)) == blocks | {"encoder_stem"}
    shapes = {layer: next(iter(values.values())).shape for layer, values in params["encoder_block5_0"].items()}
    assert shapes == {
        "conv_pw": (1, 1, 112, 672),
        "bn1": (672,),
        "conv_dw": (5, 5, 1, 672),
        "bn2": (672,),
        "conv_pwl": (1, 1, 672, 192),
        "bn3": (192,),
    }
    # The decoder joins the bottom's 320 channels, and at each level its own features with the encoder's.
    assert params["transpose4"]["kernel"].shape == (3, 3, 320, 6)
    inputs = [params[f"up{level}"]["conv0"]["kernel"].shape[2] for level in range(5)]
    assert inputs == [2 + 1, 3 + 16, 4 + 24, 5 + 40, 6 + 112]


def test_features_are_those_of_timm():
    x = images(3, 64, 96)
    first, *others = features(x)
    np.testing.assert_array_equal(first, x)
    for maps, expected, level in zip(others, OF_TIMM, range(1, 6), strict=True):
        assert maps.shape[:3] == (3, 64 >> level, 96 >> level)
        values = maps.ravel()[:: maps.size // 6 - 1][:6]
        np.testing.assert_allclose(values, expected, atol=1e-4)


@pytest.mark.parametrize(("b", "h", "w"), [(1, 32, 32), (3, 64, 96), (2, 160, 64)])
def test_every_feature_is_that_of_timm(b, h, w):
    pytest.importorskip("timm", reason="timm and torch are not installed: the extra peers")
    from tests.models import timm_features

    x = images(b, h, w)
    for ours, theirs in zip(features(x)[1:], timm_features.features(x, timm_weights()), strict=True):
        # Values reach 6 at full size and 20 at the bottom, behind 50 layers of float32.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


def run(config, variables, x):
    """A mean square of the logits in training, its gradients, and the updated statistics."""

    def loss(params):
        y, updates = UNet(config).apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return (y**2).mean(), (y, updates["batch_stats"])

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])


@pytest.mark.slow
def test_it_learns_in_every_way_of_computing():
    before, x = variables(), jnp.asarray(images(2, 64, 32))
    (_, (y, stats)), grads = run(CONFIG, before, x)
    assert y.shape == (2, 64, 32, 1)
    # Every weight of the encoder takes part, and every running statistic moves.
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(of_encoder(grads)))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), of_encoder(stats), of_encoder(before["batch_stats"]))
    assert min(jax.tree.leaves(moved)) > 0

    (_, (again, _)), same = run(dataclasses.replace(CONFIG, remat=True), before, x)
    np.testing.assert_allclose(again, y, atol=1e-3)
    flat, other = (np.concatenate([np.ravel(g) for g in jax.tree.leaves(tree)]) for tree in (grads, same))
    assert np.linalg.norm(other - flat) < 1e-3 * np.linalg.norm(flat)

    (_, (rough, stats)), grads = run(dataclasses.replace(CONFIG, precision="bfloat16"), before, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((rough, stats, grads))} == {np.dtype("float32")}
    assert 0 < float(jnp.abs(rough - y).mean()) < 0.2 * float(jnp.abs(y).mean())


def test_a_size_that_it_cannot_have():
    with pytest.raises(UserError, match=r"48x64; both sides must be multiples of 32 .* or choose another --model\.enc"):
        UNet(CONFIG).init(jax.random.key(0), jnp.zeros((1, 48, 64, 1)), train=False)
