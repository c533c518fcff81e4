"""How classes and functions are named in a description."""

from __future__ import annotations

from typing import Any


def is_of_torch(thing: object) -> bool:
    """Say whether a class or function was defined by torch itself."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "torch"


def identity_of(thing: Any) -> str:
    """Return the name by which a class or function counts.

    Outside torch the module is no part of it: a script's classes are the same, run or imported.
    """
    return full_name(thing) if is_of_torch(thing) else thing.__qualname__


def full_name(thing: Any) -> str:
    """Return the name by which people find a class or function."""
    return f"{thing.__module__}.{thing.__qualname__}"
