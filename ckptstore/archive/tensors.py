"""A tensor as an archive describes it: a strided view of a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptstore.archive.dtypes import DTYPES, torch_dtype
from ckptstore.errors import CorruptCheckpoint

if TYPE_CHECKING:
    import torch

__all__ = ["TensorRef", "stop_bytes"]

_MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where the elements of a tensor lie.

    Attributes:
        record: the record of its storage, such as "data/0"; tensors that name the same record share memory.
        dtype_name: of its elements, as torch calls them: "float32".
        shape: its sizes.
        stride: in elements, one for each dimension.
        storage_offset: of its first element in the record, in elements.
    """

    record: str
    dtype_name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage_offset: int

    @property
    def dtype(self) -> torch.dtype:
        """Of its elements."""
        return torch_dtype(self.dtype_name)

    @property
    def itemsize(self) -> int:
        """Of an element, in bytes."""
        return DTYPES[self.dtype_name].itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie in order without gaps, as torch defines it."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != step:
                return not self.numel
            step *= size
        return True

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def stop_bytes(self) -> int:
        """Where its last element ends in the record; 0 where it has none."""
        return stop_bytes(self.shape, self.stride, self.storage_offset, self.itemsize)

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
        import torch  # not above: what only asks where tensors lie does without it

        tensor = torch.empty(0, dtype=self.dtype, device=storage.device)
        return tensor.set_(storage, self.storage_offset, self.shape, self.stride)


def stop_bytes(shape: Sequence[int], stride: Sequence[int], storage_offset: int, itemsize: int) -> int:
    """Return how many bytes a storage needs for a tensor to lie in it."""
    if not math.prod(shape):
        return 0
    steps = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return (storage_offset + steps + 1) * itemsize
