"""The memory of torch's storages as buffers, and buffers as storages."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["storage_of", "storage_view"]


def storage_view(storage: torch.UntypedStorage) -> memoryview:
    """Return the bytes of a storage in CPU memory, without a copy."""
    if not storage.nbytes():
        return memoryview(b"")
    return np.asarray(_Exported(storage)).data


class _Exported:
    """A storage as numpy sees it. Tensor.numpy() would forbid the program to resize the storage ever after."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage  # what is made of this keeps it, and so the memory, alive
        self.__array_interface__ = {
            "data": (storage.data_ptr(), False),
            "shape": (storage.nbytes(),),
            "typestr": "|u1",
            "version": 3,
        }


def storage_of(data: memoryview) -> torch.UntypedStorage:
    """Return a storage over the memory of a buffer; only read-only memory is copied."""
    if not data.nbytes:
        return torch.UntypedStorage(0)  # type: ignore[no-untyped-call]
    writable = bytearray(data) if data.readonly else data
    return torch.frombuffer(writable, dtype=torch.uint8).untyped_storage()
