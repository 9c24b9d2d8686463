"""This program's exported network in ONNX Runtime, behind the interface of `ours.Side`: inference in float32."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from flax import traverse_util

from experiments.benchmarks.cases import SCALE, AnyCase, Kind, sample
from unet_jax.deploy.files import describe
from unet_jax.deploy.onnx import build
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.scoring.components import Postprocess


class Side:
    """One case at a time."""

    def describe(self) -> dict[str, Any]:
        return {"name": f"ONNX Runtime {onnxruntime.__version__}", "device": "cpu", "accelerator": False}

    def build(self, case: AnyCase, weights: Mapping[str, np.ndarray]) -> None:
        """Open the network with these weights, named as `ours.Side.build` names them."""
        network = TrainedNetwork(
            path=Path("network"),
            model_name=None,
            model=case.config.model,
            preprocess=case.config.preprocess,
            size=case.size,
            intensity_max=SCALE,
            step=0,
            seed=0,
            data_digest="",
            sha256="",
            variables=traverse_util.unflatten_dict(dict(weights), sep="/"),
            threshold=0.5,
            threshold_note=None,
            postprocess=Postprocess(0, fill_holes=False),
        )
        model = build([network], describe([network]))
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        images, _ = sample(case)
        limits = np.tile(np.array([0, SCALE], np.float32), (case.batch, 1))
        self.inputs = {"image": images.astype(np.float32), "limits": limits}

    def evaluate(self) -> tuple[np.ndarray, None]:
        """Logits (b, size, size, 1) of the sample; it has no loss."""
        probs = self._call().astype(np.float64)
        return np.log(probs / (1 - probs))[..., None], None

    def prepare(self, kind: Kind, every_way: bool = True) -> tuple[str, float]:
        """As `ours.Side.prepare`."""
        if kind != "inference":
            raise ValueError(f"kind is {kind}; an exported network can but be used")
        return "session", self.block(1)

    def block(self, calls: int) -> float:
        """As `ours.Side.block`."""
        self._call()
        began = time.perf_counter()
        for _ in range(calls):
            self._call()
        return (time.perf_counter() - began) / calls

    def _call(self) -> np.ndarray:
        (probs,) = self.session.run(None, self.inputs)
        return np.asarray(probs)
