"""A network of the same kind in segmentation_models_pytorch, channels last, behind the interface of `ours.Side`.

The kind is that of the preset `best`: the same encoder, EfficientNet-Lite0 (timm's), and a U-Net decoder of the same
widths with batch normalisation. It is not the same function. Pixels are repeated where ours are convolved to twice the
side, there is no skip connection at full size and no dropout, the output is a 3x3 convolution, and weights are its own.
"""

import importlib
from typing import Any

from experiments.benchmarks.cases import BestCase
from experiments.benchmarks.torch_peer import OnDevice, torch

flop_counter: Any = importlib.import_module("torch.utils.flop_counter")
smp: Any = importlib.import_module("segmentation_models_pytorch")


class Side(OnDevice):
    """One case at a time."""

    def describe(self) -> dict[str, Any]:
        on = super().describe()
        return on | {"name": f"segmentation_models_pytorch {smp.__version__} on {on['name']}"}

    def build(self, case: BestCase) -> tuple[int, int]:
        """Make the network with fresh weights.

        Returns:
            How many values it trains, and the operations of one slice forward, counted as in `flops.forward_flops`.
        """
        torch.manual_seed(0)
        self.take(case, network(case))
        optim = case.config.optim
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=optim.learning_rate, eps=1e-7, weight_decay=optim.weight_decay, fused=True
        )
        self.model.eval()
        with torch.inference_mode(), flop_counter.FlopCounterMode(display=False) as counter:
            self.model(self.x[:1])
        return sum(parameter.numel() for parameter in self.model.parameters()), counter.get_total_flops()


def network(case: BestCase) -> Any:
    """The network, of one channel in and one out."""
    return smp.Unet(
        "tu-tf_efficientnet_lite0",
        encoder_weights=None,
        decoder_channels=case.config.model.decoder_widths[::-1],
        in_channels=1,
    )
