"""Configurations as JSON."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal

from unet_jax.config.checks import option_name
from unet_jax.config.errors import UserError
from unet_jax.config.schema import Config

T = typing.TypeVar("T")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted option names, as on the command line, to values."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), prefix + option_name(f.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, name + "."))
        else:
            flat[name] = value
    return flat


def to_options(config: Config, start: Config) -> list[str]:
    """List the options that make `config` of `start` on a command line."""
    options, before, words = flatten(config), flatten(start), []
    for name, value in options.items():
        if value == before[name]:
            continue
        group, _, last = name.rpartition(".")
        if value is False:
            words.append(f"--{group}.no-{last}" if group else f"--no-{last}")
        elif value is True:
            words.append(f"--{name}")
        elif isinstance(value, tuple):
            words += [f"--{name}", *_words(value)]
        else:
            words += [f"--{name}", str(value)]
    return words


def to_json(config: Config) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str | bytes, source: str) -> Config:
    """Read what `to_json` wrote; errors call that text `source`.

    Raises:
        UserError: not JSON, an unknown or missing name, or a value of another type or out of range. The value
            of a field that was `added` may be missing.
    """
    try:
        raw = json.loads(text)
    except ValueError as e:
        raise UserError(f"{source} is not JSON ({e}). Restore it, or start in an empty workdir.") from None
    return _build(Config, raw, source, "").check()


def from_object(kind: type[T], raw: Any, source: str) -> T:
    """Make a frozen dataclass, nested ones included, of an object that JSON gave; errors as those of `from_json`."""
    return _build(kind, raw, source, "")


def read_config(path: Path) -> Config:
    """The configuration stored at `path`; UserError if it is absent or wrong."""
    try:
        return from_json(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist; expected a workdir that `unet_jax.train` wrote.") from None


def _build(cls: type, raw: Any, source: str, prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(raw, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the top level'} is {raw!r}; expected an object.")
    optional = {field.name for field in dataclasses.fields(cls) if "since" in field.metadata}
    odd = {prefix + name for name in (set(raw) - set(hints)) | (set(hints) - set(raw) - optional)}
    if odd:
        named = ", ".join(sorted(odd))
        raise UserError(f"{source} does not fit this version of unet_jax (unknown or missing: {named}).")
    values = {}
    for name, value in raw.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            value = _build(typing.cast(type, hint), value, source, f"{prefix}{name}.")
        elif hint is float and type(value) is int:
            value = float(value)
        elif not _fits(value, hint):
            expected = hint.__name__ if isinstance(hint, type) else hint
            raise UserError(f"{source}: {prefix}{name} is {value!r}; expected {expected}.")
        values[name] = _frozen(value)
    return cls(**values)


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in typing.get_args(hint))
    if isinstance(hint, types.UnionType):
        return any(_fits(value, h) for h in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:  # JSON writes it as a list
        parts = typing.get_args(hint)
        if not isinstance(value, list):
            return False
        parts = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(value) == len(parts) and all(_fits(v, part) for v, part in zip(value, parts, strict=True))
    return type(value) is hint


def _frozen(value: Any) -> Any:
    """Turn the lists of JSON, and those in them, to tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _words(value: Any) -> list[str]:
    """List the values of a tuple, and of those in it, as the words of a command line."""
    return [word for part in value for word in _words(part)] if isinstance(value, tuple) else [str(value)]
