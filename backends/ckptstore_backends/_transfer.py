"""The seam between a bucket's control requests and what moves its bytes.

A store lists, stats and deletes through one client. Bulk transfer, in and out, is another piece, so that a
faster engine can take its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, Self

from ckptstore.errors import StoreError, StoreUnavailable
from ckptstore.objects import ByteRange, ObjectInfo


class RangePastEnd(StoreError):
    """A range begins past the end of the object."""


class UploadGone(StoreError):
    """A multipart upload is not there: aborted, completed, or never begun."""


class Unavailable(StoreUnavailable):
    """What was asked failed for now, and the client does not try again: worth another attempt."""


class WriteConflict(Unavailable):
    """Another conditional write to the same key is under way; this one was not obeyed."""


class Damaged(Unavailable):
    """What arrived is not what was sent, and was refused."""


class OtherRange(Unavailable):
    """The answer to a ranged read does not hold the bytes that were asked for."""


class Unanswered(StoreUnavailable):
    """No whole answer came: what was asked may have been done, and who asks for all of it anew does no harm."""


NOT_OBEYED = (WriteConflict, Damaged)
"""After these it is certain that nothing was done."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes of one version of an object.

    Attributes:
        data: the bytes; empty when only size and version were asked for.
        start: offset of the first of them.
        total_bytes: the length of the whole object.
        version: what they are a version of.
    """

    data: memoryview
    start: int
    total_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Head:
    """What a store says of an object, and what its writer said of it.

    Attributes:
        info: size, time and version.
        metadata: the writer's own, by lower-case name.
    """

    info: ObjectInfo
    metadata: Mapping[str, str]


class Source(Protocol):
    """One object to be read by ranges, perhaps pinned to a version."""

    def fetch(self, wanted: ByteRange) -> Future[Chunk]:
        """Start to fetch one range; it is complete, and of the pinned version.

        The future raises:
            RangePastEnd: the range begins past the end.
            ObjectChanged: the object is not of the pinned version.
            StoreError: anything else, translated.
        """

    def head(self) -> Chunk:
        """Return size and version without bytes; raises as `fetch`."""

    def pinned(self, version: str) -> Self:
        """Return the same object, of that version only."""


class Transfer(Protocol):
    """Moves the bytes of whole objects and ranges; every method raises StoreError, translated."""

    name: str
    """For `Capabilities.transfer`."""

    def source(self, key: str, version: str | None) -> Source:
        """Return an object to be read."""

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object as `Store.put` promises."""

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist, in one request that is not repeated once it may have been obeyed.

        Raises:
            ObjectChanged: it exists, perhaps by this very request.
            WriteConflict: another conditional write was under way.
        """

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
