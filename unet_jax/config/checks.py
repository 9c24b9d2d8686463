"""Configuration classes that check their own values."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from unet_jax.config.errors import UserError

C = TypeVar("C", bound="Checked")


class Rule(NamedTuple):
    """The range of one field."""

    field: str
    ok: bool
    """The value is in the range. A floating-point value must be finite besides."""
    expected: str
    """The range in words, after "it must be"."""


class Checked:
    """Base of a frozen dataclass whose values have ranges."""

    def rules(self) -> Iterable[Rule]:
        """The ranges of the fields, those of nested classes left to themselves."""
        return ()

    def check(self: C, prefix: str = "") -> C:
        """Return the object itself if every value is in its range, nested ones included.

        Args:
            prefix: what the options of this class begin with on a command line, such as `model.`.

        Raises:
            UserError: naming the first option that is out of its range, its value and the range.
        """
        for rule in self.rules():
            value = getattr(self, rule.field)
            if not rule.ok or (isinstance(value, float) and not math.isfinite(value)):
                raise UserError(f"--{prefix}{option_name(rule.field)} is {value!r}; it must be {rule.expected}.")
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            part = getattr(self, field.name)
            if isinstance(part, Checked):
                part.check(f"{prefix}{option_name(field.name)}.")
        return self


def option_name(field: str) -> str:
    """Name of a field on the command line."""
    return field.replace("_", "-")


def added(default: Any, *, since: str) -> Any:
    """Define a field that configurations stored by versions before `since` lack.

    Args:
        default: what those versions did; it stands in for the missing value.
        since: the first version that stores the field.
    """
    return dataclasses.field(default=default, metadata={"since": since})
