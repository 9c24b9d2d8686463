"""The encoder EfficientNet-Lite0: its structure, and its place in the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.config import ModelConfig, UserError
from unet_jax.models.network import UNet, abstract_variables

CONFIG = ModelConfig(levels=5, encoder="efficientnet_lite0", decoder_widths=(2, 3, 4, 5, 6), norm="conv", dropout=0.0)


def of_encoder(tree):
    return {name: value for name, value in tree.items() if name.startswith("encoder_")}


def test_parameters_are_counted_and_named():
    """timm's `tf_efficientnet_lite0`, features only: 2,958,848 with 2 x 288 more for three channels of input."""
    variables = abstract_variables(CONFIG)
    counts = {k: sum(np.prod(x.shape) for x in jax.tree.leaves(of_encoder(v))) for k, v in variables.items()}
    assert counts == {"params": 2_958_848 - 576, "batch_stats": 39_456}
    params = variables["params"]
    places = [(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (5, 4), (6, 1)]
    blocks = {f"encoder_block{stage}_{place}" for stage, repeats in places for place in range(repeats)}
    assert set(of_encoder(params)) == blocks | {"encoder_stem"}
    shapes = {k: jax.tree.map(lambda x: x.shape, v) for k, v in params["encoder_block5_0"].items()}
    assert {k: v["kernel"] for k, v in shapes.items() if k.startswith("conv")} == {
        "conv_pw": (1, 1, 112, 672),
        "conv_dw": (5, 5, 1, 672),
        "conv_pwl": (1, 1, 672, 192),
    }
    assert {k: v["scale"] for k, v in shapes.items() if k.startswith("bn")} == {
        "bn1": (672,),
        "bn2": (672,),
        "bn3": (192,),
    }
    # The decoder joins the bottom's 320 channels, and at each level its own features with the encoder's.
    assert params["transpose4"]["kernel"].shape == (3, 3, 320, 6)
    inputs = [params[f"up{level}"]["conv0"]["kernel"].shape[2] for level in range(5)]
    assert inputs == [2 + 1, 3 + 16, 4 + 24, 5 + 40, 6 + 112]


@pytest.fixture(scope="module")
def network():
    x = jax.random.uniform(jax.random.key(1), (2, 64, 32, 1))
    return jax.jit(lambda: UNet(CONFIG).init(jax.random.key(0), x, train=False))(), x


def run(config, variables, x):
    """A mean square of the logits in training, its gradients, and the updated statistics."""

    def loss(params):
        y, updates = UNet(config).apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return (y**2).mean(), (y, updates["batch_stats"])

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])


def test_it_learns_and_can_be_rematerialised(network):
    variables, x = network
    (_, (y, stats)), grads = run(CONFIG, variables, x)
    assert y.shape == (2, 64, 32, 1)
    # Every weight of the encoder takes part, and every running mean has moved.
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(of_encoder(grads)))
    for name, norms in of_encoder(stats).items():
        for norm in norms.values():
            assert float(jnp.abs(norm["mean"]).max()) > 0, name
    (_, (again, _)), same = run(dataclasses.replace(CONFIG, remat=True), variables, x)
    np.testing.assert_allclose(again, y, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), same, grads)


def test_bfloat16_keeps_parameters_and_statistics(network):
    variables, x = network
    half = dataclasses.replace(CONFIG, precision="bfloat16")
    exact, rough = (np.asarray(UNet(c).apply(variables, x, train=False)) for c in (CONFIG, half))
    assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()
    (_, (_, stats)), grads = run(half, variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((stats, grads))} == {np.dtype("float32")}


def test_a_size_that_it_cannot_have():
    with pytest.raises(UserError, match=r"48x64; both sides must be multiples of 32 .* or choose another --model\.enc"):
        UNet(CONFIG).init(jax.random.key(0), jnp.zeros((1, 48, 64, 1)), train=False)
