"""How the tensors of a state lie in their storages, kept from one save to the next.

Between two saves of a training loop nothing of this changes as a rule, and seeing that it did not costs a fraction of
finding it out. It has to be seen each time: a tensor can be given other memory, another shape or another dtype and
remain the same object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import eq, is_, ne
from typing import Self, TypeVar

import torch

from ckptstore.archive.dtypes import name_of, storage_class
from ckptstore.archive.plain import check_tensor
from ckptstore.archive.tensors import TensorRef

__all__ = ["Blueprint", "Located"]

T = TypeVar("T")

_shape = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
_dtype = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Located:
    """Where the bytes of each record are at one moment.

    Attributes:
        tensors: one that lies in the record.
        addresses: of the first byte.
    """

    tensors: Sequence[torch.Tensor]
    addresses: Sequence[int]


class Blueprint:
    """What is the same whenever tensors with these shapes, strides, dtypes and this sharing of memory are saved.

    It holds no tensor, so that a model that is replaced can be freed.

    Attributes:
        refs: where each tensor lies; tensors that share memory lie in one record.
        sizes: of the records, in bytes.
        devices: of the records.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], *, lasting: bool) -> None:
        self.sizes: list[int] = []
        self.devices: list[torch.device] = []
        self.refs: list[TensorRef] = []
        self._lasting = lasting
        self._owners: list[int] = []
        self._loose: dict[int, int] = {}
        self._remember(tensors)

    @classmethod
    def drawn(cls, tensors: Sequence[torch.Tensor]) -> tuple[Self, Located]:
        """Look at every tensor, and return its blueprint, and where the bytes are.

        Raises:
            UnsavableState: one is not plain and dense; the message does not know its path.
        """
        for tensor in tensors:
            check_tensor(tensor, "a tensor")
        lasting = not any(map(_is_lazy_view, tensors))
        if not lasting:
            tensors = [tensor.detach().resolve_conj().resolve_neg() for tensor in tensors]
        drawn = cls(tensors, lasting=lasting)
        return drawn, drawn._located(tensors, drawn._pointers)

    def _remember(self, tensors: Sequence[torch.Tensor]) -> None:
        numbers: dict[tuple[torch.device, int, int] | None, int] = {}
        dtypes: list[dict[str, None]] = []
        self._numbers: list[int] = []
        for position, tensor in enumerate(tensors):
            storage = tensor.untyped_storage()
            size_bytes, address = storage.nbytes(), storage.data_ptr()
            number = numbers.setdefault((tensor.device, address, size_bytes) if size_bytes else None, len(numbers))
            if number == len(self.sizes):
                dtypes.append({})
                self.sizes.append(size_bytes)
                self.devices.append(tensor.device)
                self._owners.append(position)
            dtypes[number][name_of(tensor.dtype)] = None
            self._numbers.append(number)
            self.refs.append(_ref(number, tensor))
            if not _spans(self.refs[-1], size_bytes):
                self._loose[position] = address
        self._classes = [storage_class(*pair) for pair in zip(dtypes, self.sizes, strict=True)]
        self._shapes, self._strides = list(map(_shape, tensors)), list(map(torch.Tensor.stride, tensors))
        self._dtypes, self._pointers = list(map(_dtype, tensors)), list(map(torch.Tensor.data_ptr, tensors))
        self._complex = [position for position, dtype in enumerate(self._dtypes) if dtype.is_complex]
        self._uses = Counter(self._numbers)
        self._loose_records = {
            number: self._loose[owner] for number, owner in enumerate(self._owners) if owner in self._loose
        }
        self._distinct = len(set(self._addresses(self._pointers)))

    def size_bytes(self, number: int) -> int:
        """Return the length of a record."""
        return self.sizes[number]

    def storage_class(self, number: int) -> str | None:
        """Return torch's name for its storage; None where dtypes are mixed, new or leave a remainder."""
        return self._classes[number]

    def filling(self, number: int) -> TensorRef | None:
        """Return the first tensor in a record, where its elements are all there is in it."""
        position = self._owners[number]
        ref = self.refs[position]
        filled = position not in self._loose and ref.numel * ref.itemsize == self.sizes[number]
        return ref if filled else None

    def locate(self, tensors: Sequence[torch.Tensor]) -> Located | None:
        """Return where the bytes of these tensors are; None where they do not lie as the blueprint says."""
        if not self._lasting or len(tensors) != len(self.refs):
            return None
        try:
            return self._locate(tensors)
        except RuntimeError:  # a sparse tensor has no strides, a functional one no address
            return None

    def _locate(self, tensors: Sequence[torch.Tensor]) -> Located | None:
        pointers = list(map(torch.Tensor.data_ptr, tensors))
        if (
            # one at a time: forty thousand tuples at once would set off the garbage collector
            not all(map(eq, map(_shape, tensors), self._shapes))
            or not all(map(eq, map(torch.Tensor.stride, tensors), self._strides))
            or not all(map(is_, map(_dtype, tensors), self._dtypes))
            or any(map(torch.Tensor.is_neg, tensors))
            or any(tensors[position].is_conj() for position in self._complex)
            or any(not self._lies_where_it_did(tensors[position], position) for position in self._loose)
        ):
            return None
        if pointers != self._pointers and not self._moved_alone(tensors, pointers):
            return None
        self._pointers = pointers
        return self._located(tensors, pointers)

    def _located(self, tensors: Sequence[torch.Tensor], pointers: Sequence[int]) -> Located:
        return Located(_chosen(tensors, self._owners), self._addresses(pointers))

    def _lies_where_it_did(self, tensor: torch.Tensor, position: int) -> bool:
        storage = tensor.untyped_storage()
        return (
            storage.data_ptr() == self._loose[position]
            and storage.nbytes() == self.sizes[self._numbers[position]]
            and tensor.data_ptr() == self._pointers[position]
        )

    def _moved_alone(self, tensors: Sequence[torch.Tensor], pointers: Sequence[int]) -> bool:
        """Whether each tensor with another address is all there is in a storage of its own, as it was before."""
        for position in compress(range(len(pointers)), map(ne, pointers, self._pointers)):
            number, storage = self._numbers[position], tensors[position].untyped_storage()
            if (
                self._uses[number] > 1
                or storage.nbytes() != self.sizes[number]
                or storage.device != self.devices[number]
            ):
                return False
        return len(set(self._addresses(pointers))) == self._distinct

    def _addresses(self, pointers: Sequence[int]) -> list[int]:
        addresses = _chosen(pointers, self._owners)
        for number, address in self._loose_records.items():
            addresses[number] = address
        return addresses


def _chosen(items: Sequence[T], positions: Sequence[int]) -> list[T]:
    return list(map(items.__getitem__, positions))


def _is_lazy_view(tensor: torch.Tensor) -> bool:
    return tensor.is_conj() or tensor.is_neg()


def _ref(number: int, tensor: torch.Tensor) -> TensorRef:
    offset = int(tensor.storage_offset())
    return TensorRef(f"data/{number}", name_of(tensor.dtype), tuple(tensor.shape), tensor.stride(), offset)


def _spans(ref: TensorRef, size_bytes: int) -> bool:
    """Whether a tensor reaches from the first byte of its storage to the last."""
    return size_bytes > 0 and ref.storage_offset == 0 and ref.stop_bytes == size_bytes
