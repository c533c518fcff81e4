"""Read records of a checkpoint in pieces, verified, however large they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isal import isal_zlib

from ckptstore.archive.container import Record
from ckptstore.archive.content import Content
from ckptstore.errors import CorruptCheckpoint
from ckptstore.objects import ByteRange

__all__ = ["check_records", "pieces", "verified"]

_PIECE_BYTES = 1024 * 1024


def pieces(start: int, size_bytes: int) -> list[ByteRange]:
    """Return the ranges that make up a longer one."""
    stop = start + size_bytes
    return [ByteRange(offset, min(_PIECE_BYTES, stop - offset)) for offset in range(start, stop, _PIECE_BYTES)]


def verified(content: Content, records: Iterable[Record]) -> Iterator[memoryview]:
    """Yield the bytes of records, one after the other, in pieces.

    Raises:
        CorruptCheckpoint: after the last piece of a record that does not match its CRC32.
    """
    cut = [(record, pieces(record.offset, record.size_bytes)) for record in records]
    parts = content.read(wanted for _, ranges in cut for wanted in ranges)
    for record, ranges in cut:
        crc32 = 0
        for _ in ranges:
            data = next(parts)
            crc32 = isal_zlib.crc32(data, crc32)
            yield data
        if crc32 != record.crc32:
            raise CorruptCheckpoint(f"record {record.name} does not match its CRC32; its bytes were changed")


def check_records(content: Content, records: Iterable[Record]) -> None:
    """Read records through.

    Raises:
        CorruptCheckpoint: one does not match its CRC32.
    """
    for _ in verified(content, records):
        pass
