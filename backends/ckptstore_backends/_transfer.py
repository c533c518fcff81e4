"""The seam between a bucket's control requests and what moves its bytes.

A store lists, stats and deletes through one client. Bulk transfer, in and out, is another piece, so that a
faster engine can take its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, Self

from ckptstore.errors import StoreError
from ckptstore.objects import ByteRange, ObjectInfo


class RangePastEnd(StoreError):
    """A range begins past the end of the object."""


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
    """Moves the bytes of whole objects and ranges."""

    name: str
    """For `Capabilities.transfer`."""

    def source(self, key: str, version: str | None) -> Source:
        """Return an object to be read."""

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object as `Store.put` promises."""
