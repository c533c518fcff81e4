"""Fetch records into memory, each verified by its CRC32 while the next ones are on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ckptstore.archive.container import ALIGNMENT, Record
from ckptstore.archive.content import Content
from ckptstore.archive.crc import crc32
from ckptstore.archive.index import check_record
from ckptstore.errors import CorruptCheckpoint
from ckptstore.store import ByteRange

__all__ = ["Stretch", "fetched", "fresh_memory"]

PIECE_BYTES = 8 * 1024 * 1024
"""What is asked for at once: it is verified while it is in the processor's cache."""

_BETWEEN_BYTES = 4096  # neighbours have one local header between them


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records that are read in one go: one of any size, or neighbours that are one piece together.

    Attributes:
        records: in the order of the file.
    """

    records: tuple[Record, ...]

    @property
    def start(self) -> int:
        """Offset of the first byte."""
        return self.records[0].offset

    @property
    def size_bytes(self) -> int:
        """Length from the first record's first byte to the last one's last."""
        return self.records[-1].offset + self.records[-1].size_bytes - self.start


def fresh_memory(stretch: Stretch) -> memoryview:
    """Return new memory for a stretch, aligned as the records in the file are. Large memory is of huge pages."""
    whole = np.empty(stretch.size_bytes + ALIGNMENT, np.uint8)  # numpy asks for huge pages, torch does not
    first = -whole.ctypes.data % ALIGNMENT
    return whole[first : first + stretch.size_bytes].data


def fetched(
    content: Content, records: Iterable[Record], memory: Callable[[Stretch], memoryview] = fresh_memory
) -> Iterator[tuple[Record, memoryview]]:
    """Yield each record with its bytes, verified, in the order asked. After an exception nothing is written any more.

    Args:
        content: which holds them.
        records: some, in any order; neighbours in the file are best asked for as neighbours.
        memory: gives what a stretch is read into, of its size; called shortly before its bytes arrive.

    Raises:
        ObjectChanged: the object was replaced since.
        CorruptCheckpoint: a record is not what was written.
    """
    stretches = list(_stretches(records))
    held: deque[memoryview] = deque()
    arriving = content.read_into(list(_ranges(stretches)), _rooms(stretches, memory, held))
    try:
        for stretch in stretches:
            if len(stretch.records) == 1:
                _verify_pieces(stretch, arriving)
                yield stretch.records[0], held.popleft() if stretch.size_bytes else memoryview(bytearray())
            else:
                yield from _verified_parts(stretch, next(arriving))
                held.popleft()
    finally:
        getattr(arriving, "close", lambda: None)()


def _stretches(records: Iterable[Record]) -> Iterator[Stretch]:
    near: list[Record] = []
    for record in records:
        if near and not _belongs(record, near):
            yield Stretch(tuple(near))
            near = []
        near.append(record)
    if near:
        yield Stretch(tuple(near))


def _belongs(record: Record, near: Sequence[Record]) -> bool:
    gap = record.offset - near[-1].offset - near[-1].size_bytes
    return 0 <= gap <= _BETWEEN_BYTES and record.offset + record.size_bytes - near[0].offset <= PIECE_BYTES


def _ranges(stretches: Iterable[Stretch]) -> Iterator[ByteRange]:
    for stretch in stretches:
        for first in range(0, stretch.size_bytes, PIECE_BYTES):
            yield ByteRange(stretch.start + first, min(PIECE_BYTES, stretch.size_bytes - first))


def _rooms(
    stretches: Iterable[Stretch], memory: Callable[[Stretch], memoryview], held: deque[memoryview]
) -> Iterator[memoryview]:
    for stretch in stretches:
        if stretch.size_bytes:
            whole = memory(stretch)
            held.append(whole)
            yield from (whole[first : first + PIECE_BYTES] for first in range(0, stretch.size_bytes, PIECE_BYTES))


def _verify_pieces(stretch: Stretch, arriving: Iterator[memoryview]) -> None:
    (record,) = stretch.records
    checksum = received = 0
    for _ in range(0, record.size_bytes, PIECE_BYTES):
        piece = next(arriving)
        checksum, received = crc32(piece, checksum), received + len(piece)
    if received != record.size_bytes:
        raise CorruptCheckpoint(f"record {record.name} has {received} of its {record.size_bytes} bytes")
    if checksum != record.crc32:
        raise CorruptCheckpoint(f"record {record.name} does not match its CRC32; its bytes were changed")


def _verified_parts(stretch: Stretch, data: memoryview) -> Iterator[tuple[Record, memoryview]]:
    for record in stretch.records:
        part = data[record.offset - stretch.start :][: record.size_bytes]
        check_record(record, part)
        yield record, part
