"""Where everything lies in an archive, apart from its metadata, which comes last and may differ each time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ckptstore.archive.container import (
    CRC_IN_ENTRY,
    CRC_IN_HEADER,
    FIXED_RECORDS,
    METADATA,
    Slot,
    directory_entry,
    ending,
    lay_out,
    local_header,
)

__all__ = ["COPY_BELOW_BYTES", "Layout", "Piece"]

COPY_BELOW_BYTES = 256 * 1024
"""Smaller records are gathered in pieces, each with its header before it."""

PIECE_BYTES = 4 * 1024 * 1024

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the file that is in memory in one piece: one large record, or many headers and small records.

    Attributes:
        start: offset of its first byte in the file.
        stop: offset of the first byte behind it.
        records: numbers of the records that lie in it.
        headers: numbers of those whose headers do.
    """

    start: int
    stop: int
    records: range
    headers: range

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.stop - self.start


class Layout:
    """The places of all records but the metadata.

    Attributes:
        slots: of the storages, then of the fixed records.
        pieces: without a gap from the beginning of the file to where the header of the metadata begins.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        named = [(f"data/{number}", size_bytes) for number, size_bytes in enumerate(sizes)]
        self.slots = lay_out([*named, *((name, len(data)) for name, data in FIXED_RECORDS.items())])
        self.pieces = _pieces(self.slots)
        self._ends = [piece.records.stop for piece in self.pieces]

    def piece_of(self, number: int) -> int:
        """Return the number of the piece in which a record lies."""
        return bisect_right(self._ends, number)

    def size_bytes(self, metadata_bytes: int) -> int:
        """Return the length of the whole file, given that of the metadata."""
        slots = self._with_metadata(metadata_bytes)
        directory = bytes(len(self._directory_template[0]) + len(directory_entry(slots[-1], 0)))
        return slots[-1].stop + len(directory) + len(ending(slots, directory))

    def tail(self, metadata: bytes, metadata_crc: int, crcs: Sequence[int]) -> bytes:
        """Return what follows the pieces, given the metadata and the CRC32 of every record in a piece."""
        slots = self._with_metadata(len(metadata))
        directory = self._directory(crcs) + directory_entry(slots[-1], metadata_crc)
        return local_header(slots[-1], metadata_crc) + metadata + directory + ending(slots, directory)

    def write_headers(self, piece: Piece, memory: _Bytes) -> None:
        """Write the headers in a piece, all but their CRC32s."""
        for number in piece.headers:
            slot = self.slots[number]
            memory[slot.header - piece.start : slot.offset - piece.start] = self._headers[number]

    def write_crcs(self, piece: Piece, memory: _Bytes, crcs: Sequence[int]) -> None:
        """Write the CRC32s of the records whose headers lie in a piece."""
        headers = slice(piece.headers.start, piece.headers.stop)
        memory[self._header_crcs[headers] - piece.start] = _little_endian(crcs[headers])

    def _with_metadata(self, size_bytes: int) -> list[Slot]:
        return [*self.slots, *lay_out([(METADATA, size_bytes)], self.slots[-1].stop)]

    def _directory(self, crcs: Sequence[int]) -> bytes:
        template, positions = self._directory_template
        directory = template.copy()
        directory[positions] = _little_endian(crcs)
        return directory.tobytes()

    @cached_property
    def _headers(self) -> list[_Bytes]:
        return [np.frombuffer(local_header(slot, 0), np.uint8) for slot in self.slots]

    @cached_property
    def _header_crcs(self) -> npt.NDArray[np.int64]:
        return _four_each([slot.header + CRC_IN_HEADER for slot in self.slots])

    @cached_property
    def _directory_template(self) -> tuple[_Bytes, npt.NDArray[np.int64]]:
        entries = [directory_entry(slot, 0) for slot in self.slots]
        starts = np.cumsum([0, *map(len, entries[:-1])])
        return np.frombuffer(b"".join(entries), np.uint8), _four_each(starts + CRC_IN_ENTRY)


def _pieces(slots: Sequence[Slot]) -> list[Piece]:
    pieces: list[Piece] = []
    start, first_record, first_header = 0, 0, 0
    for number, slot in enumerate(slots):
        if slot.size_bytes >= COPY_BELOW_BYTES:
            pieces.append(Piece(start, slot.offset, range(first_record, number), range(first_header, number + 1)))
            pieces.append(Piece(slot.offset, slot.stop, range(number, number + 1), range(0)))
        elif slot.stop - start >= PIECE_BYTES or number == len(slots) - 1:
            pieces.append(Piece(start, slot.stop, range(first_record, number + 1), range(first_header, number + 1)))
        else:
            continue
        start, first_record, first_header = slot.stop, number + 1, number + 1
    return pieces


def _four_each(positions: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray(positions, np.int64)[:, None] + np.arange(4)


def _little_endian(crcs: Sequence[int]) -> _Bytes:
    return np.array(crcs, "<u4").view(np.uint8).reshape(-1, 4)
