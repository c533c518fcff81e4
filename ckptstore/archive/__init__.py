"""The checkpoint file: a `.pt` that ``torch.load(weights_only=True)`` reads, as a stream of buffers over a Store."""

from __future__ import annotations

from ckptstore.archive.container import Record
from ckptstore.archive.index import Index, read_index
from ckptstore.archive.plain import savable
from ckptstore.archive.reading import MapLocation, load, read_records
from ckptstore.archive.tensors import TensorRef, storage_of
from ckptstore.archive.writing import Archive, plan

__all__ = [
    "Archive",
    "Index",
    "MapLocation",
    "Record",
    "TensorRef",
    "load",
    "plan",
    "read_index",
    "read_records",
    "savable",
    "storage_of",
]
