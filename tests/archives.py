"""What the archive tests share: bitwise comparison, and stores that count or hold one object."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ckptstore.archive import plan
from ckptstore.archive.container import FIXED_RECORDS
from ckptstore.archive.sources import Here
from ckptstore.archive.writing import Archive
from ckptstore.store import Buffer, ByteRange, ObjectInfo
from ckptstore_backends.memory import MemoryStore


class CountingStore(MemoryStore):
    """Counts its reading requests."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requests: list[str] = []

    def stat(self, key: str) -> ObjectInfo:
        self.requests.append("stat")
        return super().stat(key)

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]:
        self.requests.append("get_ranges")
        return super()._get_ranges(key, ranges, version)


def written(state: Any) -> bytes:
    """Return the bytes of an archive."""
    return b"".join(plan(state).buffers())


def forged(metadata: bytes, storages: Iterable[Buffer] = ()) -> bytes:
    """Return an archive that is sound but for its metadata, as only a forger writes it."""
    records = {f"data/{number}": data for number, data in enumerate(storages)}
    return archived({**records, **FIXED_RECORDS, "data.pkl": metadata})


def archived(records: Mapping[str, Buffer]) -> bytes:
    """Return an archive of these records, whatever they are."""
    return b"".join(Archive({name: Here(data) for name, data in records.items()}).buffers())


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal in every type, order and bit, and in all bytes under their tensors."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return _facts(first) == _facts(second)
    if isinstance(first, dict):
        return same(list(first.items()), list(second.items())) and (
            not isinstance(first, OrderedDict) or same(vars(first), vars(second))
        )
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, float):
        return struct.pack("<d", first) == struct.pack("<d", second)
    if isinstance(first, complex):
        return same([first.real, first.imag], [second.real, second.imag])
    return bool(first == second)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors of a state in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def sharing(state: Any) -> list[int | None]:
    """Return for each tensor the first one that lies in the same memory; None for one without memory."""
    storages = [tensor.untyped_storage() for tensor in tensors_in(state)]
    places = [storage.data_ptr() if storage.nbytes() else None for storage in storages]
    return [None if place is None else places.index(place) for place in places]


def _facts(tensor: torch.Tensor) -> tuple[Any, ...]:
    storage = tensor.untyped_storage()
    data = bytes(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())
    where = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
    return (*where, data, tensor.requires_grad, tensor.device, tensor.is_conj(), tensor.is_neg())
