"""What the names in an archive's pickle stand for: a closed table, of functions that only build plain data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ckptstore.archive.dtypes import DTYPES, torch_dtype
from ckptstore.archive.tensors import TensorRef
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat

__all__ = ["Builder"]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that stands for a function, a class or a dtype; it only ever selects an entry of a table."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    record: str
    dtype_name: str | None
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
        self._names_dtypes = False
        self._calls: dict[str, Callable[..., Any]] = {
            "torch._utils _rebuild_tensor_v2": self._rebuild,
            "torch._utils _rebuild_tensor_v3": self._rebuild,
            "collections OrderedDict": OrderedDict,
            "torch Size": _size,
            "torch device": _device,
            "_codecs encode": _encode,
            "builtins set": set,
            "builtins complex": complex,
        }

    def named(self, name: str) -> Any:
        """Return what stands for a name until `call`, `storage` or `finished` takes it.

        Raises:
            UnsupportedFormat: it is not in the table.
        """
        if name in _DTYPES:
            self._names_dtypes = True
            return _Name(name)
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
        record, dtype_name = f"data/{number}", _STORAGES[storage_class.name]
        if self._sizes.get(record) != count * (DTYPES[dtype_name].itemsize if dtype_name else 1):
            raise CorruptCheckpoint(f"record {record} is absent or not of the size that its metadata gives")
        return _Storage(record, dtype_name, self._sizes[record])

    def finished(self, state: Any) -> Any:
        """Return the whole state with dtypes in it, where so far their names stand."""
        return _Finishing().finished(state) if self._names_dtypes else state

    def _rebuild(self, storage: _Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> Any:
        _requires_grad, _hooks, *own = rest
        (dtype_name,) = [_DTYPES.get(name.name) for name in own] or [storage.dtype_name]
        if dtype_name is None or type(shape) is not tuple or type(stride) is not tuple:
            raise CorruptCheckpoint(f"a tensor in {storage.record} has no dtype, shape or stride")
        ref = TensorRef(storage.record, dtype_name, shape, stride, offset)
        ref.check_within(storage.size_bytes)
        return self._tensor(ref)


def _size(*arguments: Any) -> Any:
    import torch  # not above: few states hold more of torch than tensors, and those are described without it

    return torch.Size(*arguments)


def _device(*arguments: Any) -> Any:
    import torch

    return torch.device(*arguments)


class _Finishing:
    """Puts dtypes in place of their names, in containers that a damaged file may have made contain themselves."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Any]] = {}  # what is replaced stays, so that no other takes its id

    def finished(self, value: Any) -> Any:
        if type(value) is _Name and value.name in _DTYPES:
            return torch_dtype(_DTYPES[value.name])
        if type(value) not in (dict, OrderedDict, list, tuple):
            return value
        if id(value) not in self._seen:
            self._seen[id(value)] = value, value
            self._seen[id(value)] = value, self._container(value)
        return self._seen[id(value)][1]

    def _container(self, value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(self.finished, value))
        if type(value) is list:
            value[:] = map(self.finished, value)
            return value
        value.update([(key, self.finished(item)) for key, item in value.items()])
        if type(value) is OrderedDict:
            self.finished(vars(value))
        return value


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise CorruptCheckpoint("its metadata holds bytes in another form than latin1")
    return text.encode("latin-1")


_DTYPES = {f"torch {name}": name for name in DTYPES}
_STORAGES: dict[str, str | None] = {f"torch {dtype.storage}": name for name, dtype in DTYPES.items() if dtype.storage}
_STORAGES["torch.storage UntypedStorage"] = None
