"""Replace what is damaged or missing by what another store holds, if it is sound there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ckptstore import keys
from ckptstore.archive import read_index
from ckptstore.errors import CkptStoreError, CorruptCheckpoint, KeyNotFound, StoreError, StoreUnavailable
from ckptstore.keys import Kind
from ckptstore.store import ObjectInfo, Store
from ckptstore.verifying.examination import checked, examined
from ckptstore.verifying.report import Finding
from ckptstore.verifying.streaming import CheckedObject, streamed, whole

__all__ = ["REPAIRABLE", "Repairer"]

_ELSEWHERE = "in the other store it is"

REPAIRABLE = frozenset({"damaged", "missing", "hollow", "orphaned"})


class _NotRepairable(CkptStoreError):
    """The other store cannot help; the message says why."""


class Repairer:
    """Copies sound objects over unsound ones.

    What is taken was read whole and checked, is checked again while it is copied, and is read back afterwards. An
    object is replaced whole or not at all: where anything fails, the one that was there stays as it is.

    Args:
        target: the store to repair.
        source: the store to take from.
        advance: is told how many bytes were read for it.
    """

    def __init__(self, target: Store, source: Store, advance: Callable[[int], None]) -> None:
        self._target = target
        self._source = source
        self._advance = advance

    def repaired(self, finding: Finding) -> Finding:
        """Return the finding with what became of its repair.

        Raises:
            StoreUnavailable: one of the stores is gone.
        """
        try:
            done = self._repair(finding.key)
        except StoreUnavailable:
            raise
        except (_NotRepairable, CorruptCheckpoint, StoreError) as error:
            same = str(error) == f"{_ELSEWHERE} {finding.kind}: {finding.detail}"
            why = f"{_ELSEWHERE} {finding.kind} in the same way" if same else str(error)
            return replace(finding, outcome="not repaired", repair=why)
        return replace(finding, outcome="repaired", repair=done)

    def _repair(self, key: str) -> str:
        parsed = keys.parse_key(key)
        if parsed is None:
            raise _NotRepairable("it is not ours")
        if parsed.kind in (Kind.BACKUP, Kind.BACKUP_DIGEST):
            return self._repair_backup(key.removesuffix(".sha256"))
        if parsed.step is not None:
            return self._repair_checkpoint(key)
        self._copy(self._sound(key))
        return "by the one of the other store"

    def _repair_checkpoint(self, key: str) -> str:
        other = key.removesuffix(keys.COMPRESSED) if key.endswith(keys.COMPRESSED) else key + keys.COMPRESSED
        found = self._sound(*(candidate for candidate in (key, other) if self._holds(self._source, candidate)))
        mine, theirs = _digest(self._target, key), _digest(self._source, found.key)
        if mine is not None and mine != theirs:
            raise _NotRepairable("the other store holds another checkpoint of this step")
        self._copy(found)
        if found.key != key:
            self._target.delete([key])
            return f"by {keys.file_name(found.key)} of the other store"
        return "by the one of the other store"

    def _repair_backup(self, key: str) -> str:
        """Repair the pair of a backup and its checksum: only both together say whether they are sound."""
        digest_key = keys.backup_digest_key(key)
        found, their_line = self._sound(key), self._sound(digest_key)
        theirs = whole(self._source, their_line)
        mine = _sha256(self._target, key, self._advance)
        if mine is not None and theirs.startswith(mine.encode()):
            self._copy(their_line)
            return "its checksum, by the one of the other store"
        if self._is_other_line(digest_key, theirs):
            raise _NotRepairable("the other store holds another backup of this name")
        self._copy(found)
        if not self._holds(self._target, digest_key) or whole(self._target, self._target.stat(digest_key)) != theirs:
            self._copy(their_line)
        return "by the one of the other store"

    def _is_other_line(self, digest_key: str, theirs: bytes) -> bool:
        try:
            info = self._target.stat(digest_key)
        except KeyNotFound:
            return False
        return examined(self._target, info, self._advance) is None and whole(self._target, info) != theirs

    def _sound(self, *candidates: str) -> ObjectInfo:
        """Return the first candidate that is sound in the other store, every byte of it read."""
        why = "the other store does not have it"
        for key in candidates:
            try:
                info = self._source.stat(key)
            except KeyNotFound:
                continue
            finding = examined(self._source, info, self._advance)
            if finding is None:
                return info
            why = f"{_ELSEWHERE} {finding.kind}: {finding.detail}"
        raise _NotRepairable(why)

    def _copy(self, info: ObjectInfo) -> None:
        body = CheckedObject(partial(checked, self._source, info), info.size_bytes)
        stored = self._target.put(info.key, body)
        finding = examined(self._target, stored, self._advance)
        if finding is not None and finding.kind != "unsealed":
            raise _NotRepairable(f"what was written in its place is {finding.kind}: {finding.detail}")

    def _holds(self, store: Store, key: str) -> bool:
        try:
            store.stat(key)
        except KeyNotFound:
            return False
        return True


def _digest(store: Store, key: str) -> str | None:
    """Return what identifies the content of a checkpoint, None where its index does not say."""
    try:
        return read_index(store, key).digest
    except (CorruptCheckpoint, KeyNotFound):
        return None


def _sha256(store: Store, key: str, advance: Callable[[int], None]) -> str | None:
    try:
        info = store.stat(key)
    except KeyNotFound:
        return None
    digest = hashlib.sha256()
    for data in streamed(store, info):
        digest.update(data)
        advance(len(data))
    return digest.hexdigest()
