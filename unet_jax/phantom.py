"""`python -m unet_jax.phantom --out OUT`: write computer-made MRI-like slices in the layout of the Figshare dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_jax.config import PhantomConfig, UserError
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class PhantomOptions(PhantomConfig):
    """Write MRI-like slices of invented patients as OUT/data/N.mat, OUT/cvind.mat and OUT/README.txt."""

    out: Path
    """Folder to write in; it must be absent or empty."""
    zip: bool = False
    """Also write OUT/figshare.zip, the archive of archives that the dataset's article serves."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(PhantomOptions, "phantom", argv)
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UserError(f"{options.out} exists and is not an empty folder. Name another with --out, or empty it.")

    from unet_jax.data.phantom import write_phantom

    n = write_phantom(options.out, options.patients, options.seed, options.zip)
    print(f"{n} slices of {options.patients} patients in {options.out}")
    print(f"Next: {cli.started('convert')} --raw {options.out} --out {options.out}-128 --size 128")
    return 0


if __name__ == "__main__":
    cli.run(main)
