"""`python -m unet_jax.weights FILE.pth OUT.safetensors`: convert torch's weights for an encoder to start from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from unet_jax.config import UserError
from unet_jax.shared import cli


def main(argv: Sequence[str] | None = None) -> int:
    import tyro

    def options(
        file: Annotated[Path, tyro.conf.arg(metavar="FILE.pth"), tyro.conf.Positional],
        out: Annotated[Path, tyro.conf.arg(metavar="OUT.safetensors"), tyro.conf.Positional],
    ) -> tuple[Path, Path]:
        """Convert weights of EfficientNet-Lite0 that torch stored to a file that is read without torch.

        Args:
            file: A dictionary of tensors, named as in timm or in EfficientNet-PyTorch.
            out: File for --model.encoder-weights; replaced if it exists.
        """
        return file, out

    file, out = cli.parse(options, "weights", argv)
    if out.suffix != ".safetensors" or not out.absolute().parent.is_dir():
        raise UserError(f"OUT.safetensors is {out}; it must be a name that ends so, in a folder that exists.")

    from unet_jax.models.from_torch import convert

    weights = convert(file, out)
    values = sum(array.size for array in weights.arrays.values())
    print(f"Wrote {values:,} values to {out} (SHA-256 {weights.sha256}).")
    print(f"Start from them with --model.encoder efficientnet_lite0 --model.levels 5 --model.encoder-weights {out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
