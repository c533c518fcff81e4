"""The index of an archive: everything but the tensors' bytes, from the last bytes of the object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ckptstore.archive.container import (
    FIXED_RECORDS,
    METADATA,
    Record,
    is_marked,
    metadata_start,
    read_directory,
    read_ending,
)
from ckptstore.archive.content import Content, Foresight, brief, content_of, read_whole_range
from ckptstore.archive.crc import crc32
from ckptstore.archive.tensors import TensorRef
from ckptstore.archive.unpickling import unpickled
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat
from ckptstore.store import Buffer, ObjectInfo, Store, redact

__all__ = ["Contents", "Index", "check_record", "contents_of", "naming", "read_index"]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the last bytes of an archive say, verified but not interpreted.

    Attributes:
        content: the bytes that were read; every later read is of the same version of the object.
        digest: the sha256 of the central directory, in hex; it identifies the content of the whole file.
        records: every record, in the order of the file.
        metadata: the pickle that describes the state.
    """

    content: Content
    digest: str
    records: tuple[Record, ...]
    metadata: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """Of the object."""
        return self.content.key

    @property
    def size_bytes(self) -> int:
        """Of the `.pt`, compressed or not."""
        return self.content.size_bytes

    @property
    def version(self) -> str:
        """Of the object that was read."""
        return self.content.version

    def state_of(self, tensor: Callable[[TensorRef], Any]) -> dict[str, Any]:
        """Return the state as it was saved, with what the function gives in place of each tensor.

        Raises:
            CorruptCheckpoint: the metadata makes no sense; nothing in it is executed.
        """
        sizes = {record.name: record.size_bytes for record in self.records}
        state = unpickled(self.metadata, sizes, tensor)
        if not isinstance(state, dict):
            raise UnsupportedFormat(f"it holds a {type(state).__name__}, not a dict")
        return state


@dataclass(frozen=True, slots=True)
class Index(Contents):
    """What an archive holds, without its tensors' bytes.

    Attributes:
        state: the state as it was saved, with a `TensorRef` in place of each tensor.
    """

    state: dict[str, Any]


def read_index(store: Store, key: str, *, info: ObjectInfo | None = None, foresight: Foresight = brief) -> Index:
    """Read the index of an archive: one ranged read of 256 KiB to 1 MiB, a second one where the index is longer.

    Every byte of it is verified: the directory by its digest, the metadata by its CRC32. Nothing is executed.

    Args:
        store: where it lies.
        key: of the object.
        info: of the version to read, from a listing; None asks the store first, one more request.
        foresight: how much is read at first.

    Raises:
        KeyNotFound: no such object.
        ObjectChanged: it is no longer of that version.
        UnsupportedFormat: a newer format, or a file that ckptstore did not write; `load` reads those of torch.save.
        CorruptCheckpoint: the index is not what was written.
    """
    info = store.stat(key) if info is None else info
    with naming(store, key):
        if not info.size_bytes:
            raise CorruptCheckpoint("it is empty")
        content = content_of(store, info, foresight)
        tail = content.tail()
        if not is_marked(tail):
            raise UnsupportedFormat("it has no index of ckptstore at its end: truncated, or written by another tool")
        found = contents_of(content, tail)
        return Index(content, found.digest, found.records, found.metadata, state=found.state_of(lambda ref: ref))


@contextmanager
def naming(store: Store, key: str) -> Iterator[None]:
    """Name the key and the store in the message of a CorruptCheckpoint, once where such blocks are nested."""
    start = f"checkpoint {key!r} in {redact(store.url)} cannot be read: "
    try:
        yield
    except CorruptCheckpoint as error:
        raise type(error)(start + str(error).removeprefix(start)) from None


def contents_of(content: Content, tail: bytes) -> Contents:
    """Return what a `.pt` holds whose last bytes, marked as ours, were read already.

    Raises:
        UnsupportedFormat: a newer format.
        CorruptCheckpoint: the directory or the metadata is not what was written.
    """
    end = read_ending(tail, content.size_bytes)
    base, behind = content.size_bytes - len(tail), content.size_bytes - end.stop
    if (start := metadata_start(tail, behind)) < base:
        tail, base = read_whole_range(content, start, base) + tail, start
    directory = tail[max(0, end.start - base) : end.stop - base]
    records = read_directory(directory, tail[-behind:])
    _check_records(records)
    metadata = tail[records[-1].offset - base :][: records[-1].size_bytes]
    check_record(records[-1], metadata)
    return Contents(content, end.digest, records, metadata)


def _check_records(records: tuple[Record, ...]) -> None:
    names = [f"data/{number}" for number in range(len(records) - len(FIXED_RECORDS) - 1)]
    if [record.name for record in records] != [*names, *FIXED_RECORDS, METADATA]:
        raise CorruptCheckpoint("its records are not those of a checkpoint")
    for record in records:
        if record.name in FIXED_RECORDS and record.crc32 != crc32(FIXED_RECORDS[record.name]):
            raise UnsupportedFormat(f"record {record.name} is not {FIXED_RECORDS[record.name]!r}")


def check_record(record: Record, data: Buffer) -> None:
    """Make sure that these are the bytes of a record.

    Raises:
        CorruptCheckpoint: otherwise.
    """
    if len(data) != record.size_bytes:
        raise CorruptCheckpoint(f"record {record.name} has {len(data)} of its {record.size_bytes} bytes")
    if crc32(data) != record.crc32:
        raise CorruptCheckpoint(f"record {record.name} does not match its CRC32; its bytes were changed")
