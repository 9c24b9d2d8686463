"""Weights and images for EfficientNet-Lite0 by a rule that anybody's numpy follows, under the names that timm has."""

import zlib

import numpy as np

# Stage by stage: blocks, side of the depthwise kernels, expansion, channels.
STAGES = [(1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)]


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values in [-1, 1), from a stream of bits that numpy promises to keep."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return ((bits >> np.uint64(11)) / 2**52 - 1).reshape(shape)


def kernel(name: str, o: int, i: int, size: int) -> dict[str, np.ndarray]:
    # A variance of 2 / fan in, so that the features neither vanish nor grow.
    values = uniform(f"{name}.weight", (o, i, size, size)) * np.sqrt(6 / (i * size**2))
    return {f"{name}.weight": values.astype(np.float32)}


def norm(name: str, c: int) -> dict[str, np.ndarray]:
    ranges = {"weight": (1.0, 0.3), "bias": (0.0, 0.3), "running_mean": (0.0, 0.3), "running_var": (1.0, 0.5)}
    values = {f"{name}.{k}": mid + half * uniform(f"{name}.{k}", (c,)) for k, (mid, half) in ranges.items()}
    return {k: v.astype(np.float32) for k, v in values.items()}


def timm_weights() -> dict[str, np.ndarray]:
    """All of the encoder's weights, by their names in timm's `tf_efficientnet_lite0`."""
    weights = kernel("conv_stem", 32, 3, 3) | norm("bn1", 32)
    i = 32
    for stage, (repeats, size, expansion, o) in enumerate(STAGES):
        for place in range(repeats):
            block, inside = f"blocks.{stage}.{place}", expansion * i
            if expansion == 1:
                weights |= kernel(f"{block}.conv_dw", i, 1, size) | norm(f"{block}.bn1", i)
                weights |= kernel(f"{block}.conv_pw", o, i, 1) | norm(f"{block}.bn2", o)
            else:
                weights |= kernel(f"{block}.conv_pw", inside, i, 1) | norm(f"{block}.bn1", inside)
                weights |= kernel(f"{block}.conv_dw", inside, 1, size) | norm(f"{block}.bn2", inside)
                weights |= kernel(f"{block}.conv_pwl", o, inside, 1) | norm(f"{block}.bn3", o)
            i = o
    return weights


def images(b: int, h: int, w: int) -> np.ndarray:
    """Images (b, h, w, 1) of 0 to 1."""
    return ((uniform(f"images {h} {w}", (b, h, w, 1)) + 1) / 2).astype(np.float32)
