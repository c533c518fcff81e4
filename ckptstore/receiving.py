"""Put bytes that arrive into memory that is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["cut", "filled"]


def filled(parts: Iterable[memoryview], memory: Iterable[memoryview]) -> Iterator[memoryview]:
    """Yield each piece of memory with a part in it, cut to the part's length; both are taken one at a time.

    Raises:
        ValueError: a part is longer than its memory.
    """
    import numpy as np

    for part, room in zip(parts, memory, strict=False):
        target = cut(room, part.nbytes)
        if part.nbytes:
            np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(part, np.uint8))  # without the GIL
        yield target


def cut(room: memoryview, size_bytes: int) -> memoryview:
    """Return the first bytes of some memory.

    Raises:
        ValueError: it has fewer.
    """
    if room.nbytes < size_bytes:
        raise ValueError(f"{size_bytes} bytes do not fit into memory of {room.nbytes}")
    return room[:size_bytes]
