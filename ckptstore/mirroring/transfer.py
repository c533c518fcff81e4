"""Bring one object from a store to another: streamed, verified on arrival, never over something unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ckptstore.errors import KeyExists, KeyNotFound, ObjectChanged
from ckptstore.mirroring.buffers import Buffers
from ckptstore.mirroring.comparing import Comparison, Verdict
from ckptstore.mirroring.content import PART_BYTES, Fingerprint, Stream, is_near, whole
from ckptstore.mirroring.planning import Copy
from ckptstore.mirroring.proving import Damaged, Proving
from ckptstore.mirroring.report import Proof
from ckptstore.mirroring.room import Room
from ckptstore.mirroring.soundness import check_replacement
from ckptstore.objects import ObjectInfo, redact
from ckptstore.store import Store

_SERVER_COPY_BYTES = 1024 * 1024  # below, a copy on the server saves nothing
# Eight objects of 16 MiB at a time go to a bucket; up to four come from one, while others are written. Fewer were
# slower, more take over 300 MiB in all.
_ROOM_BYTES = 160 * 1024 * 1024
_NEAR_STREAM_BYTES = 64 * 1024 * 1024
_BUFFERED_BYTES = 1024 * 1024  # less than this the heap keeps anyway


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object that is in the target now.

    Attributes:
        source: what was copied.
        target: what it became.
        proof: how that was verified; None where the target had it already.
    """

    source: ObjectInfo
    target: ObjectInfo
    proof: Proof | None


class Gone(Exception):
    """The object was deleted from the source meanwhile."""


class Carrier:
    """Copies objects, from many threads at once.

    Args:
        source: where they are.
        target: where they go.
        watch: called with the bytes of every piece that passes; what it raises ends the transfer, and nothing is
            published.
    """

    def __init__(self, source: Store, target: Store, watch: Callable[[int], None]) -> None:
        self._source, self._target, self._watch = source, target, watch
        self._comparison = Comparison(source, target, thorough=False)
        self._proving = Proving(source, target, self._comparison)
        self._room = Room(_ROOM_BYTES)
        self._buffers = Buffers(PART_BYTES)
        self._on_server = source.can_copy_to(target)

    def carry(self, copy: Copy) -> Arrival:
        """Copy one object. One that was replaced in the source meanwhile, or arrived damaged, is tried once more.

        Raises:
            Gone: it was deleted from the source meanwhile.
            KeyExists: the target got other content under its key meanwhile.
            StoreError: it could not be copied; the target holds what it held, or nothing.
        """
        try:
            return self._carried(copy)
        except (ObjectChanged, KeyNotFound):
            return self._carried(self._renewed(copy))
        except Damaged as damaged:
            again = self._renewed(copy)
            return self._carried(replace(again, replaced=damaged.left) if damaged.left else again)

    def _renewed(self, copy: Copy) -> Copy:
        try:
            found = self._source.stat(copy.key)
        except KeyNotFound:
            raise Gone(copy.key) from None
        return replace(copy, source=found, replaced=self._current(copy) if copy.replaced else None)

    def _carried(self, copy: Copy) -> Arrival:
        if self._on_server and copy.source.size_bytes >= _SERVER_COPY_BYTES:
            return self._copied_there(copy)
        if copy.source.size_bytes <= PART_BYTES:
            return self._carried_whole(copy)
        return self._streamed(copy)

    # -- three ways -----------------------------------------------------------------------------------

    def _carried_whole(self, copy: Copy) -> Arrival:
        with self._room.taken(self._held_bytes(copy)) as keep, self._whole(copy.source) as data:
            if is_near(self._target):
                keep(data.nbytes * 3 // 2)  # the next one arrives meanwhile; the heap keeps some of what is free
            self._watch(data.nbytes)
            sent = Fingerprint(data.nbytes, self._proving.wanted(copy))
            sent.update(data)
            if sent.proven_by(copy.source) is False:
                raise self._proving.damaged(copy, self._source)
            if copy.replaced is None and self._target.capabilities.atomic_create:
                try:
                    info = self._target.put(copy.key, data, overwrite=False)
                except KeyExists:
                    return self._found_there(copy)
            else:
                if there := self._prepared(copy):
                    return there
                info = self._target.put(copy.key, data)
            return Arrival(copy.source, info, self._proving.of_stream(copy, info, sent))

    @contextmanager
    def _whole(self, info: ObjectInfo) -> Iterator[memoryview]:
        if not is_near(self._source) or info.size_bytes < _BUFFERED_BYTES:
            yield whole(self._source, info)
            return
        with self._buffers.lent() as buffer:
            yield whole(self._source, info, buffer)

    def _streamed(self, copy: Copy) -> Arrival:
        with self._room.taken(self._held_bytes(copy)):
            self._buffers.clear()
            if there := self._prepared(copy):
                return there
            sent = Fingerprint(copy.source.size_bytes, self._proving.wanted(copy))

            def check() -> None:
                if sent.proven_by(copy.source) is False:
                    raise self._proving.damaged(copy, self._source)
                self._check_unchanged(copy)

            info = self._target.put(copy.key, Stream(self._source, copy.source, sent, self._watch, check))
            return Arrival(copy.source, info, self._proving.of_stream(copy, info, sent))

    def _copied_there(self, copy: Copy) -> Arrival:
        if there := self._prepared(copy):
            return there
        self._watch(0)
        info = self._source.copy(copy.key, copy.key, target=self._target)
        self._watch(copy.source.size_bytes)
        copied = replace(copy, source=self._source.stat(copy.key))  # a copy takes what is there when it is made
        return Arrival(copied.source, info, self._proving.of_copy(copied, info))

    def _held_bytes(self, copy: Copy) -> int:
        """Return what an object on its way takes; measured, where a bucket is among the two."""
        far = [not is_near(store) for store in (self._source, self._target)]
        if copy.source.size_bytes > PART_BYTES:
            return _ROOM_BYTES if any(far) else _NEAR_STREAM_BYTES
        if not far[0]:
            return copy.source.size_bytes  # sent from where it was read to
        return copy.source.size_bytes * (2 + 3 * sum(far)) // 2

    # -- before ---------------------------------------------------------------------------------------

    def _prepared(self, copy: Copy) -> Arrival | None:
        """Make sure that the target holds what it held when it was listed; return what it holds if that is equal."""
        if copy.replaced is None and self._current(copy) is not None:
            return self._found_there(copy)
        self._check_unchanged(copy)
        if copy.replaced is not None:
            check_replacement(self._source, copy.source, self._target, copy.replaced)
        self._target.delete(copy.first_remove)
        return None

    def _check_unchanged(self, copy: Copy) -> None:
        there = self._current(copy)
        if there is not None and (copy.replaced is None or there.version != copy.replaced.version):
            raise KeyExists(
                f"{copy.key!r} in {redact(self._target.url)} was written by somebody else meanwhile; mirror again"
            )

    def _current(self, copy: Copy) -> ObjectInfo | None:
        try:
            return self._target.stat(copy.key)
        except KeyNotFound:
            return None

    def _found_there(self, copy: Copy) -> Arrival:
        there = self._target.stat(copy.key)
        if self._comparison.of(copy.source, there) is Verdict.SAME:
            return Arrival(copy.source, there, None)
        raise KeyExists(
            f"{copy.key!r} appeared in {redact(self._target.url)} meanwhile, with other content; mirror again"
        )
