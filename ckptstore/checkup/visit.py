"""One visit to a store: a scratch folder of its own, and a count of what was moved."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from threading import Event

from ckptstore.errors import CkptStoreError, StoreError
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore.store import Store

__all__ = ["LARGE_BYTES", "TooSlow", "Visit", "blocks"]

MIB = 1024 * 1024
LARGE_BYTES = 24 * MIB  # more than one part of every backend


class TooSlow(CkptStoreError, TimeoutError):
    """The time of the check-up is over."""


class Visit:
    """Uses a store below a scratch folder that no experiment has.

    Attributes:
        store: the store.
        folder: the scratch folder, a prefix.
        sent_bytes: how much was written.
        received_bytes: how much was read.
        doing: the check that is under way.
        answered: set when the first check has ended.
        clean: the folder was emptied.
        up_s: seconds that the last large put took.
        down_s: seconds that the last large get took.
        put_s: seconds that a small put takes.
        get_s: seconds that a small get takes.
    """

    def __init__(self, store: Store, limit_s: float) -> None:
        self.store = store
        self.folder = f"ckptstore-doctor-{secrets.token_hex(8)}/"
        self.began = time.monotonic()
        self.deadline = self.began + limit_s
        self.sent_bytes = 0
        self.received_bytes = 0
        self.doing = ""
        self.answered = Event()
        self.clean = False
        self.up_s: float | None = None
        self.down_s: float | None = None
        self.put_s: float | None = None
        self.get_s: float | None = None

    def key(self, name: str) -> str:
        """Return a key in the scratch folder."""
        return self.folder + name

    def put(self, name: str, data: bytes, *, overwrite: bool = True) -> ObjectInfo:
        """Store some bytes."""
        self.check_time()
        info = self.store.put(self.key(name), data, overwrite=overwrite)
        self.sent_bytes += len(data)
        return info

    def put_blocks(self, name: str, parts: Iterable[bytes]) -> ObjectInfo:
        """Store a large object, part by part, and take the time."""
        began = time.monotonic()
        info = self.store.put(self.key(name), self._sent(parts))
        self.up_s = time.monotonic() - began
        return info

    def get(self, name: str) -> bytes:
        """Return an object's bytes."""
        self.check_time()
        data = bytes(self.store.get(self.key(name)))
        self.received_bytes += len(data)
        return data

    def get_blocks(self, name: str, size_bytes: int) -> list[bytes]:
        """Read a large object in ranges of 1 MiB, and take the time."""
        ranges = [ByteRange(start, MIB) for start in range(0, size_bytes, MIB)]
        began = time.monotonic()
        found = [self._received(part) for part in self.store.get_ranges(self.key(name), ranges)]
        self.down_s = time.monotonic() - began
        return list(map(bytes, found))

    def check_time(self) -> None:
        """Raise TooSlow when no time is left."""
        if time.monotonic() > self.deadline:
            raise TooSlow("no time was left for it; the store is too slow, or raise limit_s")

    def clean_up(self) -> None:
        """Remove everything that this visit wrote.

        Raises:
            StoreError: something is left in the scratch folder.
        """
        with suppress(StoreError):
            for upload in list(self.store.list_uploads(self.folder)):
                self.store.abort_upload(upload)
        self.store.delete([info.key for info in self.store.list(self.folder)])
        self.clean = True

    def _sent(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in parts:
            self.check_time()
            self.sent_bytes += len(part)
            yield part

    def _received(self, part: memoryview) -> memoryview:
        self.check_time()
        self.received_bytes += part.nbytes
        return part


def blocks(size_bytes: int) -> list[bytes]:
    """Return bytes that neither compress nor repeat, the same every time, in pieces of 1 MiB."""
    return [hashlib.shake_128(number.to_bytes(8, "big")).digest(MIB) for number in range(size_bytes // MIB)]
