"""Turn a nested state into what weights_only loading accepts, or refuse it by naming the path."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ckptstore.archive.dtypes import DTYPES, name_of
from ckptstore.archive.tensors import stop_bytes
from ckptstore.errors import UnsavableState

__all__ = ["AS_IT_IS", "MAX_DEPTH", "Placing", "check_tensor", "checked_int", "in_cpu_memory", "is_key", "savable"]

MAX_DEPTH = 100
"""Levels of nesting; what contains itself has no end of them."""

MAX_INT_BITS = 255 * 8 - 1
"""Of the widest int that the pickle reader of torch takes."""

AS_IT_IS = frozenset({str, float, bool, bytes, complex, type(None), torch.Size, torch.dtype, torch.device})
"""Types of scalars that are saved unchanged; an int is too, where it is not too wide."""

_KEYS = frozenset({str, int, float, bool, bytes, type(None)})


Placing: TypeAlias = Callable[[torch.UntypedStorage], torch.UntypedStorage]
"""Gives a storage in CPU memory that holds the bytes of another one; itself, or a copy."""


def in_cpu_memory(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Return the storage itself where it is in CPU memory, else a copy that is."""
    return storage if storage.device.type == "cpu" else storage.cpu()  # type: ignore[no-untyped-call]


def savable(value: Any, path: str = "state", *, place: Placing = in_cpu_memory) -> Any:
    """Return a copy of a nested state in which everything can be loaded with ``torch.load(weights_only=True)``.

    Tensors and parameters become detached tensors in CPU memory that share memory exactly as they did: nothing
    is copied but what lies on another device, and conjugate or negative views. Ordered dicts keep their
    attributes, such as the ``_metadata`` of a state dict. These lose their type:

    - other mappings, and classes derived from list, tuple, str, int, float: dict, list, tuple, str, int, float;
    - a frozenset: set; a bytearray or memoryview: bytes; a numpy array: a tensor; a numpy scalar: a number;
    - an Enum: its value; a path: str; a date or time: ISO 8601 text.

    Args:
        value: dicts, lists, tuples, sets, tensors, strings, numbers, bytes, None, `torch.Size`, dtypes, devices
            and the above, in any nesting.
        path: what messages call the value.
        place: called once for each distinct storage; what it returns is what the copy's tensors lie in.

    Raises:
        UnsavableState: anything else, a tensor that is not plain and dense, two dict keys that become one, or
            more than 100 levels of nesting (as in what contains itself); the message names the path.
    """
    return _Copier(place).copy(value, path, MAX_DEPTH)


class _Copier:
    """One copy of one state; remembers where each storage was placed."""

    def __init__(self, place: Placing) -> None:
        self._place = place
        # The original is kept as well: were it freed, another one could take its address.
        self._placed: dict[tuple[torch.device, int], tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def copy(self, value: Any, path: str, levels: int) -> Any:
        if type(value) in AS_IT_IS:
            return value
        if levels == 0:
            raise UnsavableState(f"{path[:80]}... is nested deeper than {MAX_DEPTH} levels, or contains itself")
        if isinstance(value, torch.Tensor):
            return self._tensor(value, path)
        if isinstance(value, Enum):
            return self.copy(value.value, f"{path}.value", levels - 1)
        if isinstance(value, Mapping):
            return self._mapping(value, path, levels - 1)
        if isinstance(value, list | tuple):
            items = [self.copy(item, f"{path}[{i}]", levels - 1) for i, item in enumerate(value)]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, set | frozenset):
            return {self._key(item, path, levels - 1) for item in value}
        return _scalar(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: str, levels: int) -> dict[Any, Any]:
        copied: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        for original, item in value.items():
            key = self._key(original, path, levels)
            if key in copied:
                raise UnsavableState(f"{path} has two keys that are saved as {key!r}; rename one")
            copied[key] = self.copy(item, f"{path}[{key!r}]", levels)
        if isinstance(value, OrderedDict):
            for name, item in vars(value).items():
                setattr(copied, name, self.copy(item, f"{path}.{name}", levels))
        return copied

    def _key(self, value: Any, path: str, levels: int) -> Any:
        key = self.copy(value, f"a key of {path}", levels)
        if not is_key(key):
            raise UnsavableState(f"{path} has a key of type {type(value).__name__}; use a str or an int")
        return key

    def _tensor(self, value: torch.Tensor, path: str) -> torch.Tensor:
        check_tensor(value, path)
        tensor = value.detach().resolve_conj().resolve_neg()
        storage = tensor.untyped_storage()
        where = (tensor.device, storage.data_ptr())
        if where not in self._placed:
            self._placed[where] = (storage, self._place(storage))
        original, placed = self._placed[where]
        if placed is original:
            return tensor
        moved = torch.empty(0, dtype=tensor.dtype, device="cpu")
        return moved.set_(placed, tensor.storage_offset(), tensor.shape, tensor.stride())


def is_key(value: Any) -> bool:
    """Whether a plain value can be the key of a saved dict."""
    return type(value) in _KEYS or (type(value) is tuple and all(map(is_key, value)))


def check_tensor(value: torch.Tensor, path: str) -> None:
    """Raise UnsavableState unless this is a plain, dense tensor that has values."""
    kind = type(value)
    if kind.__module__.startswith("torch.distributed"):
        raise UnsavableState(f"{path} is a sharded {kind.__name__}; save it with torch.distributed.checkpoint")
    if is_lazy(value):
        raise UnsavableState(f"{path} is not initialized yet; run the lazy module once, then save")
    if kind not in (torch.Tensor, torch.nn.Parameter):
        raise UnsavableState(f"{path} is a {kind.__module__}.{kind.__qualname__}; save a plain torch.Tensor")
    if value.is_meta:
        raise UnsavableState(f"{path} is on the meta device and has no values; materialize it, then save")
    if odd := _oddity(value):
        raise UnsavableState(f"{path} is a {odd} tensor; save the dense tensors that it is made of")
    needed = stop_bytes(value.shape, value.stride(), int(value.storage_offset()), value.itemsize)
    if needed > (size_bytes := value.untyped_storage().nbytes()):
        raise UnsavableState(
            f"{path} has {size_bytes} bytes of memory where it needs {needed}; "
            "whoever released or resized its storage has to restore it first"
        )


def _oddity(value: torch.Tensor) -> str:
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return "quantized"
    if value.layout is not torch.strided:
        return str(value.layout).removeprefix("torch.")
    name = name_of(value.dtype)
    return "" if name in DTYPES else name


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.ma.MaskedArray):
        return _from_numpy(value, path)
    if isinstance(value, int):
        return checked_int(int.__int__(value), path)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise UnsavableState(f"{path} is a {_kind(value)}, which weights_only loading refuses; {_advice(value)}")


def checked_int(value: int, path: str) -> int:
    """Return an int, or raise UnsavableState where it is too wide for torch's reader."""
    if value.bit_length() > MAX_INT_BITS:
        raise UnsavableState(
            f"{path} is an int of {value.bit_length()} bits; weights_only loading takes {MAX_INT_BITS}"
        )
    return value


def _from_numpy(value: np.ndarray[Any, Any] | np.generic, path: str) -> Any:
    if isinstance(value, np.str_ | np.bytes_):
        return value.item()
    try:
        tensor = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise UnsavableState(f"{path} is numpy {value.dtype}; save numbers, str or a tensor") from None
    return tensor.item() if isinstance(value, np.generic) else tensor


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: Any) -> str:
    if hasattr(value, "state_dict"):
        return "save its state_dict()"
    if isinstance(value, Iterable):
        return "save a list or a dict"
    return "save plain data that describes it, or leave it out"
