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

import torch

from ckptstore.archive import Index, Record, TensorRef, storage_of
from ckptstore.archive.index import check_record
from ckptstore.archive.tensors import storage_view
from ckptstore.errors import UnsavableState
from ckptstore.exporting.streams import check_records, pieces, verified
from ckptstore.objects import Buffer, ByteRange

__all__ = ["SafetensorsFile"]

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}
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
        return self.ref.numel * self.ref.dtype.itemsize

    @property
    def form(self) -> Literal["whole", "slice", "strided"]:
        """Whether it is all of its record, some bytes of it in order, or scattered over it."""
        shape, stride = self.ref.shape, self.ref.stride
        if not torch.empty_strided(shape, stride, dtype=torch.uint8, device="meta").is_contiguous():
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
        if unknown := [f"{name} ({ref.dtype})" for name, ref in refs.items() if ref.dtype not in _DTYPES]:
            raise UnsavableState(f"safetensors has no such dtype: {', '.join(unknown)}; export to='pt'")
        records = {record.name: record for record in index.records}
        tensors = [_Tensor(name, ref, records[ref.record]) for name, ref in refs.items()]
        self._index = index
        self._tensors = sorted(tensors, key=lambda tensor: (-tensor.ref.dtype.itemsize, _place(tensor)))
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
        elements = tensor.ref.view(storage_of(data)).contiguous()
        return storage_view(elements.untyped_storage())


def _place(tensor: _Tensor) -> tuple[int, int]:
    return tensor.record.offset, tensor.ref.storage_offset


def _ranges(tensor: _Tensor) -> list[ByteRange]:
    start = tensor.record.offset + tensor.ref.storage_offset * tensor.ref.dtype.itemsize
    return pieces(start, tensor.size_bytes)


def _header(tensors: list[_Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {_METADATA: dict(metadata)}
    start = 0
    for tensor in tensors:
        if tensor.name == _METADATA:
            raise UnsavableState(f"safetensors keeps the name {_METADATA!r} for itself; export to='pt'")
        stop = start + tensor.size_bytes
        dtype, shape = _DTYPES[tensor.ref.dtype], list(tensor.ref.shape)
        entries[tensor.name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _MAX_HEADER_BYTES:
        raise UnsavableState(f"the header would have {len(text)} bytes; safetensors takes {_MAX_HEADER_BYTES}")
    return struct.pack("<Q", len(text)) + text
