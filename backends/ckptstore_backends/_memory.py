"""How much memory one transfer may take, beside the bytes that it is given and those that it has handed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckptstore_backends._parts import MIB

LEAST_BYTES = 16 * MIB
DEFAULT_BYTES = 128 * MIB

_PART_BYTES = 16 * MIB
_WAITING = 1  # the part that is gathered while others are under way


def memory_of(options: Mapping[str, Any]) -> int:
    """Return the storage option memory_bytes; by default 128 MiB, or what the option max_concurrency takes.

    Raises:
        ValueError: it is no number of bytes, or so few that nothing could move.
    """
    asked = (int(options.get("max_concurrency") or 0) + _WAITING) * _PART_BYTES
    given = options.get("memory_bytes", max(DEFAULT_BYTES, asked))
    if isinstance(given, bool) or not isinstance(given, int) or given < LEAST_BYTES:
        raise ValueError(f"memory_bytes is {given!r}; give at least {LEAST_BYTES}, bytes that one transfer may hold")
    return given


def at_once(wanted: int, part_bytes: int, memory_bytes: int) -> int:
    """Return how many parts may be under way: as many as wanted, if there is room for them, and always one."""
    return max(1, min(wanted, memory_bytes // part_bytes - _WAITING))
