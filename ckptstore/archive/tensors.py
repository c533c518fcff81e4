"""A tensor as an archive describes it: a strided view of a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ckptstore.errors import CorruptCheckpoint

STORAGE_CLASSES = {
    torch.float64: "DoubleStorage",
    torch.float32: "FloatStorage",
    torch.float16: "HalfStorage",
    torch.bfloat16: "BFloat16Storage",
    torch.int64: "LongStorage",
    torch.int32: "IntStorage",
    torch.int16: "ShortStorage",
    torch.int8: "CharStorage",
    torch.uint8: "ByteStorage",
    torch.bool: "BoolStorage",
    torch.complex128: "ComplexDoubleStorage",
    torch.complex64: "ComplexFloatStorage",
}
"""The name in torch's persistent ids of a storage that holds one dtype; later dtypes have none."""

DTYPES = frozenset(STORAGE_CLASSES) | {
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.complex32,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.float4_e2m1fn_x2,
}
"""Every dtype that an archive holds."""

_MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where the elements of a tensor lie.

    Attributes:
        record: the record of its storage, such as "data/0"; tensors that name the same record share memory.
        dtype: of its elements.
        shape: its sizes.
        stride: in elements, one for each dimension.
        storage_offset: of its first element in the record, in elements.
    """

    record: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage_offset: int

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def stop_bytes(self) -> int:
        """Where its last element ends in the record; 0 where it has none."""
        return stop_bytes(self.shape, self.stride, self.storage_offset, self.dtype)

    def check_within(self, size_bytes: int) -> None:
        """Make sure that every element lies inside a record of that size.

        Raises:
            CorruptCheckpoint: otherwise. Torch would enlarge the storage and show memory that nobody wrote.
        """
        numbers = (*self.shape, *self.stride, self.storage_offset)
        if len(self.shape) != len(self.stride) or not all(type(n) is int and 0 <= n <= _MAX_NUMBER for n in numbers):
            raise CorruptCheckpoint(f"a tensor in {self.record} has an impossible shape or stride")
        if self.stop_bytes > size_bytes or self.numel > _MAX_NUMBER:
            raise CorruptCheckpoint(
                f"a tensor of shape {self.shape} reaches past the {size_bytes} bytes of {self.record}"
            )

    def view(self, storage: torch.UntypedStorage) -> torch.Tensor:
        """Return the tensor over the memory of its record."""
        tensor = torch.empty(0, dtype=self.dtype, device=storage.device)
        return tensor.set_(storage, self.storage_offset, self.shape, self.stride)


def stop_bytes(shape: Sequence[int], stride: Sequence[int], storage_offset: int, dtype: torch.dtype) -> int:
    """Return how many bytes a storage needs for a tensor to lie in it."""
    if not math.prod(shape):
        return 0
    steps = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return (storage_offset + steps + 1) * dtype.itemsize


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
