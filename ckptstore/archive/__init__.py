"""The checkpoint file: a `.pt` that ``torch.load(weights_only=True)`` reads, as a stream of buffers over a Store."""

from __future__ import annotations

from ckptstore.archive.container import Record
from ckptstore.archive.content import Foresight, brief, thorough
from ckptstore.archive.flat import Flat, flatten
from ckptstore.archive.image import Image, Stream
from ckptstore.archive.index import Index, read_index
from ckptstore.archive.mould import Mould, fit
from ckptstore.archive.placing import Places, can_be_placed, fill, read_around, unshared
from ckptstore.archive.plain import savable
from ckptstore.archive.reading import MapLocation, load, load_mapped, read_records
from ckptstore.archive.tensors import TensorRef, storage_of
from ckptstore.archive.writing import Archive, plan

__all__ = [
    "Archive",
    "Flat",
    "Foresight",
    "Image",
    "Index",
    "MapLocation",
    "Mould",
    "Places",
    "Record",
    "Stream",
    "TensorRef",
    "brief",
    "can_be_placed",
    "fill",
    "fit",
    "flatten",
    "load",
    "load_mapped",
    "plan",
    "read_around",
    "read_index",
    "read_records",
    "savable",
    "storage_of",
    "thorough",
    "unshared",
]
