"""The templates of `page/`, as Jinja2 reads them."""

import math
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

NONE = "\N{EN DASH}"
"""Stands for a value that there is not."""

Kind = Literal["score", "distance", "fraction", "count", "plain"]
"""Kinds of numbers, which are printed differently."""

_FORMATS = {"score": ".3f", "distance": ".2f", "count": ",.0f", "plain": "g"}


def templates(*, escape: bool) -> Environment:
    """Open the templates; `escape` has all that they print escaped as HTML asks."""
    environment = Environment(
        loader=PackageLoader("unet_jax.reporting", "page"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = number
    return environment


def number(value: int | float | None, kind: Kind) -> str:
    """Print a value; None and what is not finite as an en dash."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{100 * value:.1f} %" if kind == "fraction" else format(value, _FORMATS[kind])
