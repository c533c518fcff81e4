"""Bulk transfer on GCS through the JSON interface, over the same session as every other request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Self

from ckptstore.errors import KeyNotFound, ObjectChanged, StoreUnavailable
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore_backends._creating import writer_mark
from ckptstore_backends._extent import told_extent
from ckptstore_backends._gcs_again import begun_again
from ckptstore_backends._gcs_answers import Answer
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_crc32c import crc32c_of, told_crc32c
from ckptstore_backends._gcs_errors import Asked
from ckptstore_backends._gcs_http import Request
from ckptstore_backends._gcs_objects import check_bucket, head, insert, stat
from ckptstore_backends._gcs_upload import ResumableUpload
from ckptstore_backends._parts import MIB, Part, part_sizes, regroup
from ckptstore_backends._replay import Replay
from ckptstore_backends._transfer import Chunk, Head

_SINGLE_BYTES = 64 * MIB
_PART_BYTES = 16 * MIB  # Google wants a multiple of 256 KiB
_KEPT_BYTES = 64 * MIB


class GcsfsTransfer:
    """One request for what is small or in one piece, else a resumable upload, one chunk after the other."""

    name = "gcsfs"

    def __init__(self, client: GCSClient) -> None:
        self._client = client
        self.part_bytes = _PART_BYTES
        self.single_bytes = _SINGLE_BYTES
        self.kept_bytes = _KEPT_BYTES

    def source(self, key: str, version: str | None) -> GCSSource:
        """Return an object to be read."""
        return GCSSource(self._client, key, version)

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object; of a stream so much is kept that a short one can be begun again."""
        if isinstance(body, memoryview):
            whole = body.nbytes <= self.single_bytes
            return self._upload(
                key, Replay([body], body.nbytes, body.nbytes), self.single_bytes if whole else self.part_bytes
            )
        return self._upload(key, Replay(body, self.kept_bytes, None), self.part_bytes)

    def _upload(self, key: str, views: Replay, part_bytes: int) -> ObjectInfo:
        def once(views: Replay) -> ObjectInfo:
            return self._upload_once(key, regroup(views, part_sizes(part_bytes, grow=False)))

        return begun_again(views, once, self._client.retries)

    def _upload_once(self, key: str, parts: Iterator[Part]) -> ObjectInfo:
        first = next(parts)
        if first.last:
            return insert(self._client, key, first.views, writer_mark())
        with ResumableUpload(self._client, key) as upload:
            upload.send(first)
            for part in parts:
                upload.send(part)
            return upload.finish()

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist."""
        return insert(self._client, key, (body,), metadata, ifGenerationMatch="0")

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
        return head(self._client, key)


@dataclass(frozen=True, slots=True)
class GCSSource:
    """One object to be read, of one version when that is given."""

    client: GCSClient
    key: str
    version: str | None

    def pinned(self, version: str) -> Self:
        """Return the same object, of that version only."""
        return replace(self, version=version)

    def head(self) -> Chunk:
        """Return size and version without bytes."""
        found = stat(self.client, self.key)
        self._check(found.version)
        return Chunk(memoryview(b""), start=0, total_bytes=found.size_bytes, version=found.version)

    def fetch(self, wanted: ByteRange) -> Future[Chunk]:
        """Start to fetch one range."""
        return self.client.submit(self._fetch(wanted))

    async def _fetch(self, wanted: ByteRange) -> Chunk:
        asked = self.client.asked("get", self.key)
        patience = self.client.patience()
        while True:
            try:
                return await self._fetch_once(wanted, asked)
            except StoreUnavailable as error:
                await patience.wait(error)
            except KeyNotFound:
                await check_bucket(self.client, asked)
                raise

    async def _fetch_once(self, wanted: ByteRange, asked: Asked) -> Chunk:
        pin = {} if self.version is None else {"ifGenerationMatch": self.version}
        path = self.client.object_path(self.key)
        headers = {"Range": _range_header(wanted)}
        answer = await self.client.once(Request("GET", path, {"alt": "media", **pin}, headers), asked)
        extent = told_extent(answer.headers.get("content-range"), answer.body.nbytes, str(asked))
        extent.check(wanted, str(asked))
        version = answer.headers.get("x-goog-generation", "")
        self._check(version)  # some servers ignore the condition
        if extent.size_bytes == extent.total_bytes:
            _check_content(answer, asked)
        return Chunk(answer.body, extent.start, extent.total_bytes, version)

    def _check(self, version: str) -> None:
        if self.version not in {None, version}:
            raise ObjectChanged(f"{self.key!r} in {self.client.url} is no longer of version {self.version}")


def _check_content(answer: Answer, asked: Asked) -> None:
    told = told_crc32c(answer.headers.get("x-goog-hash", ""))
    if told and told != crc32c_of([answer.body]):
        raise StoreUnavailable(f"cannot {asked}: the bytes were damaged on the way; try again")


def _range_header(wanted: ByteRange) -> str:
    if wanted.start < 0:
        return f"bytes={wanted.start}"
    last = "" if wanted.length is None else wanted.start + wanted.length - 1
    return f"bytes={wanted.start}-{last}"
