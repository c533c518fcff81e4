"""What checkpoints say of themselves, without their tensors: read from their last bytes, and remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ckptstore.cachefile import cache_folder, read_cache, write_cache
from ckptstore.checkpoints import CheckpointRecord
from ckptstore.errors import CorruptCheckpoint, KeyNotFound, NewerFormat, ObjectChanged, UnsupportedFormat
from ckptstore.progress import Progress, Silent
from ckptstore.store import Store
from ckptstore.timestamps import parsed_timestamp

if TYPE_CHECKING:
    from ckptstore.archive import Index

__all__ = ["Condition", "Header", "RecordCache", "header_of", "read_header"]

Condition: TypeAlias = Literal["sound", "foreign", "newer", "damaged", "gone"]

_READERS = 16
_MAX_ENTRIES = 10_000
_MAX_METADATA_BYTES = 16 * 1024
_MAX_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Header:
    """What the last bytes of a checkpoint say.

    Attributes:
        condition: "sound" where its index was read and verified (its tensors were not looked at); "foreign" where
            another tool wrote it, or its end is cut off; "newer" where a newer ckptstore wrote it; "damaged";
            "gone" where it was deleted or replaced since it was listed.
        detail: why it is not sound.
        digest: identifies the content of the whole file.
        saved_at: when, by the clock of the machine that saved it.
        run_id: marks the checkpoints of one run.
        resumed_from: experiment, step and run that the run went on from.
        metadata: as it was saved, with a short text in place of what is neither number, text, list nor dict; where
            that is too long, its numbers alone.
        complete: whether no number is left out of the metadata, as some are where even these are too many.
    """

    condition: Condition
    detail: str = ""
    digest: str | None = None
    saved_at: datetime | None = None
    run_id: str | None = None
    resumed_from: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True


class RecordCache:
    """Headers of checkpoints, kept by store, key and version in the user's cache folder.

    Safe with many processes. A damaged cache, or none that could be written, only costs the reads again. No
    credential gets into it: a store is known by a digest of its address.

    Args:
        folder: where; by default `cachefile.cache_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        root = cache_folder() if folder is None else folder
        self._folder = None if root is None else root / "headers"

    def headers(
        self, store: Store, records: Sequence[CheckpointRecord], *, progress: Progress | None = None
    ) -> list[Header]:
        """Return the header of each checkpoint, in order: one suffix read, in parallel, for each that is new.

        Only what is sound or foreign is remembered.

        Raises:
            AccessDenied, StoreUnavailable: the store does not let us know.
        """
        told = progress or Silent()
        known = self._known(store, records)
        unknown = [record for record in records if record.info.key not in known]
        told.expect(objects=len(unknown))
        with ThreadPoolExecutor(_READERS, thread_name_prefix="ckptstore headers") as readers:
            found: dict[str, Header] = {}
            for record, header in zip(
                unknown, readers.map(lambda record: read_header(store, record), unknown), strict=True
            ):
                found[record.info.key] = header
                told.advance(objects=1)
        self._remember(store, unknown, found)
        known.update(found)
        return [known[record.info.key] for record in records]

    def _known(self, store: Store, records: Iterable[CheckpointRecord]) -> dict[str, Header]:
        files = {path: read_cache(path) for path in {self._file(store, record) for record in records} if path}
        known = {}
        for record in records:
            path = self._file(store, record)
            entry = files[path].get(record.info.key) if path else None
            header = _thawed(entry, record.info.version)
            if header is not None:
                known[record.info.key] = header
        return known

    def _remember(self, store: Store, records: Iterable[CheckpointRecord], found: Mapping[str, Header]) -> None:
        new: dict[Path, dict[str, Any]] = {}
        for record in records:
            path, header = self._file(store, record), found[record.info.key]
            if path and header.condition in ("sound", "foreign"):
                new.setdefault(path, {})[record.info.key] = _frozen(header, record.info.version)
        for path, entries in new.items():
            merged = {key: entry for key, entry in read_cache(path).items() if key not in entries} | entries
            write_cache(path, dict(list(merged.items())[-_MAX_ENTRIES:]))

    def _file(self, store: Store, record: CheckpointRecord) -> Path | None:
        if self._folder is None:
            return None
        place = f"{store.place}\n{record.info.key.rpartition('/')[0]}"
        return self._folder / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def read_header(store: Store, record: CheckpointRecord) -> Header:
    """Return what a checkpoint says of itself. One suffix read of 256 KiB, a second one where its index is longer.

    Raises:
        AccessDenied, StoreUnavailable: the store does not let us know.
    """
    from ckptstore.archive import read_index

    try:
        return header_of(read_index(store, record.info.key, info=record.info))
    except NewerFormat as error:
        return Header("newer", str(error))
    except UnsupportedFormat as error:
        return Header("foreign", str(error))
    except CorruptCheckpoint as error:
        return Header("damaged", str(error))
    except (KeyNotFound, ObjectChanged) as error:
        return Header("gone", str(error))


def header_of(index: Index) -> Header:
    """Return what an index says of its checkpoint."""
    state = index.state
    run_id, resumed_from = state.get("run_id"), state.get("resumed_from")
    metadata, complete = _bounded(state.get("metadata"))
    return Header(
        condition="sound",
        digest=index.digest,
        saved_at=parsed_timestamp(state.get("timestamp")),
        run_id=run_id if isinstance(run_id, str) else None,
        resumed_from=_plain(resumed_from) if isinstance(resumed_from, Mapping) else None,
        metadata=metadata,
        complete=complete,
    )


def _bounded(metadata: object) -> tuple[dict[str, Any], bool]:
    """Return metadata of bounded length, and whether all numbers are in it."""
    if not isinstance(metadata, Mapping):
        return {}, True
    plain: dict[str, Any] = _plain(metadata)
    numbers = _numbers(plain)
    for kept in (plain, numbers):
        if _fits(kept):
            return kept, True
    outermost = {name: value for name, value in numbers.items() if not isinstance(value, dict)}
    return outermost if _fits(outermost) else {}, False


def _fits(metadata: Mapping[str, Any]) -> bool:
    return len(json.dumps(metadata)) <= _MAX_METADATA_BYTES


def _numbers(plain: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, int | float):
            found[name] = value
        elif isinstance(value, dict) and (inner := _numbers(value)):
            found[name] = inner
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    shape = getattr(value, "shape", None)
    return f"<{type(value).__name__}>" if shape is None else f"<tensor {'x'.join(map(str, shape))}>"


def _frozen(header: Header, version: str) -> dict[str, Any]:
    saved_at = header.saved_at.isoformat() if header.saved_at else None
    return {**asdict(header), "saved_at": saved_at, "version": version}


def _thawed(entry: object, version: str) -> Header | None:
    if not isinstance(entry, dict) or entry.get("version") != version:
        return None
    facts = {name: value for name, value in entry.items() if name != "version"}
    try:
        return Header(**{**facts, "saved_at": parsed_timestamp(facts.get("saved_at"))})
    except TypeError:  # another version of ckptstore wrote it
        return None
