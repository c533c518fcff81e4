"""Check one object: which check is for it, and what its outcome means."""

from __future__ import annotations

from collections.abc import Callable

from ckptstore import keys
from ckptstore.errors import (
    CorruptCheckpoint,
    KeyNotFound,
    NewerFormat,
    ObjectChanged,
    StoreError,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore.keys import Kind
from ckptstore.store import ObjectInfo, Store
from ckptstore.verifying.archives import checked_archive, checked_packed
from ckptstore.verifying.companions import (
    checked_architecture,
    checked_backup,
    checked_config,
    checked_digest,
    checked_record,
    checked_text,
)
from ckptstore.verifying.report import Finding, FindingKind
from ckptstore.verifying.streaming import Checked, drained

__all__ = ["checked", "examined"]

_CHECKS: dict[Kind, Callable[[Store, ObjectInfo], Checked]] = {
    Kind.CHECKPOINT: checked_archive,
    Kind.COMPRESSED_CHECKPOINT: checked_packed,
    Kind.ARCHITECTURE: checked_architecture,
    Kind.ARCHITECTURE_TEXT: checked_text,
    Kind.CONFIG: checked_config,
    Kind.PROVENANCE: checked_record,
    Kind.BACKUP: checked_backup,
    Kind.BACKUP_DIGEST: checked_digest,
}


def checked(store: Store, info: ObjectInfo) -> Checked:
    """Return the bytes of an object of the layout, checked while they go by.

    Raises:
        KeyError: it is not one.
    """
    parsed = keys.parse_key(info.key)
    if parsed is None:
        raise KeyError(info.key)
    return _CHECKS[parsed.kind](store, info)


def examined(
    store: Store, info: ObjectInfo, advance: Callable[[int], None], *, once_more: bool = True
) -> Finding | None:
    """Read an object and return what is wrong with it; None where every byte is what was written.

    Args:
        store: where it lies.
        info: from a listing.
        advance: is told how many bytes went by.
        once_more: look at the version that is there now, where it was replaced since.

    Raises:
        StoreUnavailable, StoreNotFound: the store itself is gone.
    """
    try:
        unsealed = drained(checked(store, info), advance)
    except KeyNotFound:
        return None  # deleted since it was listed: nothing is there to be damaged
    except ObjectChanged as error:
        return _again(store, info, advance) if once_more else _finding(info, "changed", error)
    except NewerFormat as error:
        return _finding(info, "unreadable", error)
    except CorruptCheckpoint as error:
        return _finding(info, "damaged", error)
    except (StoreUnavailable, StoreNotFound):
        raise
    except StoreError as error:
        return _finding(info, "unreadable", error)
    return Finding("unsealed", info.key, unsealed, info.size_bytes) if unsealed else None


def _again(store: Store, info: ObjectInfo, advance: Callable[[int], None]) -> Finding | None:
    try:
        fresh = store.stat(info.key)
    except KeyNotFound:
        return None
    return examined(store, fresh, advance, once_more=False)


def _finding(info: ObjectInfo, kind: FindingKind, error: Exception) -> Finding:
    return Finding(kind, info.key, str(error), info.size_bytes)
