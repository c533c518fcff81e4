"""Write the pickle of a plain state: byte for byte a function of the state alone.

The standard pickler refers back to objects that it met before, so its output depends on which equal strings are
one object. Here only equality counts. The pickle is protocol 2 in the subset that torch's weights_only reader
takes, with torch's persistent ids for storages.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ckptstore.archive.dtypes import name_of
from ckptstore.archive.sections import SectionCache, WrittenSection
from ckptstore.archive.tensors import TensorRef
from ckptstore.archive.tokens import Section

if TYPE_CHECKING:
    import torch

__all__ = ["Storages", "pickled"]


class Storages(Protocol):
    """The records in which the tensors of a state lie, by number."""

    def size_bytes(self, number: int) -> int:
        """Return the length of a record."""

    def storage_class(self, number: int) -> str | None:
        """Return torch's name for its storage; None where dtypes are mixed, new or leave a remainder."""


def pickled(state: Any, storages: Storages, cache: SectionCache) -> bytes:
    """Return the pickle of a state taken apart and unfolded with refs for its tensors.

    A section that is what it was when the cache last saw it is not pickled again; the bytes are the same.
    """
    pickler = _Pickler(storages, cache)
    pickler.write(state)
    return b"".join([b"\x80\x02", *pickler.parts, b"."])


