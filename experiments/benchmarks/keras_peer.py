"""The same network in Keras on TensorFlow, behind the interface of `ours.Side`."""

import importlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.benchmarks.cases import Case, Kind, Precision, network_input
from experiments.benchmarks.variants import fastest, first


def _import(module: str) -> Any:
    """Import without what TensorFlow's C++ says about its settings on standard error, whatever its log level."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        return importlib.import_module(module)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


# Any, because their types, or the lack of them, would drown a type checker's findings about us.
tf = _import("tensorflow")
keras = _import("keras")


class Side:
    """One case at a time."""

    def describe(self) -> dict[str, Any]:
        there = tf.config.list_physical_devices("GPU")
        return {
            "name": f"Keras {keras.__version__} on TensorFlow {tf.__version__}",
            "device": there[0].name if there else "cpu",
            "accelerator": bool(there),
        }

    def build(self, case: Case, weights: Mapping[str, np.ndarray]) -> None:
        """Make the network with these weights, named as `ours.Side.build` names them."""
        keras.backend.clear_session()
        self.case = case
        self.model = network(case, case.precision)
        load(self.model, weights)
        self.optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-7)
        self.optimizer.build(self.model.trainable_variables)
        self.x, self.target = (tf.constant(array) for array in network_input(case))

    def evaluate(self) -> tuple[np.ndarray, float]:
        """Logits (b, size, size, 1) and the loss of the sample, in inference mode and exact arithmetic."""
        model = self.model
        if self.case.precision != "float32":
            model = network(self.case, "float32")
            model.set_weights(self.model.get_weights())
        logits = model(self.x, training=False)
        return logits.numpy(), float(loss(logits, self.target))

    def train_losses(self, steps: int) -> list[float]:
        """The losses of so many train steps on the sample, one after another."""
        call = tf.function(self._train_step)
        return [float(call()) for _ in range(steps)]

    def prepare(self, kind: Kind, every_way: bool = True) -> tuple[str, float]:
        """As `ours.Side.prepare`."""
        function = self._train_step if kind == "train_step" else self._inference
        ways: dict[str, Callable[[], Callable[[], Any]]] = {
            "tf.function": lambda: tf.function(function),
            "tf.function, XLA": lambda: tf.function(function, jit_compile=True),
        }
        way, self._call, seconds = fastest(ways if every_way else first(ways), _time)
        return way, seconds

    def block(self, calls: int) -> float:
        """As `ours.Side.block`."""
        return _time(self._call, calls)

    def _train_step(self) -> Any:
        with tf.GradientTape() as tape:
            value = loss(self._logits(training=True), self.target)
        gradients = tape.gradient(value, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return value

    def _inference(self) -> Any:
        return tf.sigmoid(self._logits(training=False))

    def _logits(self, *, training: bool) -> Any:
        return tf.cast(self.model(self.x, training=training), tf.float32)


def _time(call: Callable[[], Any], calls: int) -> float:
    call().numpy()
    began = time.perf_counter()
    for _ in range(calls - 1):
        call()
    call().numpy()
    return (time.perf_counter() - began) / calls


def network(case: Case, precision: Precision) -> Any:
    """The network of `unet_jax.models.network.UNet`, norm `pool`, with layers named as its parameters are.

    With bfloat16 in Keras' mixed precision: weights and statistics are float32, layers compute in bfloat16.
    """
    layers = keras.layers
    keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")

    def block(x: Any, width: int, name: str) -> Any:
        for i in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_conv{i}")(x)
        return x

    image = keras.Input((case.size, case.size, 1), case.batch)
    widths = [case.width * 2**level for level in range(case.levels)]
    x, skips = image, []
    for level, width in enumerate(widths):
        x = block(x, width, f"down{level}")
        skips.append(x)
        x = layers.MaxPooling2D()(x)
        x = layers.BatchNormalization(momentum=0.8, epsilon=1e-3, name=f"norm{level}")(x)
        x = layers.Dropout(case.dropout)(x)
    x = block(x, widths[-1], "bottom")
    for level, width in reversed(list(enumerate(widths))):
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", name=f"transpose{level}")(x)
        x = layers.Dropout(case.dropout)(layers.Concatenate()([x, skips[level]]))
        x = block(x, width, f"up{level}")
    return keras.Model(image, layers.Conv2D(1, 1, name="output")(x))


def load(model: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Give the layers these weights."""
    for layer in model.layers:
        name = layer.name.replace("_", "/")
        if name.startswith("norm"):
            places = [
                f"params/{name}/scale",
                f"params/{name}/bias",
                f"batch_stats/{name}/mean",
                f"batch_stats/{name}/var",
            ]
            layer.set_weights([weights[place] for place in places])
        elif layer.weights:
            kernel = weights[f"params/{name}/kernel"]
            if name.startswith("transpose"):
                # Keras turns the kernel of a transposed convolution round, and has its axes as the convolution's.
                kernel = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
            layer.set_weights([kernel, weights[f"params/{name}/bias"]])


def loss(logits: Any, target: Any) -> Any:
    """The mean of the binary cross-entropy, plus the Dice loss of the batch with smoothing 1."""
    probs = tf.sigmoid(logits)
    dice = (2 * tf.reduce_sum(probs * target) + 1) / (tf.reduce_sum(probs) + tf.reduce_sum(target) + 1)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits)) + 1 - dice
