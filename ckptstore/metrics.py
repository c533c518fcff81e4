"""The numbers in the metadata of a checkpoint, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

__all__ = ["numbers_in"]


def numbers_in(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers by name, in their order: ``"eval.loss"`` is ``metadata["eval"]["loss"]``.

    A name as it stands goes before one that is put together. A bool is no number.
    """
    found: dict[str, float] = {}
    for name, value in metadata.items():
        if isinstance(value, Mapping):
            for inner, number in numbers_in(value).items():
                found.setdefault(f"{name}.{inner}", number)
        elif _is_finite(value):
            found[str(name)] = value
    return found


def _is_finite(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the floats
        return False
