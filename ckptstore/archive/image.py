"""An archive in memory of its own: the copy of a state in the shape of the file that it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch

from ckptstore.archive.container import FIXED_RECORDS
from ckptstore.archive.crc import crc32
from ckptstore.archive.layout import Layout
from ckptstore.archive.tensors import TensorRef

__all__ = ["Image", "Stream"]


class Image:
    """The memory of an archive's pieces. What lies in the storages' records is up to whoever copies it there.

    Attributes:
        layout: which pieces, and what lies in them.
        buffers: uint8 tensors in CPU memory, one for each piece.
        addresses: of the first byte of each record.
        tensors: over those records that are to be written to as tensors.

    Args:
        layout: see above.
        buffers: see above.
        shapes: what fills the records that are to be written to as tensors, by number.
    """

    def __init__(self, layout: Layout, buffers: Sequence[torch.Tensor], shapes: Mapping[int, TensorRef]) -> None:
        self.layout = layout
        self.buffers = buffers
        self.addresses = [
            buffer.data_ptr() + layout.slots[number].offset - piece.start
            for piece, buffer in zip(layout.pieces, buffers, strict=True)
            for number in piece.records
        ]
        self.tensors = [
            self.record(number).view(ref.dtype).as_strided(ref.shape, ref.stride) for number, ref in shapes.items()
        ]

    def record(self, number: int) -> torch.Tensor:
        """Return the bytes of a record, to be written to."""
        slot, piece = self.layout.slots[number], self.layout.piece_of(number)
        start = slot.offset - self.layout.pieces[piece].start
        return self.buffers[piece][start : start + slot.size_bytes]

    @cached_property
    def records(self) -> list[memoryview]:
        """The bytes of all records."""
        self._write_what_never_changes()
        return [
            memory[slot.offset - piece.start : slot.stop - piece.start]
            for piece, memory in zip(self.layout.pieces, self._memory, strict=True)
            for slot in self.layout.slots[piece.records.start : piece.records.stop]
        ]

    @cached_property
    def _memory(self) -> list[memoryview]:
        return [buffer.numpy().data for buffer in self.buffers]

    def _write_what_never_changes(self) -> None:
        for piece, buffer in zip(self.layout.pieces, self.buffers, strict=True):
            self.layout.write_headers(piece, buffer.numpy())
        fixed = list(FIXED_RECORDS.values())
        for number, data in enumerate(fixed, len(self.layout.slots) - len(fixed)):
            self.record(number).numpy()[:] = memoryview(data)


class Stream:
    """The bytes of a file whose storages lie in an image, which must not be written to meanwhile."""

    def __init__(self, image: Image, metadata: bytes) -> None:
        self._image = image
        self._metadata = metadata
        self._crcs: list[int] = []

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return self._image.layout.size_bytes(len(self._metadata))

    def buffers(self) -> Iterator[memoryview]:
        """Yield the bytes of the file in order, none of them copied; can be called again, for another try."""
        layout, records = self._image.layout, self._image.records
        for piece, buffer in zip(layout.pieces, self._image.buffers, strict=True):
            known = len(self._crcs)
            self._crcs.extend(map(crc32, records[known : max(known, piece.headers.stop)]))
            memory = buffer.numpy()
            layout.write_crcs(piece, memory, self._crcs)
            yield memory.data
        yield memoryview(layout.tail(self._metadata, crc32(self._metadata), self._crcs))
