"""Lay out a state as an archive, and give its bytes as a stream of buffers that copies no tensor in host memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, reduce
from typing import Any

import torch

from ckptstore.archive.container import FIXED_RECORDS, METADATA, central_directory, ending, lay_out, local_header
from ckptstore.archive.crc import crc32
from ckptstore.archive.flat import flatten
from ckptstore.archive.mould import fit
from ckptstore.archive.sources import Here, Source, source_of

__all__ = ["Archive", "plan"]

_COPY_BELOW_BYTES = 256 * 1024
_BATCH_BYTES = 4 * 1024 * 1024


class Archive:
    """A state laid out as a `.pt` file, before its first byte is written.

    The tensors must stay unchanged as long as this is used: it holds their memory, not a copy.

    Args:
        records: where the bytes of each are, in the order of the file.
    """

    def __init__(self, records: Mapping[str, Source]) -> None:
        self._records = records
        self._slots = lay_out((name, source.size_bytes) for name, source in records.items())
        self._crcs: dict[str, int] = {}

    @cached_property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        directory = central_directory(self._slots, [0] * len(self._slots))
        return self._slots[-1].stop + len(directory) + len(ending(self._slots, directory))

    @property
    def digest(self) -> str:
        """The sha256 of the central directory, in hex; it identifies the content. Reads what is unread yet."""
        return self._ending[-64:].decode()

    def buffers(self) -> Iterator[memoryview]:
        """Yield the bytes of the file in order: large tensors as views of their own memory, the rest in batches.

        Each record's CRC32 is computed just before the record is given out, because it stands in the header before
        it. What lies on another device is copied to the host then, up to 32 MiB at a time: a record of more is copied
        twice, slice by slice, at first for its CRC32. Can be called again, for another try.
        """
        batch = bytearray()
        for slot in self._slots:
            data = self._records[slot.name].read()
            batch += local_header(slot, self._crc(slot.name, data))
            if slot.size_bytes < _COPY_BELOW_BYTES:
                batch += b"".join(data)
            if len(batch) >= _BATCH_BYTES or slot.size_bytes >= _COPY_BELOW_BYTES:
                yield memoryview(batch)
                batch = bytearray()
            if slot.size_bytes >= _COPY_BELOW_BYTES:
                yield from data
            del data  # before more is copied from a device
        yield memoryview(batch + self._directory + self._ending)

    @cached_property
    def _directory(self) -> bytes:
        return central_directory(self._slots, [self._crc(slot.name) for slot in self._slots])

    @cached_property
    def _ending(self) -> bytes:
        return ending(self._slots, self._directory)

    def _crc(self, name: str, read: Iterable[memoryview] = ()) -> int:
        if name not in self._crcs:
            pieces = read or self._records[name].read()
            self._crcs[name] = reduce(lambda crc, piece: crc32(piece, crc), pieces, 0)
        return self._crcs[name]


def plan(state: Mapping[str, Any]) -> Archive:
    """Lay out a state; nothing is written, and no tensor is copied.

    The bytes depend only on the state: on its values, the order of its keys, and which tensors share memory.

    Raises:
        UnsavableState: see `savable`; or over 1 GiB of it is not in tensors.
    """
    flat = flatten(state)
    mould, located = fit(flat, state, None)
    sources = map(source_of, map(torch.Tensor.untyped_storage, located.tensors))
    storages = {f"data/{number}": source for number, source in enumerate(sources)}
    others = {**FIXED_RECORDS, METADATA: mould.metadata(flat)}
    return Archive({**storages, **{name: Here(data) for name, data in others.items()}})
