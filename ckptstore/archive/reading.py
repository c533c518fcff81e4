"""Read an archive back: some records, or the whole state, in fresh memory or as the file itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from ckptstore.archive.container import FIXED_RECORDS, METADATA, Record, is_marked
from ckptstore.archive.content import PlainContent, content_of
from ckptstore.archive.fetching import fetched
from ckptstore.archive.foreign import load_foreign
from ckptstore.archive.index import Contents, Index, check_record, contents_of, naming
from ckptstore.archive.storages import storage_of
from ckptstore.errors import UnsupportedOperation
from ckptstore.store import ObjectInfo, Store

__all__ = ["MapLocation", "load", "load_mapped", "placed", "read_records"]

MapLocation: TypeAlias = (
    str | torch.device | Mapping[str, str] | Callable[[torch.UntypedStorage, str], torch.UntypedStorage | None] | None
)
"""Where tensors go, as ``torch.load`` takes it; what was saved was in CPU memory, None leaves it there."""


def read_records(store: Store, index: Contents, names: Iterable[str]) -> Iterator[tuple[str, memoryview]]:
    """Yield some records of an archive, each verified, in the order asked; ranges of the version that was indexed.

    Each lies in memory of its own, small neighbours together in up to 8 MiB.

    Raises:
        KeyError: no record has that name.
        ObjectChanged: the object was replaced since.
        CorruptCheckpoint: a record is not what was written.
    """
    by_name = {record.name: record for record in index.records}
    with naming(store, index.key):
        for record, data in fetched(index.content, [by_name[name] for name in names]):
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

    One read of the last 256 KiB to 1 MiB, and where that is not all of it, one of the records.

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
        content = content_of(store, info)
        tail = content.tail()
        if not is_marked(tail):
            return load_foreign(content, map_location)
        contents = contents_of(content, tail)
    return _load(store, contents, tail if len(tail) == content.size_bytes else None, map_location)


def load_mapped(store: Store, index: Contents, *, verified: bool, map_location: MapLocation = None) -> dict[str, Any]:
    """Return a state whose tensors are the file itself: read when looked at, copied when written to.

    Args:
        store: on a disk of this machine.
        index: from `read_index`.
        verified: True reads every record once, to compare its CRC32; False reads none: damage is a wrong value.
        map_location: as in ``torch.load``; another device reads everything.

    Raises:
        UnsupportedOperation: the store has no files, or this one is compressed.
        ObjectChanged: it was replaced since it was indexed.
        CorruptCheckpoint: with verified, when a record is not what was written.
    """
    if not isinstance(index.content, PlainContent):
        raise UnsupportedOperation(
            f"{index.key!r} is compressed and cannot be mapped; decompress it, or load it whole"
        )
    whole = store.mapped(index.key, version=index.version)
    with naming(store, index.key):
        return _state(index, _cut_out(_of_tensors(index), whole, verified=verified), map_location)


def _load(store: Store, contents: Contents, whole: bytes | None, map_location: MapLocation) -> Any:
    wanted = _of_tensors(contents)
    with naming(store, contents.key):
        if whole is None:
            return _state(contents, fetched(contents.content, wanted), map_location)
        return _state(contents, _cut_out(wanted, memoryview(whole), verified=True), map_location)


def _of_tensors(contents: Contents) -> list[Record]:
    return [record for record in contents.records if record.name not in {*FIXED_RECORDS, METADATA}]


def _state(
    contents: Contents, records: Iterable[tuple[Record, memoryview]], map_location: MapLocation
) -> dict[str, Any]:
    storages = {record.name: placed(storage_of(data), map_location) for record, data in records}
    return contents.state_of(lambda ref: ref.view(storages[ref.record]))


def _cut_out(records: Iterable[Record], whole: memoryview, *, verified: bool) -> Iterator[tuple[Record, memoryview]]:
    for record in records:
        data = whole[record.offset :][: record.size_bytes]
        if verified:
            check_record(record, data)
        yield record, data


def placed(storage: torch.UntypedStorage, map_location: MapLocation) -> torch.UntypedStorage:
    """Return a storage where a map_location wants it; itself where it is there already."""
    if callable(map_location):
        placed = map_location(storage, "cpu")
        return storage if placed is None else placed
    device = map_location.get("cpu", "cpu") if isinstance(map_location, Mapping) else map_location or "cpu"
    if torch.device(device).type == "cpu":
        return storage
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage).to(device).untyped_storage()
