"""What changed in nested plain data, value by value, by path."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Change", "ValueChange", "changes_between", "leaves"]

Change: TypeAlias = Literal["added", "removed", "changed"]

_PLAIN_NAME = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One value that differs.

    Attributes:
        path: where it stands, such as ``optimizer.lr`` or ``layers[2].size``.
        change: "added", "removed" or "changed".
        old: its value before; None where it was added.
        new: its value after; None where it was removed.
    """

    path: str
    change: Change
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.change == "changed":
            return f"{self.path} {self.old} -> {self.new}"
        value = self.new if self.change == "added" else self.old
        return f"{self.path} {self.change} ({value})"


def changes_between(old: Any, new: Any, path: str = "") -> Iterator[ValueChange]:
    """Yield what differs between two values, in the order of the old one, then what only the new one has.

    Mappings are compared by key and lists by position; 1, 1.0, True and "1" differ, NaN equals NaN.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes_of_item(old, new, key, _below(path, key))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        before, after = dict(enumerate(old)), dict(enumerate(new))
        for index in range(max(len(old), len(new))):
            yield from _changes_of_item(before, after, index, f"{path}[{index}]")
    elif not _same(old, new):
        yield ValueChange(path, "changed", old, new)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values that are no mappings or lists, and the empty ones, by path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, _below(path, key))
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    elif path:
        yield path, value


def _changes_of_item(old: Mapping[Any, Any], new: Mapping[Any, Any], key: Any, path: str) -> Iterator[ValueChange]:
    if key not in old:
        yield ValueChange(path, "added", None, new[key])
    elif key not in new:
        yield ValueChange(path, "removed", old[key], None)
    else:
        yield from changes_between(old[key], new[key], path)


def _below(path: str, key: Any) -> str:
    if not isinstance(key, str) or not _PLAIN_NAME.fullmatch(key):
        return f"{path}[{key!r}]"
    return f"{path}.{key}" if path else key


def _same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, float) and math.isnan(old):
        return math.isnan(new)
    return bool(old == new)
