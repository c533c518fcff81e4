"""A stream that can be begun again, as long as little of it was used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Replay:
    """Keeps what is pulled of a stream, up to a size; beyond, it keeps nothing and cannot be begun again.

    Args:
        views: the stream.
        limit_bytes: the buffer that reaches this is the last one kept.
        size_bytes: the length of the stream, None when it is not known.
    """

    def __init__(self, views: Iterable[memoryview], limit_bytes: int, size_bytes: int | None) -> None:
        self.size_bytes = size_bytes
        self._rest = iter(views)
        self._room = limit_bytes
        self._kept: list[memoryview] | None = []

    @property
    def possible(self) -> bool:
        """Whether iterating would yield the whole stream. A producer that raised has nothing more to say."""
        return self._kept is not None

    def __iter__(self) -> Iterator[memoryview]:
        yield from list(self._kept or ())
        while True:
            try:
                view = next(self._rest)
            except StopIteration:
                return
            except BaseException:
                self._kept = None
                raise
            self._keep(view)
            yield view

    def _keep(self, view: memoryview) -> None:
        if self._room < 0:
            self._kept = None
        elif self._kept is not None:
            self._kept.append(view)
            self._room -= view.nbytes
