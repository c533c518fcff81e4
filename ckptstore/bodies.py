"""What a put is given, made uniform: one flat view, or an iterator of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckptstore.objects import MAX_CREATE_BYTES, Buffer, as_bytes_view

__all__ = ["body_of", "gathered"]


def body_of(data: Buffer | Iterable[Buffer]) -> memoryview | Iterator[memoryview]:
    """Return flat views of what is to be put: one of a buffer, or one after the other of an iterable.

    Raises:
        TypeError: it is neither; from the iterator, when one of its items is no contiguous buffer.
    """
    if isinstance(data, str):
        raise TypeError("a store keeps bytes; encode the str first")
    if _is_buffer(data):
        return as_bytes_view(data)
    if not isinstance(data, Iterable):
        raise TypeError(f"a store keeps a buffer or an iterable of buffers, not {type(data).__name__}")
    return Views(map(as_bytes_view, data), getattr(data, "size_bytes", None))


class Views(Iterator[memoryview]):
    """Flat views, one after the other.

    Attributes:
        size_bytes: how much they are together, where the iterable has an attribute of that name that says so:
            a bucket cuts an object into a limited number of parts, and a large one needs large parts from the
            first on. None: unknown.
    """

    def __init__(self, views: Iterator[memoryview], size_bytes: int | None) -> None:
        self._views = views
        self.size_bytes = size_bytes

    def __next__(self) -> memoryview:
        return next(self._views)


def _is_buffer(data: object) -> bool:
    try:
        memoryview(data)  # type: ignore[arg-type]  # the TypeError is the answer
    except TypeError:
        return False
    return True


def gathered(body: memoryview | Iterator[memoryview]) -> memoryview:
    """Return the body of an atomic create in one piece.

    Raises:
        ValueError: as soon as it has more than 64 MiB.
    """
    if isinstance(body, memoryview):
        _check_create_size(body.nbytes)
        return body
    whole = bytearray()
    for part in body:
        _check_create_size(len(whole) + part.nbytes)
        whole += part
    return memoryview(whole)


def _check_create_size(size_bytes: int) -> None:
    if size_bytes > MAX_CREATE_BYTES:
        limit = MAX_CREATE_BYTES // 1024**2
        raise ValueError(
            f"an atomic create takes at most {limit} MiB, not {size_bytes} bytes; put with overwrite=True"
        )
