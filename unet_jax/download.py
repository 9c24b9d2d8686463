"""`python -m unet_jax.download --out DIR`: download the Figshare dataset, verify and unpack it."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_jax.config import FIGSHARE_API
from unet_jax.shared import cli


@dataclass(frozen=True, kw_only=True)
class Options:
    """Download the brain tumour dataset of Jun Cheng (Figshare article 1512427, CC BY 4.0) and unpack it."""

    out: Path
    """Folder for data/N.mat, cvind.mat and README.txt. The dataset's archives that are in it, or in its archives, are
    unpacked without asking the network."""
    keep_archives: bool = False
    """Keep the downloaded archives in OUT/archives."""
    api: str = FIGSHARE_API
    """Root address of Figshare's API or of a mirror."""


def main(argv: Sequence[str] | None = None) -> int:
    options = cli.parse(Options, "download", argv)

    from unet_jax.data.download.article import count_slices, download

    names = download(
        options.out,
        api=options.api,
        keep_archives=options.keep_archives,
        say=lambda line: print(line, flush=True),
    )
    counted, unreadable = count_slices(options.out, names)
    others = [name for name in names if not name.startswith("data/")]
    print(f"{counted} in {options.out / 'data'}; beside it {', '.join(others) or 'nothing'}.")
    if unreadable:
        print(f"warning: {len(unreadable)} more cannot be read; the first is {unreadable[0]}", file=sys.stderr)
    raw, arrays = (shlex.quote(str(options.out) + suffix) for suffix in ("", "-128"))
    print(f"Next:    {cli.started('convert')} --raw {raw} --out {arrays} --size 128")
    return 0


if __name__ == "__main__":
    cli.run(main)
