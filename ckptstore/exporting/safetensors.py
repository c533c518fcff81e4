"""A safetensors file as a stream: a header that says where each tensor lies, and the tensors, each contiguous.

Source: the format's description in the README of huggingface/safetensors (version 0.8): 8 bytes with the length of
the header, the header as JSON, the tensors without gaps. Larger elements come first, so that all are aligned.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from ckptstore.archive.container import Record
from ckptstore.archive.dtypes import DTYPES
from ckptstore.archive.index import Index, check_record
from ckptstore.archive.tensors import TensorRef
from ckptstore.errors import UnsavableState
from ckptstore.exporting.streams import check_records, pieces, verified
from ckptstore.objects import Buffer, ByteRange

__all__ = ["SafetensorsFile"]

_METADATA = "__metadata__"
_ALIGNMENT = 8
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    ref: TensorRef
    record: Record

    @property
    def size_bytes(self) -> int:
        return self.ref.numel * self.ref.itemsize

    @property
    def form(self) -> Literal["whole", "slice", "strided"]:
        """Whether it is all of its record, some bytes of it in order, or scattered over it."""
        if not self.ref.is_contiguous:
            return "strided"
        return "whole" if self.size_bytes == self.record.size_bytes else "slice"


class SafetensorsFile:
    """The file of a checkpoint's tensors: an iterable of its buffers, to be used once.

    Args:
        index: of the checkpoint.
        refs: its tensors by name.
        metadata: for the header.

    Raises:
        UnsavableState: a tensor's dtype or name has no place in the format.

    Attributes:
        size_bytes: of the file.
    """

    def __init__(self, index: Index, refs: Mapping[str, TensorRef], metadata: Mapping[str, str]) -> None:
        unknown = [f"{name} (torch.{ref.dtype_name})" for name, ref in refs.items() if _dtype(ref) is None]
        if unknown:
            raise UnsavableState(f"safetensors has no such dtype: {', '.join(unknown)}; export to='pt'")
        records = {record.name: record for record in index.records}
        tensors = [_Tensor(name, ref, records[ref.record]) for name, ref in refs.items()]
        self._index = index
        self._tensors = sorted(tensors, key=lambda tensor: (-tensor.ref.itemsize, _place(tensor)))
        self._header = _header(self._tensors, metadata)
        self.size_bytes = len(self._header) + sum(tensor.size_bytes for tensor in tensors)

    def __iter__(self) -> Iterator[Buffer]:
        yield self._header
        sliced = {tensor.record for tensor in self._tensors if tensor.form == "slice"}
        check_records(self._index.content, sorted(sliced, key=lambda record: record.offset))
        for form, group in groupby(self._tensors, key=lambda tensor: tensor.form):
            tensors = list(group)
            if form == "whole":
                yield from verified(self._index.content, [tensor.record for tensor in tensors])
            elif form == "slice":
                yield from self._index.content.read(wanted for tensor in tensors for wanted in _ranges(tensor))
            else:
                yield from map(self._gathered, tensors)

    def _gathered(self, tensor: _Tensor) -> memoryview:
        record = tensor.record
        (data,) = self._index.content.read([ByteRange(record.offset, record.size_bytes)])
        check_record(record, data)
        return _contiguous(tensor.ref, data)


def _contiguous(ref: TensorRef, data: memoryview) -> memoryview:
    import numpy as np  # not above: few checkpoints hold such tensors

    start, strides = ref.storage_offset * ref.itemsize, [step * ref.itemsize for step in ref.stride]
    elements = np.ndarray(ref.shape, f"u{ref.itemsize}", data, start, strides)
    return np.ascontiguousarray(elements).data.cast("B")


def _dtype(ref: TensorRef) -> str | None:
    return DTYPES[ref.dtype_name].safetensors


def _place(tensor: _Tensor) -> tuple[int, int]:
    return tensor.record.offset, tensor.ref.storage_offset


def _ranges(tensor: _Tensor) -> list[ByteRange]:
    start = tensor.record.offset + tensor.ref.storage_offset * tensor.ref.itemsize
    return pieces(start, tensor.size_bytes)


def _header(tensors: list[_Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {_METADATA: dict(metadata)}
    start = 0
    for tensor in tensors:
        if tensor.name == _METADATA:
            raise UnsavableState(f"safetensors keeps the name {_METADATA!r} for itself; export to='pt'")
        stop = start + tensor.size_bytes
        dtype, shape = _dtype(tensor.ref), list(tensor.ref.shape)
        entries[tensor.name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _MAX_HEADER_BYTES:
        raise UnsavableState(f"the header would have {len(text)} bytes; safetensors takes {_MAX_HEADER_BYTES}")
    return struct.pack("<Q", len(text)) + text
