"""Transfer through obstore: Rust, which signs, sends and receives while Python does something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Self

from ckptstore.errors import KeyNotFound, ObjectChanged, StoreError
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore_backends._creating import WRITER, writer_mark
from ckptstore_backends._obstore_client import ObstoreClient, ObstoreClients
from ckptstore_backends._obstore_upload import Counted, pieces_of, uploaded
from ckptstore_backends._parts import MIB, part_sizes
from ckptstore_backends._transfer import Chunk, Head, UploadGone


@dataclass(frozen=True, slots=True)
class ObstoreLimits:
    """How an object goes up.

    Attributes:
        part_bytes: up to here it is one PUT; beyond, the least size of a part. Parts of an object are alike, and
            10,000 of them must hold it, so those of a large one are larger.
        stream_part_bytes: the size of a part when the length is unknown: 10,000 of them hold 312 GiB.
        in_flight: how many parts may be under way.
    """

    part_bytes: int = 16 * MIB
    stream_part_bytes: int = 32 * MIB
    in_flight: int = 4


class ObstoreTransfer:
    """Moves bytes, and answers what is asked often, through obstore.

    What is put is sent from the caller's memory. A multipart upload that fails for whatever reason is aborted.
    """

    name = "obstore"

    def __init__(self, client: ObstoreClient, limits: ObstoreLimits) -> None:
        self._client = client
        self.limits = limits

    def source(self, key: str, version: str | None) -> ObstoreSource:
        """Return an object to be read."""
        return ObstoreSource(self._client, key, version)

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
        import obstore

        def send(clients: ObstoreClients, path: str) -> Any:
            return obstore.get_async(clients.reading, path, options={"head": True})

        found = self._client.run("head", key, send)
        meta = found.meta
        info = ObjectInfo(key, meta["size"], meta["last_modified"], self._client.service.version_of(meta))
        return Head(info, {name.lower(): value for name, value in found.attributes.items()})

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object: one PUT, or parallel parts when it is larger than one."""
        views = iter([body] if isinstance(body, memoryview) else body)
        first, more = _pulled(views, self.limits.part_bytes)
        if not more:
            return self._put(key, first)
        known = body.nbytes if isinstance(body, memoryview) else getattr(body, "size_bytes", None)
        least_bytes = self.limits.part_bytes if known is not None else self.limits.stream_part_bytes
        part_bytes = next(part_sizes(least_bytes, known))
        return self._upload_parts(key, chain(first, views), part_bytes)

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist, in one request."""
        return self._put(key, [body], mode="create", attributes=dict(metadata))

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def _put(self, key: str, views: list[memoryview], **how: Any) -> ObjectInfo:
        import obstore

        def send(clients: ObstoreClients, path: str) -> Any:
            return obstore.put_async(clients.writing, path, iter(views), use_multipart=False, **how)

        answer = self._client.run("put", key, send)
        return self._written(key, sum(view.nbytes for view in views), answer)

    def _upload_parts(self, key: str, views: Iterable[memoryview], part_bytes: int) -> ObjectInfo:
        import obstore

        mark = writer_mark()
        sent = Counted(pieces_of(views, part_bytes))

        def upload(pieces: Iterator[memoryview]) -> Any:
            def send(clients: ObstoreClients, path: str) -> Any:
                return obstore.put(
                    clients.writing, path, pieces, use_multipart=True, chunk_size=part_bytes,
                    max_concurrency=self.limits.in_flight, attributes=mark,
                )  # fmt: skip

            return self._client.call("upload", key, send)

        try:
            answer = uploaded(sent, upload)
        except UploadGone:
            return self._published(key, mark)
        return self._written(key, sent.size_bytes, answer)

    def _written(self, key: str, size_bytes: int, answer: Any) -> ObjectInfo:
        # obstore passes on neither Date nor Last-Modified of the answer to a write
        return ObjectInfo(key, size_bytes, datetime.now(UTC), self._client.service.version_of(answer))

    def _published(self, key: str, mark: dict[str, str]) -> ObjectInfo:
        """Return the object of a completion whose first answer was lost, if that is what happened."""
        with suppress(KeyNotFound):
            head = self.head(key)
            if head.metadata.get(WRITER) == mark[WRITER]:
                return head.info
        raise StoreError(f"the upload of {key!r} to {self._client.url} was aborted by somebody else; put it again")


@dataclass(frozen=True, slots=True)
class ObstoreSource:
    """One object to be read, of one version when that is given."""

    client: ObstoreClient
    key: str
    version: str | None

    def pinned(self, version: str) -> Self:
        """Return the same object, of that version only."""
        return replace(self, version=version)

    def head(self) -> Chunk:
        """Return size and version without bytes."""
        import obstore

        def send(clients: ObstoreClients, path: str) -> Any:
            options: Any = {"head": True, **self._condition()}
            return obstore.get_async(clients.reading, path, options=options)

        meta = self.client.run("head", self.key, send).meta
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
            return Chunk(
                data, start=found.range[0], total_bytes=meta["size"], version=self.client.service.version_of(meta)
            )

        return self._checked(await self.client.ask("get", self.key, send))

    def _condition(self) -> dict[str, Any]:
        return {} if self.version is None else self.client.service.condition(self.version)

    def _checked(self, chunk: Chunk) -> Chunk:
        if self.version not in {None, chunk.version}:  # some servers ignore If-Match
            raise ObjectChanged(f"{self.key!r} in {self.client.url} is no longer of version {self.version}")
        return chunk


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
