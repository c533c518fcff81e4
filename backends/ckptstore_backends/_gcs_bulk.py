"""Bulk transfer on GCS through obstore; what is small goes through the JSON interface, whose answers say more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from ckptstore.objects import ObjectInfo
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_errors import NoAnswer
from ckptstore_backends._gcs_obstore import GCSService
from ckptstore_backends._gcs_transfer import GcsfsTransfer
from ckptstore_backends._obstore_client import ObstoreClient
from ckptstore_backends._obstore_transfer import ObstoreLimits, ObstoreTransfer
from ckptstore_backends._parts import MIB, part_sizes, regroup
from ckptstore_backends._replay import Replay
from ckptstore_backends._transfer import Head, Source

_SMALL_BYTES = 4 * MIB
_KEPT_PARTS = 3  # pulled before the upload has begun: one, and two that wait
_ATTEMPTS = 5
_LONGEST_PAUSE_S = 5.0


class BulkTransfer:
    """Reads through obstore, and writes what is larger than 4 MiB."""

    name = "obstore"

    def __init__(self, client: GCSClient, small: GcsfsTransfer) -> None:
        self._small = small
        self._retries = client.retries
        self._large = ObstoreTransfer(ObstoreClient(client.url, GCSService(client)), ObstoreLimits())

    def source(self, key: str, version: str | None) -> Source:
        """Return an object to be read."""
        return self._large.source(key, version)

    def upload(self, key: str, body: memoryview | Iterable[memoryview]) -> ObjectInfo:
        """Store an object."""
        if isinstance(body, memoryview):
            if body.nbytes <= _SMALL_BYTES:
                return self._small.upload(key, body)
            return self._repeated(key, Replay([body], body.nbytes, body.nbytes))
        parts = regroup(body, part_sizes(_SMALL_BYTES, grow=False))
        first = next(parts)
        views = chain.from_iterable(part.views for part in chain([first], parts))
        if first.last:
            return self._small.upload(key, views)
        kept_bytes = _KEPT_PARTS * self._large.limits.stream_part_bytes
        return self._repeated(key, Replay(views, kept_bytes, getattr(body, "size_bytes", None)))

    def _repeated(self, key: str, views: Replay) -> ObjectInfo:
        """Upload in parts; obstore does not repeat the request that begins an upload once it may have arrived."""
        from tenacity import (
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            stop_after_delay,
            wait_random_exponential,
        )

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, NoAnswer) and views.possible),
            wait=wait_random_exponential(self._retries.first_s, _LONGEST_PAUSE_S),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(self._retries.deadline_s),
            reraise=True,
        )
        return retrying(self._large.upload, key, views)

    def create(self, key: str, body: memoryview, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object that does not exist."""
        return self._small.create(key, body, metadata)

    def head(self, key: str) -> Head:
        """Return what is known of an object."""
        return self._small.head(key)

    def close(self) -> None:
        """Release the connections."""
        self._large.close()
