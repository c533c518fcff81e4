"""Whether two objects under one key have the same content, found out as cheaply as is sound."""

from __future__ import annotations

import re
from enum import Enum

from ckptstore import keys
from ckptstore.errors import KeyNotFound
from ckptstore.keys import Kind
from ckptstore.mirroring.content import same_bytes, told_equal
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore.store import Store

_ENDING_BYTES = 97
# How a checkpoint ends. A `.pt`: in a zip's end record, whose comment is the digest of the directory, which in turn
# holds the CRC32 of all content. A `.pt.zst`: in a digest of its index, which holds those of all blocks.
_ENDING = re.compile(rb"PK\x05\x06.{18}ckptstore1 [0-9a-f]{64}|.{81}ckptstore-zst 1\n", re.DOTALL)


class Verdict(Enum):
    """What comparing two objects found."""

    SAME = "same"
    OTHER = "other"
    GROWN = "grown"


class Comparison:
    """Compares objects of two stores.

    Args:
        source: one store.
        target: the other.
        thorough: read every byte of both.
    """

    def __init__(self, source: Store, target: Store, *, thorough: bool) -> None:
        self._source, self._target = source, target
        self._thorough = thorough

    def of(self, ours: ObjectInfo, theirs: ObjectInfo) -> Verdict:
        """Compare an object of the source with the target's under the same key.

        Raises:
            StoreError: one of them could not be read, or was replaced meanwhile.
        """
        if ours.size_bytes != theirs.size_bytes:
            return Verdict.GROWN if self._has_grown(ours, theirs) else Verdict.OTHER
        return Verdict.SAME if self._are_same(ours, theirs) else Verdict.OTHER

    def same_ending(self, ours: ObjectInfo, theirs: ObjectInfo) -> bool | None:
        """Tell whether two checkpoints end in the same digest of their content; None where they end in none."""
        wanted = [ByteRange(-_ENDING_BYTES)]
        [one] = self._source.get_ranges(ours.key, wanted, version=ours.version)
        [other] = self._target.get_ranges(theirs.key, wanted, version=theirs.version)
        if one != other:
            return False
        return True if _ENDING.fullmatch(one) else None

    def _are_same(self, ours: ObjectInfo, theirs: ObjectInfo) -> bool:
        if not self._thorough:
            known = self._known_equal(ours, theirs)
            if known is not None:
                return known
        return same_bytes(self._source, ours, self._target, theirs)

    def _known_equal(self, ours: ObjectInfo, theirs: ObjectInfo) -> bool | None:
        told = told_equal(ours, theirs)
        parsed = keys.parse_key(ours.key)
        if told is not None or parsed is None:
            return told
        if parsed.kind in {Kind.CHECKPOINT, Kind.COMPRESSED_CHECKPOINT}:
            return self.same_ending(ours, theirs)
        return True if parsed.kind is Kind.BACKUP and self._same_digest_beside(ours.key) else None

    def _same_digest_beside(self, key: str) -> bool:
        """Tell whether both stores keep the same checksum beside a data backup."""
        try:
            beside = keys.backup_digest_key(key)
            return bytes(self._source.get(beside)) == bytes(self._target.get(beside))
        except KeyNotFound:
            return False

    def _has_grown(self, ours: ObjectInfo, theirs: ObjectInfo) -> bool:
        """Tell whether the target holds the beginning of a log: nothing is lost by what was appended to it."""
        if not ours.key.startswith(keys.LOGS) or ours.size_bytes < theirs.size_bytes:
            return False
        return same_bytes(self._target, theirs, self._source, ours)
