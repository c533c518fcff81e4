"""Remove what crashes leave behind: unfinished uploads, and second forms of what is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from ckptstore import keys
from ckptstore.clock import PROBE_PREFIX, store_time
from ckptstore.errors import KeyNotFound, ObjectChanged, StoreError
from ckptstore.keys import Kind
from ckptstore.opening import StoreLike, opened
from ckptstore.progress import Progress, Silent
from ckptstore.store import ObjectInfo, Store, Upload, redact
from ckptstore.verifying.examination import examined

__all__ = ["GarbageItem", "GarbageReport", "collect_garbage"]

_YOUNG = "younger than the limit, perhaps in progress"


@dataclass(frozen=True, slots=True)
class GarbageItem:
    """Something that a crash may have left.

    Attributes:
        kind: "upload", unfinished; "probe", of a process that asked the store for the time; "twin", the older of a
            `.pt` and its `.pt.zst`, where compressing or decompressing was cut short.
        key: where it lies, or would have been published.
        size_bytes: what it takes; 0 where the store does not say, as for uploads.
        since: when it was written or begun, by the store's clock.
        goes: whether it does.
        why: the reason, either way.
    """

    kind: Literal["upload", "probe", "twin"]
    key: str
    size_bytes: int
    since: datetime
    goes: bool
    why: str


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """What was garbage, and what only looked like it.

    Attributes:
        url: the store, without credentials.
        dry_run: nothing was removed; this is what would have been.
        items: everything that was looked at.
    """

    url: str
    dry_run: bool
    items: tuple[GarbageItem, ...]

    @property
    def gone(self) -> tuple[GarbageItem, ...]:
        """What went."""
        return tuple(item for item in self.items if item.goes)

    @property
    def freed_bytes(self) -> int:
        """What it took in the store, as far as the store says."""
        return sum(item.size_bytes for item in self.gone)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        items = [{**asdict(item), "since": item.since.isoformat()} for item in self.items]
        return {"url": self.url, "dry_run": self.dry_run, "freed_bytes": self.freed_bytes, "items": items}


@dataclass(frozen=True, slots=True)
class _Suspect:
    item: GarbageItem
    remove: Callable[[], None]


def collect_garbage(
    store: StoreLike,
    *,
    older_than: timedelta = timedelta(days=1),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> GarbageReport:
    """Remove what crashes left under ``checkpoints/``: what is ours, older than a day, and certainly not needed.

    - Unfinished uploads, which no listing shows and which are paid for; on a disk temporary files of killed writers.
    - Where a `.pt` lies beside its `.pt.zst`, the one that was written first, after every byte of both was read: the
      `.pt.zst` is sound, and decompresses to the very bytes of the `.pt`. Otherwise both stay.

    What ckptstore did not write is never touched.

    Args:
        store: a store, or what `open_store` takes.
        older_than: what is younger stays: it may be in progress. By the store's clock.
        dry_run: only say what would go, by this machine's clock.
        progress: is told how far it is.

    Raises:
        ValueError: older_than is negative.
        StoreError: the store refused; the error's note says how much was removed by then.
    """
    if older_than < timedelta(0):
        raise ValueError(f"older_than is {older_than}, which has not come yet")
    told = progress or Silent()
    with opened(store) as place:
        judges = list(_suspicions(place, told))
        now = store_time(place) if judges and not dry_run else datetime.now(UTC)
        suspects = [judge(now - older_than) for judge in judges]
        if not dry_run:
            _remove([suspect for suspect in suspects if suspect.item.goes])
        return GarbageReport(redact(place.url), dry_run, tuple(suspect.item for suspect in suspects))


def _suspicions(store: Store, progress: Progress) -> Iterator[Callable[[datetime], _Suspect]]:
    """Yield for everything that may be garbage what judges it, given the time before which it must be written."""
    for upload in store.list_uploads(keys.CHECKPOINTS):
        if keys.parse_key(upload.key) or upload.key.startswith(PROBE_PREFIX):
            yield partial(_judged_upload, store, upload)
    earlier: ObjectInfo | None = None
    for info in store.list(keys.CHECKPOINTS):
        parsed = keys.parse_key(info.key)
        if info.key.startswith(PROBE_PREFIX):
            yield partial(_judged_probe, store, info)
        elif parsed and parsed.kind is Kind.CHECKPOINT:
            earlier = info
        elif parsed and earlier and info.key == earlier.key + keys.COMPRESSED:
            yield partial(_judged_twins, store, earlier, info, progress)


def _judged_upload(store: Store, upload: Upload, before: datetime) -> _Suspect:
    goes = upload.started <= before
    why = "its writer is gone" if goes else _YOUNG
    item = GarbageItem("upload", upload.key, 0, upload.started, goes, why)
    return _Suspect(item, partial(store.abort_upload, upload))


def _judged_probe(store: Store, info: ObjectInfo, before: datetime) -> _Suspect:
    goes = info.modified <= before
    why = "a killed process left it" if goes else _YOUNG
    item = GarbageItem("probe", info.key, info.size_bytes, info.modified, goes, why)
    return _Suspect(item, partial(store.delete, [info.key]))


def _judged_twins(
    store: Store, plain: ObjectInfo, packed: ObjectInfo, progress: Progress, before: datetime
) -> _Suspect:
    extra, other = (plain, packed) if plain.modified <= packed.modified else (packed, plain)
    if other.modified > before:
        reason = _YOUNG
    else:
        progress.describe(f"comparing {keys.file_name(plain.key)} with its compressed form")
        progress.expect(size_bytes=plain.size_bytes + packed.size_bytes)
        reason = _difference(store, plain, packed, lambda size_bytes: progress.advance(size_bytes=size_bytes))
    why = reason or f"{keys.file_name(other.key)} holds the same, every byte read"
    item = GarbageItem("twin", extra.key, extra.size_bytes, extra.modified, not reason, why)
    return _Suspect(item, partial(_delete_twin, store, extra, other))


def _difference(store: Store, plain: ObjectInfo, packed: ObjectInfo, advance: Callable[[int], None]) -> str:
    from ckptstore.archive.content import PlainContent
    from ckptstore.compression.copies import content_digest
    from ckptstore.packing import PackedContent

    finding = examined(store, packed, advance)
    if finding is not None:
        return f"its compressed form is {finding.kind}: {finding.detail}"
    try:
        expected = PackedContent(store, packed).footer.content_digest
        same = content_digest(PlainContent(store, plain), lambda data: advance(len(data))) == expected
    except (KeyNotFound, ObjectChanged):
        return "replaced while it was looked at"
    return "" if same else "its compressed form holds another checkpoint"


def _delete_twin(store: Store, extra: ObjectInfo, other: ObjectInfo) -> None:
    """Delete one of two forms as long as both are what was compared: somebody may have decompressed meanwhile."""
    from ckptstore.compression.work import give_way

    with suppress(KeyNotFound, ObjectChanged):
        give_way(store, extra, other)


def _remove(suspects: list[_Suspect]) -> None:
    for number, suspect in enumerate(suspects):
        try:
            suspect.remove()
        except StoreError as error:
            error.add_note(f"{number} of {len(suspects)} things were removed before")
            raise
