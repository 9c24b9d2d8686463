"""Pytrees as names and arrays, as checkpoints store them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp


def flatten(tree: Any) -> dict[str, Any]:
    """Name the leaves, as `params/enc0/conv1/kernel`, in the order of jax.tree.leaves."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nest leaves as plain dicts, so that what is stored depends on no class of Flax, Optax or ours."""
    return flax.traverse_util.unflatten_dict(leaves, sep="/")


def difference(expected: Mapping[str, Any], found: Mapping[str, Any], where: Path) -> str | None:
    """Say what is wrong with the arrays found in a checkpoint: names, shapes or dtypes; None if all is as expected."""
    lacks, others = [n for n in expected if n not in found], [n for n in found if n not in expected]
    if lacks or others:
        texts = [f"lacks {len(lacks)} of {len(expected)} arrays (first {lacks[0]})"] if lacks else []
        texts += [f"has {len(others)} that are not expected (first {others[0]})"] if others else []
        return f"{where} is of another configuration: it {' and '.join(texts)}."
    aspects: tuple[Callable[[Any], Any], ...] = (lambda x: tuple(x.shape), lambda x: jnp.dtype(x.dtype).name)
    for aspect in aspects:
        different = [n for n in expected if aspect(found[n]) != aspect(expected[n])]
        if different:
            n, more = different[0], len(different) - 1
            has, expects = aspect(found[n]), aspect(expected[n])
            rest = f", and {more} more differ" if more else ""
            return f"{n}: checkpoint has {has}, this configuration expects {expects}{rest} ({where})."
    return None
