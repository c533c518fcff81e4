"""One object in parts through obstore: begun again while that is possible, looked up where its end is not known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from ckptstore.errors import KeyNotFound, StoreError, StoreUnavailable
from ckptstore.objects import ObjectInfo
from ckptstore_backends._creating import WRITER, writer_mark
from ckptstore_backends._obstore_client import ObstoreClient, ObstoreClients
from ckptstore_backends._obstore_upload import Counted, pieces_of, uploaded
from ckptstore_backends._orphans import Beginning
from ckptstore_backends._replay import Replay
from ckptstore_backends._retries import Patience, RetryPolicy
from ckptstore_backends._transfer import NOT_OBEYED, Head, Unanswered, Unavailable, UploadGone

_CURABLE = (Unavailable, Unanswered, UploadGone)


class Looks(Protocol):
    """What a writer whose answer was lost asks."""

    def head(self, key: str) -> Head:
        """Return what is known of an object."""


class PartsUpload:
    """Sends one object.

    Args:
        client: the bucket.
        key: what to publish.
        part_bytes: the size of each part but the last.
        in_flight: how many parts may be under way.
    """

    def __init__(self, client: ObstoreClient, key: str, part_bytes: int, in_flight: int) -> None:
        self._client = client
        self._key = key
        self._part_bytes = part_bytes
        self._in_flight = in_flight

    def send(self, views: Replay, looks: Looks, policy: RetryPolicy, beginning: Beginning) -> tuple[int, Any]:
        """Publish the object; return its length, and obstore's answer, or the `ObjectInfo` in place of a lost one.

        Args:
            views: what to send; as long as it can be given once more, what came to nothing is begun again.
            looks: the transfer, for what is there.
            policy: how long to begin again.
            beginning: told how it was begun.

        Raises:
            StoreError: translated; nothing is published, unless it says that nobody knows.
        """
        patience = Patience(policy)
        while True:
            mark = writer_mark()
            sent = Counted(pieces_of(views, self._part_bytes))
            try:
                answer = self._sent_once(sent, mark, beginning)
            except (UploadGone, StoreUnavailable) as error:
                failure = error
            else:
                return sent.size_bytes, answer
            found = self._found(looks, mark, sent) if sent.complete else None
            if found is not None:
                return sent.size_bytes, found
            if not (views.possible and isinstance(failure, _CURABLE)):
                raise self._final(failure)
            patience.sleep(self._final(failure))

    def _sent_once(self, sent: Counted, mark: Mapping[str, str], beginning: Beginning) -> Any:
        import obstore

        begun = False

        def noted(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
            nonlocal begun
            begun = True  # obstore takes the first piece when it has been told the name
            beginning.answered()
            yield from pieces

        def upload(pieces: Iterator[memoryview]) -> Any:
            beginning.asked_at = time.monotonic()

            def send(clients: ObstoreClients, path: str) -> Any:
                return obstore.put(
                    clients.sending(self._part_bytes),
                    path,
                    noted(pieces),
                    use_multipart=True,
                    chunk_size=self._part_bytes,
                    max_concurrency=self._in_flight,
                    attributes=dict(mark),
                )

            return self._client.call("upload", self._key, send)

        try:
            return uploaded(sent, upload)
        except StoreUnavailable as error:
            beginning.doubtful = beginning.doubtful or not (begun or isinstance(error, NOT_OBEYED))
            raise

    def _found(self, looks: Looks, mark: Mapping[str, str], sent: Counted) -> ObjectInfo | None:
        """Return the object, where it was published although nobody said so."""
        with suppress(KeyNotFound):
            head = looks.head(self._key)
            if head.metadata.get(WRITER) == mark[WRITER] and head.info.size_bytes == sent.size_bytes:
                return head.info
        return None

    def _final(self, failure: StoreError) -> StoreError:
        if not isinstance(failure, UploadGone):
            return failure
        return StoreError(
            f"the upload of {self._key!r} to {self._client.url} was aborted by somebody else; put it again"
        )
