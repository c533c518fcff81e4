"""Whether what arrived is what was sent: by a checksum that the target keeps, else by reading it back."""

from __future__ import annotations

from contextlib import suppress

from ckptstore.errors import KeyExists, StoreError
from ckptstore.mirroring.comparing import Comparison
from ckptstore.mirroring.content import Fingerprint, checksums_of, digest_of, is_near, same_bytes, told_equal
from ckptstore.mirroring.planning import Copy
from ckptstore.mirroring.report import Proof
from ckptstore.objects import ObjectInfo, redact
from ckptstore.store import Store

_ALL = frozenset({"md5", "crc32c"})


class Damaged(StoreError):
    """What arrived is not what was sent.

    Attributes:
        left: what it became, where it could not be deleted.
    """

    left: ObjectInfo | None = None


class Proving:
    """Proves arrivals, from many threads at once.

    Args:
        source: where objects came from.
        target: where they are now.
        comparison: of both.
    """

    def __init__(self, source: Store, target: Store, comparison: Comparison) -> None:
        self._source, self._target, self._comparison = source, target, comparison
        self._reads_back = is_near(target)
        self._kept_checksums = frozenset[str]() if self._reads_back else _ALL

    def wanted(self, copy: Copy) -> frozenset[str]:
        """Return the checksums that are to be computed of what is sent."""
        return self._kept_checksums | (frozenset({"crc32c"}) & set(copy.source.checksums))

    def of_stream(self, copy: Copy, info: ObjectInfo, sent: Fingerprint) -> Proof:
        """Return how the arrival was proven; what is not what was sent is deleted.

        Raises:
            Damaged: it is not.
        """
        proven = sent.proven_by(info)
        if proven is None and not self._reads_back:
            info = self._found_again(info)
            proven = sent.proven_by(info)
        if not self._reads_back:
            self._kept_checksums = checksums_of(info)  # no others need be computed
        proof: Proof = "checksum"
        if proven is None:
            proof, proven = "read back", digest_of(self._target, info) == sent.content
        if not proven:
            raise self.damaged(copy, self._target, info)
        return proof

    def of_copy(self, copy: Copy, info: ObjectInfo) -> Proof:
        """Do the same for an object that the server copied."""
        proof: Proof = "checksum"
        proven = told_equal(copy.source, info) if copy.source.size_bytes == info.size_bytes else False
        if proven is None and not self._reads_back:
            proof, proven = "ending", self._comparison.same_ending(copy.source, info)
        if proven is None:
            proof, proven = "read back", same_bytes(self._source, copy.source, self._target, info)
        if not proven:
            raise self.damaged(copy, self._target, info)
        return proof

    def damaged(self, copy: Copy, store: Store, arrived: ObjectInfo | None = None) -> Damaged:
        """Return the error, and delete what arrived unless somebody has replaced it since."""
        way, place = "out of" if store is self._source else "in", redact(store.url)
        damaged = Damaged(f"{copy.key!r} came {way} {place} other than it was; mirror again, or try another network")
        if arrived is not None:
            damaged.left = arrived
            with suppress(StoreError):
                if self._target.stat(copy.key).version == arrived.version:
                    self._target.delete([copy.key])
                damaged.left = None
        if damaged.left is not None:
            damaged.add_note(f"it is still there: {redact(self._target.url)} did not let it be deleted")
        return damaged

    def _found_again(self, info: ObjectInfo) -> ObjectInfo:
        """Return what the target says of an object when it is asked: some answers to a put say less."""
        found = self._target.stat(info.key)
        if found.version != info.version:
            raise KeyExists(f"{info.key!r} in {redact(self._target.url)} was replaced when it had just arrived")
        return found
