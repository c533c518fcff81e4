"""Read records straight into the memory of tensors that exist already."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from ckptstore.archive.container import Record
from ckptstore.archive.fetching import Stretch, fetched, fresh_memory
from ckptstore.archive.index import Index, naming
from ckptstore.archive.reading import MapLocation, placed
from ckptstore.archive.storages import storage_of
from ckptstore.archive.tensors import TensorRef
from ckptstore.store import Store

__all__ = ["Places", "can_be_placed", "fill", "read_around", "unshared"]

Places: TypeAlias = Mapping[TensorRef, torch.Tensor]
"""Which tensor takes the bytes of which ref: one of `unshared`, `can_be_placed` is true, and no two share memory."""


def unshared(index: Index, *, leave_out: Collection[str] = ()) -> set[TensorRef]:
    """Return the refs that are the only ones to their record, each in one entry of the state.

    Others cannot be placed: a record goes to one tensor, and what lies there belongs to one object.

    Args:
        index: of the archive.
        leave_out: entries of the state that do not count.
    """
    users: dict[str, set[tuple[str, TensorRef]]] = {}
    for name in index.state.keys() - set(leave_out):
        for ref in _refs(index.state[name]):
            users.setdefault(ref.record, set()).add((name, ref))
    return {ref for found in users.values() if len(found) == 1 for _, ref in found}


def can_be_placed(index: Index, ref: TensorRef, tensor: torch.Tensor) -> bool:
    """Whether the bytes of a record are those of a tensor: the same dtype, shape and order, nothing beside it."""
    plain = type(tensor) in {torch.Tensor, torch.nn.Parameter} and tensor.layout is torch.strided
    if not plain or tensor.is_meta or tensor.is_conj() or tensor.is_neg():
        return False
    whole = ref.storage_offset == 0 and ref.numel * ref.itemsize == _record(index, ref).size_bytes
    alike = (tensor.dtype, tuple(tensor.shape)) == (ref.dtype, ref.shape)
    order = _order(ref.shape, ref.stride)
    return whole and alike and order is not None and order == _order(ref.shape, tensor.stride())


def read_around(
    store: Store,
    index: Index,
    places: Places,
    *,
    leave_out: Collection[str] = (),
    map_location: MapLocation = None,
) -> dict[str, Any]:
    """Return a state with some tensors in it as they are now, and everything else read and verified.

    Args:
        store: where it lies.
        index: of it.
        places: the tensors.
        leave_out: entries of the state that are neither read nor returned.
        map_location: as in `load`.

    Raises:
        ObjectChanged, CorruptCheckpoint: as `load`; nothing was written to those tensors.
    """
    wanted = {name: value for name, value in index.state.items() if name not in leave_out}
    needed = {ref.record for ref in _refs(wanted) if ref not in places}
    records = [record for record in index.records if record.name in needed]
    with naming(store, index.key):
        storages = {
            record.name: placed(storage_of(data), map_location) for record, data in fetched(index.content, records)
        }

    def tensor(ref: TensorRef) -> torch.Tensor | None:
        if ref in places:
            return places[ref]
        return ref.view(storages[ref.record]) if ref.record in storages else None

    return {name: value for name, value in index.state_of(tensor).items() if name in wanted}


def _refs(value: Any) -> Iterator[TensorRef]:
    if isinstance(value, TensorRef):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _refs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)


def fill(store: Store, index: Index, places: Places) -> None:
    """Read the bytes of some tensors into them.

    Large ones in CPU memory are read where they are; small neighbours, and those of another device, by way of a few
    MiB.

    Raises:
        ObjectChanged, CorruptCheckpoint: as `load`; the tensors hold some of the old and some of the new bytes.
    """
    targets = {ref.record: _bytes_of(tensor) for ref, tensor in places.items()}
    records = [record for record in index.records if record.name in targets]

    def memory(stretch: Stretch) -> memoryview:
        target = targets[stretch.records[0].name]
        is_direct = len(stretch.records) == 1 and target.device.type == "cpu"
        return target.numpy().data if is_direct else fresh_memory(stretch)

    with naming(store, index.key), torch.no_grad():
        for record, data in fetched(index.content, records, memory):
            target = targets[record.name]
            source = torch.frombuffer(data, dtype=torch.uint8) if data else target
            if source.data_ptr() != target.data_ptr():
                target.copy_(source)


def _record(index: Index, ref: TensorRef) -> Record:
    return index.records[int(ref.record.removeprefix("data/"))]


def _order(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the dimensions from the innermost one on; None unless the elements lie one after the other."""
    real = [dimension for dimension, size in enumerate(shape) if size != 1]
    order = tuple(sorted(real, key=lambda dimension: stride[dimension]))
    step = 1
    for dimension in order:
        if stride[dimension] != step:
            return None
        step *= shape[dimension]
    return order


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    first = int(tensor.storage_offset()) * tensor.dtype.itemsize
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return flat.set_(tensor.untyped_storage(), first, (tensor.nbytes,), (1,))
