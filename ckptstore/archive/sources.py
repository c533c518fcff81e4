"""Where the bytes of a record come from: host memory, or a device, from which they are fetched in their turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch

from ckptstore.archive.storages import storage_view
from ckptstore.objects import Buffer

__all__ = ["FETCHED_BYTES", "Here", "OnDevice", "Source", "fetched", "source_of"]

FETCHED_BYTES = 32 * 1024 * 1024
"""The most that is fetched from a device at once."""


class Source(Protocol):
    """The bytes of one record."""

    @property
    def size_bytes(self) -> int:
        """How many they are."""

    def read(self) -> Iterable[memoryview]:
        """Return them in order, in pieces in host memory. What is returned can be iterated over again."""


class Here:
    """Bytes in host memory: one piece, which is that memory itself."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)

    @property
    def size_bytes(self) -> int:
        """See `Source`."""
        return self._data.nbytes

    def read(self) -> Iterable[memoryview]:
        """See `Source`."""
        return (self._data,)


class OnDevice:
    """Bytes in the memory of a device, which keeps them; each reading copies them into fresh host memory.

    Up to 32 MiB are copied whole, once. More are copied slice by slice whenever they are iterated over, so that no
    more than a slice is in host memory, however large the record is.
    """

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage

    @property
    def size_bytes(self) -> int:
        """See `Source`."""
        return int(self._storage.nbytes())

    def read(self) -> Iterable[memoryview]:
        """See `Source`."""
        return self if self.size_bytes > FETCHED_BYTES else tuple(self)

    def __iter__(self) -> Iterator[memoryview]:
        whole = torch.empty(0, dtype=torch.uint8, device=self._storage.device).set_(self._storage)
        return map(fetched, torch.split(whole, FETCHED_BYTES))


def fetched(data: torch.Tensor) -> memoryview:
    """Return a copy of the bytes of a contiguous tensor, in fresh host memory."""
    return storage_view(data.to("cpu", copy=True).untyped_storage())


def source_of(storage: torch.UntypedStorage) -> Source:
    """Return the bytes of a storage; nothing is copied yet."""
    return Here(storage_view(storage)) if storage.device.type == "cpu" else OnDevice(storage)
