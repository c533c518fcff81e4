"""Bulk transfer on GCS through obstore; what is small goes through the JSON interface, whose answers say more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain

from ckptstore.objects import ObjectInfo
from ckptstore_backends._gcs_again import begun_again
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_crc32c import Summed
from ckptstore_backends._gcs_obstore import GCSService
from ckptstore_backends._gcs_transfer import GcsfsTransfer
from ckptstore_backends._gcs_xml import check_bytes, watched_upload
from ckptstore_backends._obstore_client import ObstoreClient
from ckptstore_backends._obstore_transfer import ObstoreLimits, ObstoreTransfer
from ckptstore_backends._parts import MIB, part_sizes, regroup
from ckptstore_backends._replay import Replay
from ckptstore_backends._transfer import Head, Source

_SMALL_BYTES = 4 * MIB
_KEPT_PARTS = 3  # pulled before the upload has begun: one, and two that wait


class BulkTransfer:
    """Reads through obstore, and writes what is larger than 4 MiB."""

    name = "obstore"

    def __init__(self, client: GCSClient, small: GcsfsTransfer) -> None:
        self._small = small
        self._client = client
        self._large = ObstoreTransfer(
            ObstoreClient(client.url, GCSService(client)),
            ObstoreLimits(memory_bytes=client.memory_bytes),
            client.retries,
            partial(watched_upload, client),
        )

    def source(self, key: str, version: str | None) -> Source:
        """Return an object to be read."""
        return self._large.source(key, version)

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object."""
        if isinstance(body, memoryview):
            if body.nbytes <= _SMALL_BYTES:
                return self._small.upload(key, body)
            return self._upload(key, Replay([body], body.nbytes, body.nbytes))
        parts = regroup(body, part_sizes(_SMALL_BYTES, grow=False))
        first = next(parts)
        views = chain.from_iterable(part.views for part in chain([first], parts))
        if first.last:
            return self._small.upload(key, views)
        kept_bytes = _KEPT_PARTS * self._large.limits.stream_part_bytes
        return self._upload(key, Replay(views, kept_bytes, getattr(body, "size_bytes", None)))

    def _upload(self, key: str, views: Replay) -> ObjectInfo:
        if self._client.over_tls:
            return self._large.upload(key, views)
        return begun_again(views, partial(self._upload_unprotected, key), self._client.retries)

    def _upload_unprotected(self, key: str, views: Replay) -> ObjectInfo:
        """Upload over plain http, where nothing else protects the bytes: obstore sends no checksum."""
        summed = Summed(views, views.size_bytes)
        info = self._large.upload(key, summed)
        check_bytes(self._client, info, summed.text())
        return info

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist."""
        return self._small.create(key, body, metadata)

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
        return self._small.head(key)

    def close(self) -> None:
        """Release the connections."""
        self._large.close()
