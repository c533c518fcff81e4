"""A `.pt` that holds only a part of a checkpoint's state, as a stream: records are carried over as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ckptstore.archive.container import (
    FIXED_RECORDS,
    METADATA,
    Record,
    central_directory,
    ending,
    lay_out,
    local_header,
)
from ckptstore.archive.crc import crc32
from ckptstore.archive.dtypes import storage_class
from ckptstore.archive.index import Index
from ckptstore.archive.pickling import pickled
from ckptstore.archive.sections import SectionCache
from ckptstore.archive.tensors import TensorRef
from ckptstore.exporting.streams import verified
from ckptstore.objects import Buffer

__all__ = ["TorchFile"]


class TorchFile:
    """The file of a part of a checkpoint's state: an iterable of its buffers, to be used once.

    Args:
        index: of the checkpoint.
        state: of plain data and `TensorRef`, as a part of the index's state.

    Attributes:
        size_bytes: of the file.
    """

    def __init__(self, index: Index, state: Mapping[str, Any]) -> None:
        self._index = index
        self._storages = _Carried(index.records)
        metadata = pickled(self._storages.renumbered(state), self._storages, SectionCache(()))
        self._small = {**FIXED_RECORDS, METADATA: metadata}
        sizes = [(f"data/{number}", record.size_bytes) for number, record in enumerate(self._storages.records)]
        self._slots = lay_out([*sizes, *((name, len(data)) for name, data in self._small.items())])
        self._crcs = [record.crc32 for record in self._storages.records] + list(map(crc32, self._small.values()))
        directory = central_directory(self._slots, self._crcs)
        self._end = directory + ending(self._slots, directory)
        self.size_bytes = self._slots[-1].stop + len(self._end)

    def __iter__(self) -> Iterator[Buffer]:
        parts = verified(self._index.content, self._storages.records)
        for slot, crc in zip(self._slots, self._crcs, strict=True):
            yield local_header(slot, crc)
            left = slot.size_bytes
            if slot.name in self._small:
                yield self._small[slot.name]
                continue
            while left:
                data = next(parts)
                left -= len(data)
                yield data
        yield from parts  # nothing but the check of the last record
        yield self._end


class _Carried:
    """Storages that lie in another file, numbered in the order of their first tensor."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_name = {record.name: record for record in records}
        self._renumbered: dict[str, int] = {}
        self._dtypes_of: list[set[str]] = []

    def renumbered(self, value: Any) -> Any:
        """Return a copy of a state whose `TensorRef`s name the new numbers."""
        if isinstance(value, TensorRef):
            return replace(value, record=f"data/{self._number(value)}")
        if isinstance(value, dict):
            copy = type(value)((key, self.renumbered(item)) for key, item in value.items())
            vars(copy).update(vars(value)) if hasattr(value, "__dict__") else None
            return copy
        if type(value) in (list, tuple):
            return type(value)(map(self.renumbered, value))
        return value

    def _number(self, ref: TensorRef) -> int:
        number = self._renumbered.setdefault(ref.record, len(self._renumbered))
        if number == len(self._dtypes_of):
            self._dtypes_of.append(set())
        self._dtypes_of[number].add(ref.dtype_name)
        return number

    @property
    def records(self) -> list[Record]:
        """Those of the other file that are carried over, by their new numbers."""
        return [self._by_name[name] for name in self._renumbered]

    def size_bytes(self, number: int) -> int:
        """Return the length of a record."""
        return self.records[number].size_bytes

    def storage_class(self, number: int) -> str | None:
        """Return torch's name for a storage of one dtype; None where dtypes are mixed, new or leave a remainder."""
        return storage_class(self._dtypes_of[number], self.size_bytes(number))
