"""Features of timm's EfficientNet-Lite0 under the weights of `tests.helpers.lite0`; needs the extra `peers`.

`python -m tests.models.timm_features` prints the numbers that `test_efficientnet_lite0.py` has.
"""

import numpy as np
import timm
import torch

from tests.helpers.lite0 import images, timm_weights


def features(x: np.ndarray, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Compute the five maps (b, h, w, c) of grey images (b, h, w, 1) of 0 to 1, shown in each of three channels."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True).eval()
    missing, extra = model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    assert not extra and all(name.endswith(".num_batches_tracked") for name in missing)
    three = torch.from_numpy(2 * x - 1).permute(0, 3, 1, 2).repeat(1, 3, 1, 1)
    with torch.no_grad():
        return [maps.permute(0, 2, 3, 1).numpy() for maps in model(three)]


def chosen(maps: np.ndarray) -> list[float]:
    """Six values from one end of an array to the other."""
    return [float(value) for value in maps.ravel()[:: maps.size // 6 - 1][:6]]


if __name__ == "__main__":
    for maps in features(images(3, 64, 96), timm_weights()):
        print([round(value, 5) for value in chosen(maps)], float(np.abs(maps).max()))
