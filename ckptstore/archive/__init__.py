"""The checkpoint file: a `.pt` that ``torch.load(weights_only=True)`` reads, as a stream of buffers over a Store.

Names that need torch are imported on first use: where tensors lie is known without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ckptstore.archive.container import Record
from ckptstore.archive.content import Foresight, brief, thorough
from ckptstore.archive.index import Index, read_index
from ckptstore.archive.tensors import TensorRef

if TYPE_CHECKING:
    from ckptstore.archive.flat import Flat, flatten
    from ckptstore.archive.image import Image, Stream
    from ckptstore.archive.mould import Mould, fit
    from ckptstore.archive.placing import Places, can_be_placed, fill, read_around, unshared
    from ckptstore.archive.plain import savable
    from ckptstore.archive.reading import MapLocation, load, load_mapped, read_records
    from ckptstore.archive.storages import storage_of
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

_ON_FIRST_USE = {
    "Archive": "ckptstore.archive.writing",
    "Flat": "ckptstore.archive.flat",
    "Image": "ckptstore.archive.image",
    "MapLocation": "ckptstore.archive.reading",
    "Mould": "ckptstore.archive.mould",
    "Places": "ckptstore.archive.placing",
    "Stream": "ckptstore.archive.image",
    "can_be_placed": "ckptstore.archive.placing",
    "fill": "ckptstore.archive.placing",
    "fit": "ckptstore.archive.mould",
    "flatten": "ckptstore.archive.flat",
    "load": "ckptstore.archive.reading",
    "load_mapped": "ckptstore.archive.reading",
    "plan": "ckptstore.archive.writing",
    "read_around": "ckptstore.archive.placing",
    "read_records": "ckptstore.archive.reading",
    "savable": "ckptstore.archive.plain",
    "storage_of": "ckptstore.archive.storages",
    "unshared": "ckptstore.archive.placing",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'ckptstore.archive' has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name]), name)
