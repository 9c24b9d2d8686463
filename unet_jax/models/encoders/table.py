"""Encoders by name: the contracting paths that a network may have.

An encoder is a function `(x, layers) -> features`, called inside the network's compact method:

    x: the network's input, float32 (b, h, w, 1), both sides multiples of the stride.
    layers: makes the layers that the configuration asks for (`models.layers.Layers`); a layer needs a name, which is
        that of its parameters.

It returns its feature maps from full size down, each of half the side of the one before: what the decoder takes as
skip connections, and last the bottom. A new one is a file here, a row of the table, and its name in `ModelConfig`.
"""

from unet_jax.models.encoders import efficientnet_lite0, plain

ENCODERS = {"plain": plain.encode, "efficientnet_lite0": efficientnet_lite0.encode}
