"""What the names in an archive's pickle stand for: a closed table, of functions that only build plain data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ckptstore.archive.tensors import DTYPES, STORAGE_CLASSES, TensorRef
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat

__all__ = ["Builder"]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that stands for a function or a class; it only ever selects an entry of a table."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    record: str
    dtype: torch.dtype | None
    size_bytes: int


class Builder:
    """Builds the values of one state.

    Args:
        sizes: the size in bytes of each record.
        tensor: called for each tensor, after its bounds were checked; what it returns stands in the state.
    """

    def __init__(self, sizes: Mapping[str, int], tensor: Callable[[TensorRef], Any]) -> None:
        self._sizes = sizes
        self._tensor = tensor
        self._calls: dict[str, Callable[..., Any]] = {
            "torch._utils _rebuild_tensor_v2": self._rebuild,
            "torch._utils _rebuild_tensor_v3": self._rebuild,
            "collections OrderedDict": OrderedDict,
            "torch Size": torch.Size,
            "torch device": torch.device,
            "_codecs encode": _encode,
            "builtins set": set,
            "builtins complex": complex,
        }

    def named(self, name: str) -> Any:
        """Return what a name stands for: a dtype, or something that `call` and `storage` take.

        Raises:
            UnsupportedFormat: it is not in the table.
        """
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in self._calls or name in _STORAGES:
            return _Name(name)
        raise UnsupportedFormat(f"it holds {name.replace(' ', '.')}, which is never executed")

    def call(self, function: Any, arguments: Any) -> Any:
        """Return what a function of the table builds from plain arguments.

        Raises:
            UnsupportedFormat: it is no such function.
        """
        if type(function) is not _Name or function.name not in self._calls or type(arguments) is not tuple:
            raise UnsupportedFormat("its metadata calls what is no function of the format; it is never executed")
        return self._calls[function.name](*arguments)

    def storage(self, persistent_id: Any) -> _Storage:
        """Return the storage that a persistent id of torch names.

        Raises:
            CorruptCheckpoint: there is no such record, or it has another size.
        """
        kind, storage_class, number, _location, count = persistent_id
        if kind != "storage" or type(count) is not int or storage_class.name not in _STORAGES:
            raise CorruptCheckpoint("its metadata names a storage in a way that makes no sense")
        record, dtype = f"data/{number}", _STORAGES[storage_class.name]
        if self._sizes.get(record) != count * (dtype.itemsize if dtype else 1):
            raise CorruptCheckpoint(f"record {record} is absent or not of the size that its metadata gives")
        return _Storage(record, dtype, self._sizes[record])

    def _rebuild(self, storage: _Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> Any:
        _requires_grad, _hooks, *own = rest
        (dtype,) = own or [storage.dtype]
        if dtype not in DTYPES or type(shape) is not tuple or type(stride) is not tuple:
            raise CorruptCheckpoint(f"a tensor in {storage.record} has no dtype, shape or stride")
        ref = TensorRef(storage.record, dtype, shape, stride, offset)
        ref.check_within(storage.size_bytes)
        return self._tensor(ref)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise CorruptCheckpoint("its metadata holds bytes in another form than latin1")
    return text.encode("latin-1")


_CONSTANTS = {f"torch {str(dtype).removeprefix('torch.')}": dtype for dtype in DTYPES}
_STORAGES = {f"torch {name}": dtype for dtype, name in STORAGE_CLASSES.items()} | {
    "torch.storage UntypedStorage": None
}
