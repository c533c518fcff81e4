"""Lay out a state as an archive, and give its bytes as a stream of buffers that copies no tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch

from ckptstore.archive.container import FIXED_RECORDS, METADATA, central_directory, ending, lay_out, local_header
from ckptstore.archive.crc import crc32
from ckptstore.archive.flat import flatten
from ckptstore.archive.mould import fit
from ckptstore.archive.plain import in_cpu_memory
from ckptstore.archive.tensors import storage_view
from ckptstore.objects import Buffer

__all__ = ["Archive", "plan"]

_COPY_BELOW_BYTES = 256 * 1024
_BATCH_BYTES = 4 * 1024 * 1024


class Archive:
    """A state laid out as a `.pt` file, before its first byte is written.

    The tensors must stay unchanged as long as this is used: it holds their memory, not a copy.
    """

    def __init__(self, records: Mapping[str, Buffer]) -> None:
        self._records = {name: memoryview(data) for name, data in records.items()}
        self._slots = lay_out((name, data.nbytes) for name, data in self._records.items())
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

        Each record's CRC32 is computed just before the record is given out. Can be called again, for another try.
        """
        batch = bytearray()
        for slot in self._slots:
            batch += local_header(slot, self._crc(slot.name))
            data = self._records[slot.name]
            if data.nbytes < _COPY_BELOW_BYTES:
                batch += data
            if len(batch) >= _BATCH_BYTES or data.nbytes >= _COPY_BELOW_BYTES:
                yield memoryview(batch)
                batch = bytearray()
            if data.nbytes >= _COPY_BELOW_BYTES:
                yield data
        yield memoryview(batch + self._directory + self._ending)

    @cached_property
    def _directory(self) -> bytes:
        return central_directory(self._slots, [self._crc(slot.name) for slot in self._slots])

    @cached_property
    def _ending(self) -> bytes:
        return ending(self._slots, self._directory)

    def _crc(self, name: str) -> int:
        if name not in self._crcs:
            self._crcs[name] = crc32(self._records[name])
        return self._crcs[name]


def plan(state: Mapping[str, Any]) -> Archive:
    """Lay out a state; nothing is written, and no tensor is copied.

    The bytes depend only on the state: on its values, the order of its keys, and which tensors share memory.

    Raises:
        UnsavableState: see `savable`; or over 1 GiB of it is not in tensors.
    """
    flat = flatten(state)
    mould, located = fit(flat, state, None)
    storages = map(in_cpu_memory, map(torch.Tensor.untyped_storage, located.tensors))
    views = {f"data/{number}": storage_view(storage) for number, storage in enumerate(storages)}
    return Archive({**views, **FIXED_RECORDS, METADATA: mould.metadata(flat)})
