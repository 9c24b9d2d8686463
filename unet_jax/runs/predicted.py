"""Predictions for slices of a converted dataset."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from unet_jax.data.converted.arrays import Arrays
from unet_jax.imaging.resize import from_network
from unet_jax.inference.predictor import Predictor
from unet_jax.shared.progress import track

Rows = Int64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Slices of a dataset, and the probabilities that were predicted for them at the network's size."""

    arrays: Arrays
    rows: Rows
    probs: Float32[np.ndarray, "n size size"]

    def native_probs(self, i: int) -> Float32[np.ndarray, "h w"]:
        """Resize the probabilities of the i-th slice to the slice's own size."""
        row = self.rows[i]
        return from_network(self.probs[i], (int(self.arrays.heights[row]), int(self.arrays.widths[row])))

    def native_mask(self, i: int) -> Bool[np.ndarray, "h w"]:
        """Return the true tumour of the i-th slice."""
        return self.arrays.native_mask(int(self.rows[i])) > 0


def predict_rows(predictor: Predictor, arrays: Arrays, rows: Rows, what: str) -> Predicted:
    """Run the network over rows of a dataset; `what` names the work on the progress bar."""
    probs = np.zeros((len(rows), arrays.size, arrays.size), np.float32)
    stream = predictor.stream_network(arrays.network_slice(int(row)) for row in rows)
    for i, predicted in enumerate(track(stream, len(rows), what)):
        probs[i] = predicted.probs
    return Predicted(arrays, rows, probs)
