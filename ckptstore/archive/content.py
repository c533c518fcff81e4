"""The bytes of a `.pt`, however they are stored: as they are, or compressed in a `.pt.zst`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

from ckptstore.errors import CorruptCheckpoint
from ckptstore.keys import COMPRESSED
from ckptstore.store import ByteRange, ObjectInfo, Store

__all__ = ["Content", "Foresight", "PlainContent", "brief", "content_of", "read_whole_range", "thorough"]

Foresight: TypeAlias = Callable[[int], int]
"""How many of an object's last bytes are read at first, given its size."""

TAIL_BYTES, MOST_TAIL_BYTES, WIDEST_TAIL_BYTES = 256 * 1024, 1024 * 1024, 3 * 1024 * 1024


def brief(size_bytes: int) -> int:
    """Return enough for the index of about 1,700 tensors; of a large checkpoint a thousandth, up to 7,000."""
    return min(max(TAIL_BYTES, size_bytes // 1024), MOST_TAIL_BYTES)


def thorough(size_bytes: int) -> int:
    """Return enough for the index of about 20,000 tensors, however small they are: three quarters, up to 3 MiB."""
    return max(brief(size_bytes), min(size_bytes // 4 * 3, WIDEST_TAIL_BYTES))


class Content(Protocol):
    """The bytes of a `.pt` in one version of an object. Offsets are those of the `.pt`."""

    @property
    def key(self) -> str:
        """Of the object that holds them."""

    @property
    def size_bytes(self) -> int:
        """How many they are, which is not the object's size where that is compressed."""

    @property
    def version(self) -> str:
        """Of the object; every read is pinned to it."""

    def tail(self) -> bytes:
        """Return the last bytes, at least 4 KiB of what there is. One request.

        Of a plain `.pt` as many as foreseen; of a compressed one, what its last blocks hold.
        """

    def read(self, ranges: Iterable[ByteRange]) -> Iterator[memoryview]:
        """Yield the bytes of each range, in the order asked; as `Store.get_ranges`.

        Raises:
            KeyNotFound, ObjectChanged: the object was deleted or replaced.
            CorruptCheckpoint: it is not what was written.
        """

    def read_into(self, ranges: Iterable[ByteRange], memory: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield each piece of memory with the bytes of its range; as `Store.get_ranges_into`.

        Raises:
            KeyNotFound, ObjectChanged, CorruptCheckpoint: as `read`.
        """


class PlainContent:
    """A `.pt` stored as it is; nothing is requested before the first read."""

    def __init__(self, store: Store, info: ObjectInfo, foresight: Foresight = brief) -> None:
        self.store = store
        self.key = info.key
        self.size_bytes = info.size_bytes
        self.version = info.version
        self._foresight = foresight

    def tail(self) -> bytes:
        """See `Content`."""
        start = max(0, self.size_bytes - self._foresight(self.size_bytes))
        return read_whole_range(self, start, self.size_bytes)

    def read(self, ranges: Iterable[ByteRange]) -> Iterator[memoryview]:
        """See `Content`."""
        return self.store.get_ranges(self.key, ranges, version=self.version)

    def read_into(self, ranges: Iterable[ByteRange], memory: Iterable[memoryview]) -> Iterator[memoryview]:
        """See `Content`."""
        return self.store.get_ranges_into(self.key, ranges, memory, version=self.version)


def content_of(store: Store, info: ObjectInfo, foresight: Foresight = brief) -> Content:
    """Return the bytes of the `.pt` that an object holds: decompressed where its key ends with ".zst".

    No request for a `.pt`; one for a `.pt.zst`, which is checked and kept for `Content.tail`.

    Raises:
        KeyNotFound, ObjectChanged: there is no such object, or no longer of that version.
        CorruptCheckpoint: a `.pt.zst` that is truncated, or changed where its index is.
    """
    if not info.key.endswith(COMPRESSED):
        return PlainContent(store, info, foresight)
    from ckptstore.packing import PackedContent  # zstandard takes 15 ms, and few checkpoints are compressed

    return PackedContent(store, info, foresight)


def read_whole_range(content: Content, start: int, stop: int) -> bytes:
    """Return the bytes between two offsets.

    Raises:
        CorruptCheckpoint: there are fewer.
    """
    data = b"".join(content.read([ByteRange(start, stop - start)]))
    if len(data) != stop - start:
        raise CorruptCheckpoint(f"{len(data)} bytes came where {stop - start} were asked for")
    return data
