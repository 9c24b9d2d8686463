"""The same network in PyTorch, channels last, behind the interface of `ours.Side`."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.benchmarks.cases import AnyCase, Case, Kind, network_input
from experiments.benchmarks.variants import fastest, first

# Through importlib because the program does not depend on it, and a type checker need not find it.
torch: Any = importlib.import_module("torch")
F: Any = importlib.import_module("torch.nn.functional")

CHANNELS_LAST = torch.channels_last


class OnDevice:
    """A network, its optimizer and the sample on the device that PyTorch computes on; what `prepare` takes is timed.

    A subclass sets `optimizer`.
    """

    optimizer: Any

    def describe(self) -> dict[str, Any]:
        cuda = torch.cuda.is_available()
        return {
            "name": f"PyTorch {torch.__version__}",
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "accelerator": cuda,
        }

    def take(self, case: AnyCase, model: Any) -> None:
        """Move the network and the case's sample, turned, to the device."""
        self.case, self.device = case, "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(self.device, memory_format=CHANNELS_LAST)
        self.x, self.target = (
            torch.from_numpy(turned(array).transpose(0, 3, 1, 2).copy()).to(self.device, memory_format=CHANNELS_LAST)
            for array in network_input(case)
        )

    def train_losses(self, steps: int) -> list[float]:
        """The losses of so many train steps on the sample, one after another."""
        call = self._train_step(self.model)
        return [call().item() for _ in range(steps)]

    def prepare(self, kind: Kind, every_way: bool = True) -> tuple[str, float]:
        """As `ours.Side.prepare`."""
        make = self._train_step if kind == "train_step" else self._inference
        ways: dict[str, Callable[[], Callable[[], Any]]] = {
            "eager": lambda: make(self.model),
            "compiled": lambda: make(torch.compile(self.model)),
        }
        way, self._call, seconds = fastest(ways if every_way else first(ways), self._time)
        return way, seconds

    def block(self, calls: int) -> float:
        """As `ours.Side.block`."""
        return self._time(self._call, calls)

    def _time(self, call: Callable[[], Any], calls: int) -> float:
        call()
        self._finish()
        began = time.perf_counter()
        for _ in range(calls):
            call()
        self._finish()
        return (time.perf_counter() - began) / calls

    def _finish(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _autocast(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.case.precision == "bfloat16")

    def _train_step(self, model: Any) -> Callable[[], Any]:
        self.model.train()

        def call() -> Any:
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                logits = model(self.x)
            value = loss(logits.float(), self.target)
            value.backward()
            self.optimizer.step()
            return value

        return call

    def _inference(self, model: Any) -> Callable[[], Any]:
        self.model.eval()

        def call() -> Any:
            with torch.inference_mode(), self._autocast():
                return torch.sigmoid(model(self.x))

        return call


class Side(OnDevice):
    """One case at a time.

    The network sees the sample turned by half a circle, with all kernels turned too, and so computes the logits turned.
    A 3x3 stride-2 transposed convolution that gives twice the size leaves out an edge of what it could: the usual
    `padding=1, output_padding=1` leaves out the other edge than Keras and Flax. Turned, it is the same function.
    """

    def build(self, case: Case, weights: Mapping[str, np.ndarray]) -> None:
        """Make the network with these weights, named as `ours.Side.build` names them."""
        torch.manual_seed(0)
        model = network(case)
        load(model, weights)
        self.take(case, model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def evaluate(self) -> tuple[np.ndarray, float]:
        """Logits (b, size, size, 1) and the loss of the sample, in inference mode and exact arithmetic."""
        self.model.eval()
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            logits = self.model(self.x)
            return turned(logits.permute(0, 2, 3, 1).cpu().numpy()), float(loss(logits, self.target))


def network(case: Case) -> Any:
    """The network of `unet_jax.models.network.UNet`, norm `pool`, with layers named as its parameters are."""
    nn = torch.nn
    widths = [case.width * 2**level for level in range(case.levels)]

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict()
            channels = 1
            for level, width in enumerate(widths):
                self.block(f"down{level}", channels, width)
                # PyTorch's momentum is the weight of the new value, Keras' that of the old.
                self.layers[f"norm{level}"] = nn.BatchNorm2d(width, eps=1e-3, momentum=0.2)
                channels = width
            self.block("bottom", channels, channels)
            for level, width in reversed(list(enumerate(widths))):
                self.layers[f"transpose{level}"] = nn.ConvTranspose2d(
                    channels, width, 3, stride=2, padding=1, output_padding=1
                )
                self.block(f"up{level}", 2 * width, width)
                channels = width
            self.layers["output"] = nn.Conv2d(channels, 1, 1)

        def block(self, name: str, channels: int, width: int) -> None:
            self.layers[f"{name}_conv0"] = nn.Conv2d(channels, width, 3, padding=1)
            self.layers[f"{name}_conv1"] = nn.Conv2d(width, width, 3, padding=1)

        def convolve(self, name: str, x: Any) -> Any:
            for i in range(2):
                x = F.relu(self.layers[f"{name}_conv{i}"](x), inplace=True)
            return x

        def drop(self, x: Any) -> Any:
            return F.dropout(x, case.dropout, self.training)

        def forward(self, x: Any) -> Any:
            skips = []
            for level in range(case.levels):
                x = self.convolve(f"down{level}", x)
                skips.append(x)
                x = self.drop(self.layers[f"norm{level}"](F.max_pool2d(x, 2)))
            x = self.convolve("bottom", x)
            for level in reversed(range(case.levels)):
                x = self.drop(torch.cat([self.layers[f"transpose{level}"](x), skips[level]], 1))
                x = self.convolve(f"up{level}", x)
            return self.layers["output"](x)

    return UNet()


def load(model: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Give the layers these weights, kernels turned."""
    for key, layer in model.layers.items():
        name = key.replace("_", "/")
        if name.startswith("norm"):
            values = {
                "weight": weights[f"params/{name}/scale"],
                "running_mean": weights[f"batch_stats/{name}/mean"],
                "running_var": weights[f"batch_stats/{name}/var"],
            }
        else:
            kernel = weights[f"params/{name}/kernel"]
            # PyTorch too turns the kernel of a transposed convolution round: turned once more it is as it was.
            stays = name.startswith("transpose")
            order = (2, 3, 0, 1) if stays else (3, 2, 0, 1)
            values = {"weight": (kernel if stays else kernel[::-1, ::-1]).transpose(order)}
        values["bias"] = weights[f"params/{name}/bias"]
        with torch.no_grad():
            for attribute, value in values.items():
                getattr(layer, attribute).copy_(torch.from_numpy(value.copy()))


def turned(array: np.ndarray) -> np.ndarray:
    """Images (b, h, w, c) turned by half a circle."""
    return array[:, ::-1, ::-1]


def loss(logits: Any, target: Any) -> Any:
    """The mean of the binary cross-entropy, plus the Dice loss of the batch with smoothing 1."""
    probs = torch.sigmoid(logits)
    dice = (2 * (probs * target).sum() + 1) / (probs.sum() + target.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - dice
