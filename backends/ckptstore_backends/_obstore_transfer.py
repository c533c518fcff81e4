"""Transfer through obstore: Rust, which signs, sends and receives while Python does something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Self, TypeVar

from ckptstore.errors import ObjectChanged
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore_backends._extent import Extent
from ckptstore_backends._memory import DEFAULT_BYTES, at_once
from ckptstore_backends._obstore_client import ObstoreClient, ObstoreClients
from ckptstore_backends._obstore_parts import PartsUpload
from ckptstore_backends._orphans import Beginning, unwatched
from ckptstore_backends._parts import MIB, part_sizes
from ckptstore_backends._replay import Replay
from ckptstore_backends._retries import Patience, RetryPolicy
from ckptstore_backends._transfer import Chunk, Head, Unavailable

_T = TypeVar("_T")

_KEPT_PARTS = 3  # what is pulled before an upload has begun: a part, and two that wait
_COPIED_BYTES = MIB
_POLICY = RetryPolicy(deadline_s=180.0, attempts=8)


@dataclass(frozen=True, slots=True)
class ObstoreLimits:
    """How an object goes up.

    Attributes:
        part_bytes: up to here it is one PUT; beyond, the least size of a part. Parts of an object are alike, and
            10,000 of them must hold it, so those of a large one are larger.
        stream_part_bytes: the size of a part when the length is unknown: 10,000 of them hold 293 GiB. From 32 MiB
            on, glibc would ask the kernel for new pages for every part, which doubled the time of a put.
        in_flight: how many parts may be under way.
        memory_bytes: fewer are where they would take more: of small buffers, which are gathered, not of large ones.
    """

    part_bytes: int = 16 * MIB
    stream_part_bytes: int = 30 * MIB
    in_flight: int = 4
    memory_bytes: int = DEFAULT_BYTES


class ObstoreTransfer:
    """Moves bytes, and answers what is asked often, through obstore.

    What is put is sent from the caller's memory. A multipart upload that fails for whatever reason is aborted.

    Args:
        client: the bucket.
        limits: how objects go up.
        policy: how long something is tried again.
        watched: given a key, a context around its upload that removes what a lost beginning has left.
    """

    name = "obstore"

    def __init__(
        self,
        client: ObstoreClient,
        limits: ObstoreLimits,
        policy: RetryPolicy = _POLICY,
        watched: Callable[[str], AbstractContextManager[Beginning]] = unwatched,
    ) -> None:
        self._client = client
        self._policy = policy
        self._watched = watched
        self.limits = limits

    def source(self, key: str, version: str | None) -> ObstoreSource:
        """Return an object to be read."""
        return ObstoreSource(self._client, key, version, self._policy)

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
        import obstore

        def ask() -> Any:
            return self._client.request(
                "head", key, lambda clients, path: obstore.get(clients.reading, path, options={"head": True})
            )

        found = _patiently(ask, self._policy)
        meta = found.meta
        info = ObjectInfo(key, meta["size"], meta["last_modified"], self._client.service.version_of(meta))
        return Head(info, {name.lower(): value for name, value in found.attributes.items()})

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object: one PUT, or parallel parts when it is larger than one."""
        views = iter([body] if isinstance(body, memoryview) else body)
        first, more = _pulled(views, self.limits.part_bytes)
        if not more:
            return _patiently(lambda: self._put_once(key, first), self._policy)
        known = body.nbytes if isinstance(body, memoryview) else getattr(body, "size_bytes", None)
        least_bytes = self.limits.part_bytes if known is not None else self.limits.stream_part_bytes
        part_bytes = next(part_sizes(least_bytes, known))
        replay = Replay(chain(first, views), _KEPT_PARTS * part_bytes, known)
        in_flight = at_once(self.limits.in_flight, part_bytes, self.limits.memory_bytes)
        upload = PartsUpload(self._client, key, part_bytes, in_flight)
        with self._watched(key) as beginning:
            size_bytes, answer = upload.send(replay, self, self._policy, beginning)
        return answer if isinstance(answer, ObjectInfo) else self._written(key, size_bytes, answer)

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist, in one request."""
        return self._put_once(key, [body], mode="create", attributes=dict(metadata))

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def _put_once(self, key: str, views: list[memoryview], **how: Any) -> ObjectInfo:
        import obstore

        size_bytes = sum(view.nbytes for view in views)
        if size_bytes <= _COPIED_BYTES:
            data = b"".join(views)  # which cannot change when an interrupted request goes on
            answer = self._client.request(
                "put", key, lambda clients, path: obstore.put(clients.writing, path, data, use_multipart=False, **how)
            )
            return self._written(key, size_bytes, answer)

        def send(clients: ObstoreClients, path: str) -> Any:
            return obstore.put_async(clients.writing, path, iter(views), use_multipart=False, **how)

        return self._written(key, size_bytes, self._client.run("put", key, send))

    def _written(self, key: str, size_bytes: int, answer: Any) -> ObjectInfo:
        # obstore passes on neither Date nor Last-Modified of the answer to a write
        return ObjectInfo(key, size_bytes, datetime.now(UTC), self._client.service.version_of(answer))


@dataclass(frozen=True, slots=True)
class ObstoreSource:
    """One object to be read, of one version when that is given."""

    client: ObstoreClient
    key: str
    version: str | None
    policy: RetryPolicy

    def pinned(self, version: str) -> Self:
        """Return the same object, of that version only."""
        return replace(self, version=version)

    def head(self) -> Chunk:
        """Return size and version without bytes."""
        import obstore

        def send(clients: ObstoreClients, path: str) -> Any:
            options: Any = {"head": True, **self._condition()}
            return obstore.get_async(clients.reading, path, options=options)

        meta = _patiently(lambda: self.client.run("head", self.key, send), self.policy).meta
        return self._checked(
            Chunk(memoryview(b""), start=0, total_bytes=meta["size"], version=self.client.service.version_of(meta))
        )

    def fetch(self, wanted: ByteRange) -> Future[Chunk]:
        """Start to fetch one range."""
        return self.client.submit(self._fetch(wanted))

    async def _fetch(self, wanted: ByteRange) -> Chunk:
        import obstore

        async def send(clients: ObstoreClients, path: str) -> Chunk:
            options: Any = {"range": _range(wanted), **self._condition()}
            found = await obstore.get_async(clients.reading, path, options=options)
            data = memoryview(await found.bytes_async())
            meta = found.meta
            extent = Extent(found.range[0], data.nbytes, meta["size"])
            extent.check(wanted, f"get {self.key!r} in {self.client.url}")
            return Chunk(data, extent.start, extent.total_bytes, self.client.service.version_of(meta))

        patience = Patience(self.policy)
        while True:
            try:
                return self._checked(await self.client.ask("get", self.key, send))
            except Unavailable as error:
                await patience.wait(error)

    def _condition(self) -> dict[str, Any]:
        return {} if self.version is None else self.client.service.condition(self.version)

    def _checked(self, chunk: Chunk) -> Chunk:
        if self.version not in {None, chunk.version}:  # some servers ignore If-Match
            raise ObjectChanged(f"{self.key!r} in {self.client.url} is no longer of version {self.version}")
        return chunk


def _patiently(act: Callable[[], _T], policy: RetryPolicy) -> _T:
    patience = Patience(policy)
    while True:
        try:
            return act()
        except Unavailable as error:
            patience.sleep(error)


def _pulled(views: Iterator[memoryview], size_bytes: int) -> tuple[list[memoryview], bool]:
    """Pull until there is more than one part, or nothing more; return what was pulled, and whether it is more."""
    held: list[memoryview] = []
    room = size_bytes
    for view in views:
        held.append(view)
        room -= view.nbytes
        if room < 0:
            return held, True
    return held, False


def _range(wanted: ByteRange) -> Any:
    if wanted.start < 0:
        return {"suffix": -wanted.start}
    if wanted.length is None:
        return {"offset": wanted.start}
    return wanted.start, wanted.start + wanted.length
