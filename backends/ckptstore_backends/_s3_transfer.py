"""Bulk transfer on S3 through s3fs: ranged reads that are complete, uploads in parallel parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

from ckptstore.errors import ObjectChanged, StoreError, StoreUnavailable
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore_backends._extent import Extent, told_extent
from ckptstore_backends._memory import DEFAULT_BYTES, at_once
from ckptstore_backends._parts import MIB, Part, part_sizes, regroup
from ckptstore_backends._retries import Patience
from ckptstore_backends._s3_answers import info_of_found, info_of_written, quoted, version_of
from ckptstore_backends._s3_client import S3Client
from ckptstore_backends._s3_errors import expected_errors
from ckptstore_backends._s3_upload import MultipartUpload, with_metadata
from ckptstore_backends._transfer import Chunk, Head, OtherRange

_READ_BYTES = MIB
_PARTS_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How an object goes up.

    Attributes:
        part_bytes: up to here it is one PUT; beyond, the least size of a part. Where the length is known, parts are
            alike, and so large that 10,000 hold it.
        in_flight: how many parts may be under way.
        memory_bytes: fewer are where they would take more, though always one; each is a copy.
        grow: whether parts of a stream of unknown length grow, so that 10,000 of them hold any object. Some servers
            want all alike.
    """

    part_bytes: int = 16 * MIB
    in_flight: int = _PARTS_IN_FLIGHT
    memory_bytes: int = DEFAULT_BYTES
    grow: bool = True


class S3fsTransfer:
    """Moves bytes through the same s3fs session as every other request."""

    name = "s3fs"

    def __init__(self, client: S3Client) -> None:
        self._client = client
        options = client.options
        self.limits = UploadLimits(
            in_flight=int(options.get("max_concurrency", _PARTS_IN_FLIGHT)),
            memory_bytes=client.memory_bytes,
            grow=not options.get("fixed_upload_size", False),
        )

    def source(self, key: str, version: str | None) -> S3Source:
        """Return an object to be read."""
        return S3Source(self._client, key, version)

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object: one PUT, or parallel parts when it is larger than one."""
        known = body.nbytes if isinstance(body, memoryview) else getattr(body, "size_bytes", None)
        sizes = part_sizes(self.limits.part_bytes, known, grow=self.limits.grow)
        parts = regroup([body] if isinstance(body, memoryview) else body, sizes)
        first = next(parts)
        if first.last:
            answer = self._client.call("put_object", key=key, Body=first.joined())
            return info_of_written(key, first.size_bytes, answer)
        return self._upload_parts(key, chain([first], parts))

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist, in one request."""
        given = with_metadata(self._client.options, metadata)
        answer = self._client.call("put_object", key=key, Body=bytes(body), IfNoneMatch="*", **given)
        return info_of_written(key, body.nbytes, answer)

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
        answer = self._client.head(key)
        return Head(info_of_found(key, answer), answer.get("Metadata", {}))

    def _upload_parts(self, key: str, parts: Iterable[Part]) -> ObjectInfo:
        limits = self.limits
        size_bytes = 0
        with MultipartUpload(self._client, key) as upload:
            for part in parts:
                upload.make_room(at_once(limits.in_flight, part.size_bytes, limits.memory_bytes))
                upload.add("upload_part", Body=part.joined())
                size_bytes += part.size_bytes
            return info_of_written(key, size_bytes, upload.finish())


@dataclass(frozen=True, slots=True)
class S3Source:
    """One object to be read, of one version when that is given."""

    client: S3Client
    key: str
    version: str | None

    def pinned(self, version: str) -> Self:
        """Return the same object, of that version only."""
        return replace(self, version=version)

    def head(self) -> Chunk:
        """Return size and version without bytes."""
        params = {} if self.version is None else {"IfMatch": quoted(self.version)}
        found = self.client.head(self.key, **params)
        return Chunk(memoryview(b""), start=0, total_bytes=found["ContentLength"], version=version_of(found))

    def fetch(self, wanted: ByteRange) -> Future[Chunk]:
        """Start to fetch one range."""
        return self.client.submit(self._fetch(wanted))

    async def _fetch(self, wanted: ByteRange) -> Chunk:
        patience = Patience(self.client.policy)
        while True:
            try:
                return await self._fetch_once(wanted, patience)
            except OtherRange as error:
                await patience.wait(error)

    async def _fetch_once(self, wanted: ByteRange, patience: Patience) -> Chunk:
        answer, extent = await self._ask(wanted)
        data = memoryview(bytearray(extent.size_bytes))
        version = version_of(answer)
        filled, failure = await self._fill(data, answer["Body"])
        while filled < data.nbytes:
            short = self._cut_short(filled, data.nbytes)
            short.__cause__ = failure
            await patience.wait(short)
            rest = ByteRange(extent.start + filled, data.nbytes - filled)
            answer, found = await self.pinned(version)._ask(rest)  # noqa: SLF001  # itself
            if found.start != rest.start:  # the whole object once more, which was cut short just now
                answer["Body"].close()
                raise OtherRange(*short.args)
            more, failure = await self._fill(data[filled:], answer["Body"])
            filled += more
            if more * 2 > data.nbytes:
                patience.renew()
        return Chunk(data, extent.start, extent.total_bytes, version)

    async def _ask(self, wanted: ByteRange) -> tuple[Mapping[str, Any], Extent]:
        params = {} if self.version is None else {"IfMatch": quoted(self.version)}
        answer = await self.client.request("get_object", key=self.key, Range=_range_header(wanted), **params)
        try:
            return answer, self._checked(answer, wanted)
        except StoreError:
            answer["Body"].close()
            raise

    def _checked(self, answer: Mapping[str, Any], wanted: ByteRange) -> Extent:
        if self.version not in {None, version_of(answer)}:  # some servers ignore If-Match
            raise ObjectChanged(f"{self.key!r} in {self.client.url} is no longer of version {self.version}")
        asked = f"get {self.key!r} in {self.client.url}"
        extent = told_extent(answer.get("ContentRange"), answer["ContentLength"], asked)
        extent.check(wanted, asked)
        return extent

    def _cut_short(self, got: int, wanted: int) -> StoreError:
        return StoreUnavailable(
            f"cannot get {self.key!r} in {self.client.url}: {got} of {wanted} bytes came, and no more in "
            f"{self.client.policy.deadline_s:g} s; try again later"
        )

    async def _fill(self, data: memoryview, body: Any) -> tuple[int, BaseException | None]:
        """Read a body into memory; return how much came, and what cut it short."""
        filled = 0
        try:
            while filled < data.nbytes and (chunk := await body.read(min(_READ_BYTES, data.nbytes - filled))):
                data[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
        except expected_errors() as error:
            return filled, error
        finally:
            body.close()
        return filled, None


def _range_header(wanted: ByteRange) -> str:
    if wanted.start < 0:
        return f"bytes={wanted.start}"
    last = "" if wanted.length is None else wanted.start + wanted.length - 1
    return f"bytes={wanted.start}-{last}"
