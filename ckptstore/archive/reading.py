"""Read an archive back: some records, or the whole state in fresh memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from ckptstore.archive.container import FIXED_RECORDS, METADATA, Record, is_marked
from ckptstore.archive.foreign import load_foreign
from ckptstore.archive.index import Contents, Index, check_record, contents_of, naming, read_tail
from ckptstore.archive.tensors import storage_of
from ckptstore.store import ByteRange, ObjectInfo, Store

__all__ = ["MapLocation", "load", "read_records"]

MapLocation: TypeAlias = (
    str | torch.device | Mapping[str, str] | Callable[[torch.UntypedStorage, str], torch.UntypedStorage | None] | None
)
"""Where tensors go, as ``torch.load`` takes it; what was saved was in CPU memory, None leaves it there."""


def read_records(store: Store, index: Contents, names: Iterable[str]) -> Iterator[tuple[str, memoryview]]:
    """Yield some records of an archive, each verified, in the order asked; ranges of the version that was indexed.

    Raises:
        KeyError: no record has that name.
        ObjectChanged: the object was replaced since.
        CorruptCheckpoint: a record is not what was written.
    """
    by_name = {record.name: record for record in index.records}
    records = [by_name[name] for name in names]
    ranges = [ByteRange(record.offset, record.size_bytes) for record in records]
    parts = store.get_ranges(index.key, ranges, version=index.version)
    for record, data in zip(records, parts, strict=True):
        with naming(store, index.key):
            check_record(record, data)
        yield record.name, data


def load(
    store: Store,
    key: str,
    *,
    info: ObjectInfo | None = None,
    index: Index | None = None,
    map_location: MapLocation = None,
) -> Any:
    """Read a whole state into fresh memory, verified; what shared memory shares it again.

    One read of the last 256 KiB, and where that is not all of it, one of the records.

    A file of ckptstore is a dict, and equals what was saved bit for bit. A file that torch.save wrote, in any of its
    formats, is whatever was saved; its records are verified by the CRC32 that a zip holds, the older formats have
    none. Nothing from a file is ever executed.

    Args:
        store: where it lies.
        key: of the object.
        info: of the version to read, from a listing; None asks the store first, one more request.
        index: from `read_index`, to read that version without reading its index again.
        map_location: as in ``torch.load``.

    Raises:
        KeyNotFound: no such object.
        ObjectChanged: it was replaced meanwhile, or is no longer of that version.
        UnsupportedFormat: of a newer format, or it holds more than tensors and plain data.
        CorruptCheckpoint: truncated, changed, or never a checkpoint.
    """
    if index is not None:
        return _load(store, index, None, map_location)
    info = store.stat(key) if info is None else info
    with naming(store, key):
        tail = read_tail(store, info)
        if not is_marked(tail):
            return load_foreign(store, info, map_location)
        contents = contents_of(store, info, tail)
    return _load(store, contents, tail if len(tail) == info.size_bytes else None, map_location)


def _load(store: Store, contents: Contents, whole: bytes | None, map_location: MapLocation) -> Any:
    wanted = [record for record in contents.records if record.name not in {*FIXED_RECORDS, METADATA}]
    if whole is None:
        records = read_records(store, contents, [record.name for record in wanted])
    else:
        records = _cut_out(wanted, memoryview(whole))
    with naming(store, contents.key):
        storages = {name: _placed(storage_of(data), map_location) for name, data in records}
        return contents.state_of(lambda ref: ref.view(storages[ref.record]))


def _cut_out(records: Iterable[Record], whole: memoryview) -> Iterator[tuple[str, memoryview]]:
    for record in records:
        data = whole[record.offset :][: record.size_bytes]
        check_record(record, data)
        yield record.name, data


def _placed(storage: torch.UntypedStorage, map_location: MapLocation) -> torch.UntypedStorage:
    if callable(map_location):
        placed = map_location(storage, "cpu")
        return storage if placed is None else placed
    device = map_location.get("cpu", "cpu") if isinstance(map_location, Mapping) else map_location or "cpu"
    if torch.device(device).type == "cpu":
        return storage
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage).to(device).untyped_storage()