class _Pickler:
    def __init__(self, storages: Storages, cache: SectionCache) -> None:
        self.parts: list[bytes] = []
        self._storages = storages
        self._cache = cache
        self._section_number = 0
        self._memo: dict[bytes, int] = {}
        self._used: set[bytes] = set()

    def write(self, value: Any) -> None:
        _WRITERS[type(value)](self, value)

    def _emit(self, *parts: bytes) -> None:
        self.parts.extend(parts)

    def _once(self, code: bytes) -> None:
        """Write what makes a value, or refer to the equal value that was written before."""
        known = self._memo.get(code)
        self._used.add(code)
        if known is not None:
            self._emit(_indexed(pickle.BINGET, pickle.LONG_BINGET, known))
            return
        self._memo[code] = len(self._memo)
        self._emit(code, _indexed(pickle.BINPUT, pickle.LONG_BINPUT, self._memo[code]))

    def _write_global(self, module: str, name: str) -> None:
        self._once(f"c{module}\n{name}\n".encode())

    def _write_call(self, module: str, name: str, *arguments: Any) -> None:
        self._write_global(module, name)
        self.write(arguments)
        self._emit(pickle.REDUCE)

    def write_none(self, _value: None) -> None:
        self._emit(pickle.NONE)

    def write_bool(self, value: bool) -> None:  # noqa: FBT001  # the value itself
        self._emit(pickle.NEWTRUE if value else pickle.NEWFALSE)

    def write_int(self, value: int) -> None:
        if 0 <= value < 2**8:
            self._emit(pickle.BININT1, bytes((value,)))
        elif 0 <= value < 2**16:
            self._emit(pickle.BININT2, struct.pack("<H", value))
        elif -(2**31) <= value < 2**31:
            self._emit(pickle.BININT, struct.pack("<i", value))
        else:
            encoded = pickle.encode_long(value)
            self._emit(pickle.LONG1, bytes((len(encoded),)), encoded)

    def write_float(self, value: float) -> None:
        self._emit(pickle.BINFLOAT, struct.pack(">d", value))

    def write_str(self, value: str) -> None:
        self._once(_unicode(value))

    def write_bytes(self, value: bytes) -> None:
        self._write_call("_codecs", "encode", value.decode("latin-1"), "latin1")

    def write_complex(self, value: complex) -> None:
        self._write_call("builtins", "complex", value.real, value.imag)

    def write_list(self, value: list[Any]) -> None:
        self._emit(pickle.EMPTY_LIST)
        self._write_items(value, pickle.APPENDS)

    def write_tuple(self, value: Sequence[Any]) -> None:
        if not value:
            self._emit(pickle.EMPTY_TUPLE)
        elif len(value) <= len(_SHORT_TUPLES):
            for item in value:
                self.write(item)
            self._emit(_SHORT_TUPLES[len(value) - 1])
        else:
            self._write_items(value, pickle.TUPLE)

    def write_set(self, value: set[Any]) -> None:
        self._write_call("builtins", "set", sorted(value, key=self._sort_key))

    def _sort_key(self, value: Any) -> bytes:
        return pickled(value, self._storages, SectionCache(()))

    def write_dict(self, value: dict[Any, Any]) -> None:
        self._emit(pickle.EMPTY_DICT)
        self._write_entries(value)

    def write_ordered_dict(self, value: OrderedDict[Any, Any]) -> None:
        self._write_call("collections", "OrderedDict")
        self._write_entries(value)
        if attributes := vars(value):
            self.write_dict(attributes)
            self._emit(pickle.BUILD)

    def write_size(self, value: torch.Size) -> None:
        self._write_call("torch", "Size", tuple(value))

    def write_dtype(self, value: torch.dtype) -> None:
        self._write_dtype_name(name_of(value))

    def _write_dtype_name(self, name: str) -> None:
        self._write_global("torch", name)

    def write_device(self, value: torch.device) -> None:
        self._write_call("torch", "device", value.type, *([] if value.index is None else [value.index]))

    def _write_entries(self, value: dict[Any, Any]) -> None:
        self._write_items([part for entry in value.items() for part in entry], pickle.SETITEMS)

    def _write_items(self, items: Sequence[Any], opcode: bytes) -> None:
        if not items:
            return
        self._emit(pickle.MARK)
        for item in items:
            self.write(item)
        self._emit(opcode)

    def write_section(self, section: Section) -> None:
        """Write a section, from the cache where it is what would be written now."""
        number, fingerprint = self._section_number, section.fingerprint()
        self._section_number += 1
        written = self._cache.written.get(number)
        if written is None or fingerprint is None or not written.fits(fingerprint, self._memo):
            self._cache.written[number] = self._newly_written(section, fingerprint)
            return
        self._memo.update(written.added)
        self._emit(written.code)

    def _newly_written(self, section: Section, fingerprint: tuple[int, bytes] | None) -> WrittenSection | None:
        before, first_part = dict(self._memo), len(self.parts)
        self._used.clear()
        self.write(section.unfold(self._cache.tensors))
        if fingerprint is None:
            return None
        known = {made: before[made] for made in self._used if made in before}
        added = {made: number for made, number in self._memo.items() if number >= len(before)}
        return WrittenSection(fingerprint, len(before), known, added, b"".join(self.parts[first_part:]))

    def write_ref(self, ref: TensorRef) -> None:
        """Write a tensor."""
        number = int(ref.record.removeprefix("data/"))
        storage_class = self._storages.storage_class(number)
        self._write_global("torch._utils", "_rebuild_tensor_v2" if storage_class else "_rebuild_tensor_v3")
        self._emit(pickle.MARK)
        self._write_storage(number, storage_class, ref.itemsize)
        self.write_int(ref.storage_offset)
        self.write_tuple(ref.shape)
        self.write_tuple(ref.stride)
        self.write_bool(False)  # noqa: FBT003  # requires_grad
        self._write_call("collections", "OrderedDict")
        if storage_class is None:
            self._write_dtype_name(ref.dtype_name)
        self._emit(pickle.TUPLE, pickle.REDUCE)

    def _write_storage(self, number: int, storage_class: str | None, item_size: int) -> None:
        size_bytes = self._storages.size_bytes(number)
        self._emit(pickle.MARK)
        self.write_str("storage")
        self._write_global(*(("torch", storage_class) if storage_class else ("torch.storage", "UntypedStorage")))
        self._emit(_unicode(str(number)))
        self.write_str("cpu")
        self.write_int(size_bytes // item_size if storage_class else size_bytes)
        self._emit(pickle.TUPLE, pickle.BINPERSID)


_SHORT_TUPLES = (pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)


class _Writers(dict[type, Callable[[_Pickler, Any], None]]):
    """What writes which type; those of torch join when one is met, and torch is there."""

    def __missing__(self, kind: type) -> Callable[[_Pickler, Any], None]:
        import torch

        of_torch: dict[type, Callable[[_Pickler, Any], None]] = {
            torch.Size: _Pickler.write_size,
            torch.dtype: _Pickler.write_dtype,
            torch.device: _Pickler.write_device,
        }
        self.update(of_torch)
        return of_torch[kind]


_WRITERS = _Writers(
    {
        type(None): _Pickler.write_none,
        bool: _Pickler.write_bool,
        int: _Pickler.write_int,
        float: _Pickler.write_float,
        str: _Pickler.write_str,
        bytes: _Pickler.write_bytes,
        complex: _Pickler.write_complex,
        list: _Pickler.write_list,
        tuple: _Pickler.write_tuple,
        set: _Pickler.write_set,
        dict: _Pickler.write_dict,
        OrderedDict: _Pickler.write_ordered_dict,
        TensorRef: _Pickler.write_ref,
        Section: _Pickler.write_section,
    }
)


def _indexed(short: bytes, long: bytes, number: int) -> bytes:
    return short + bytes((number,)) if number < 2**8 else long + struct.pack("<I", number)


def _unicode(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded
