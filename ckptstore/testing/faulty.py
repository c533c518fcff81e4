"""The store that applies the faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Never

from ckptstore.errors import UnsupportedOperation
from ckptstore.objects import ByteRange, Capabilities, ObjectInfo, Upload
from ckptstore.store import Store, StorePath
from ckptstore.testing.faults import Call, Fault, Killed, Operation

__all__ = ["FaultyStore"]


class FaultyStore(Store):
    """Another store, with faults injected and every call recorded. Without faults it is that store.

    After `Killed` was raised, every further call raises it again and reaches nothing: a process that is gone
    cleans up nothing and retries nothing.

    Attributes:
        calls: every call so far, in order.
    """

    def __init__(self, store: Store, faults: Iterable[Fault] = ()) -> None:
        self._store = store
        self._faults = tuple(faults)
        self._matched: Counter[int] = Counter()
        self._recording = Lock()
        self._killed: Killed | None = None
        self.calls: list[Call] = []

    @classmethod
    def from_url(cls, url: str, **options: object) -> Never:  # noqa: ARG003  # the signature is Store's
        """Refuse: a FaultyStore wraps a store."""
        raise UnsupportedOperation("a FaultyStore has no URL of its own; wrap an open store")

    @property
    def url(self) -> str:
        """The address of the store inside."""
        return self._store.url

    @property
    def place(self) -> str:
        """The place of the store inside."""
        return self._store.place

    @property
    def capabilities(self) -> Capabilities:
        """Those of the store inside."""
        return self._store.capabilities

    def count(self, operation: Operation, key: str | None = None) -> int:
        """Return how often an operation was called, on one key or on any."""
        return sum(call.operation == operation and key in {None, call.key} for call in self.calls)

    def close(self) -> None:
        """Close the store inside."""
        self._store.close()

    def _path(self, key: str) -> StorePath:
        return self._store.path(key)

    def _get(self, key: str) -> memoryview:
        with self._call("get", key) as faults:
            return _received(faults, 0, self._store.get(key))

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]:
        if not ranges:
            return
        with self._call("get_ranges", key) as faults:
            parts = self._store.get_ranges(key, ranges, version=version)
            starts = self._starts(key, ranges) if faults else [0] * len(ranges)
            for start, part in zip(starts, parts, strict=True):
                yield _received(faults, start, part)

    def _mapped(self, key: str, version: str | None) -> memoryview:
        with self._call("get", key) as faults:
            return _received(faults, 0, self._store.mapped(key, version=version))

    def _starts(self, key: str, ranges: Sequence[ByteRange]) -> list[int]:
        size_bytes = self._store.stat(key).size_bytes
        return [wanted.within(size_bytes)[0] for wanted in ranges]

    def _stat(self, key: str) -> ObjectInfo:
        with self._call("stat", key):
            return self._store.stat(key)

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._call("list", prefix):
            yield from self._store.list(prefix)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        with self._call("list_prefixes", prefix):
            yield from self._store.list_prefixes(prefix)

    def _put(self, key: str, body: memoryview | Iterator[memoryview]) -> ObjectInfo:
        with self._call("put", key) as faults:
            return self._store.put(key, self._sent(faults, body))

    def _create(self, key: str, body: memoryview) -> ObjectInfo:
        with self._call("create", key) as faults:
            return self._store.put(key, self._sent(faults, body), overwrite=False)

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with self._call("delete", key):
                self._store.delete([key])

    def _copy(self, key: str, target_key: str, target: Store) -> ObjectInfo:
        with self._call("copy", key):
            return self._store.copy(key, target_key, target=None if target is self else target)

    def _list_uploads(self, prefix: str) -> Iterator[Upload]:
        with self._call("list_uploads", prefix):
            yield from self._store.list_uploads(prefix)

    def _abort_upload(self, upload: Upload) -> None:
        with self._call("abort_upload", upload.key):
            self._store.abort_upload(upload)

    @contextmanager
    def _call(self, operation: Operation, key: str) -> Iterator[list[Fault]]:
        if self._killed is not None:
            raise self._killed
        try:
            faults = self._record(Call(operation, key))
            for fault in faults:
                fault.before()
            yield faults
            for fault in faults:
                fault.after()
        except Killed as killed:
            self._killed = killed
            raise

    def _record(self, call: Call) -> list[Fault]:
        with self._recording:
            self.calls.append(call)
            return [fault for number, fault in enumerate(self._faults) if self._strikes(number, fault, call)]

    def _strikes(self, number: int, fault: Fault, call: Call) -> bool:
        if not fault.matches(call):
            return False
        self._matched[number] += 1
        return fault.nth in {None, self._matched[number]}

    def _sent(
        self, faults: Sequence[Fault], body: memoryview | Iterator[memoryview]
    ) -> memoryview | Iterator[memoryview]:
        if not faults:
            return body
        parts = iter([body]) if isinstance(body, memoryview) else body
        for fault in faults:
            parts = fault.sent(parts)
        return parts


def _received(faults: Sequence[Fault], start: int, data: memoryview) -> memoryview:
    for fault in faults:
        data = fault.received(start, data)
    return data
