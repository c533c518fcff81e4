"""Multipart uploads that either complete or leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from ckptstore.errors import StoreError, StoreUnavailable
from ckptstore_backends._creating import WRITER, writer_mark
from ckptstore_backends._loop_thread import result_of
from ckptstore_backends._s3_client import S3Client
from ckptstore_backends._s3_orphans import watched_upload
from ckptstore_backends._transfer import UploadGone

_ABORTS = 3


def with_metadata(options: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a write that has this metadata, beside what the storage options give it."""
    given: Mapping[str, str] = (options.get("s3_additional_kwargs") or {}).get("Metadata", {})
    return {"Metadata": {**given, **metadata}}


class MultipartUpload:
    """One upload, as a context: leaving it by an exception aborts it, whatever the exception is.

    Args:
        client: the bucket.
        key: what to publish.
    """

    def __init__(self, client: S3Client, key: str) -> None:
        self._client = client
        self._key = key
        self._mark = writer_mark()
        self._id = ""
        self._parts: list[Future[dict[str, Any]]] = []
        self._running: set[Future[dict[str, Any]]] = set()
        self._watch = ExitStack()

    def __enter__(self) -> Self:
        params = with_metadata(self._client.options, self._mark)
        with ExitStack() as watch:
            beginning = watch.enter_context(watched_upload(self._client, self._key))
            try:
                answer = self._client.call("create_multipart_upload", key=self._key, **params)
            except StoreUnavailable:
                beginning.doubtful = True
                raise
            beginning.doubtful = bool(answer["ResponseMetadata"].get("RetryAttempts"))
            self._watch = watch.pop_all()
        self._id = answer["UploadId"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
        self._watch.close()
        self._parts.clear()  # a failed part's error refers to this upload: the cycle would keep its buffers
        self._running.clear()

    def make_room(self, in_flight: int) -> None:
        """Wait until fewer than so many parts are under way.

        Raises:
            StoreError: an earlier part failed.
        """
        while len(self._running) >= in_flight:
            self._collect(wait(self._running, return_when=FIRST_COMPLETED).done)
        self._collect({future for future in self._running if future.done()})

    def add(self, method: str, **params: Any) -> None:
        """Begin to send the next part."""
        params["PartNumber"] = len(self._parts) + 1
        work = self._client.request(method, key=self._key, UploadId=self._id, **params)
        future = self._client.submit(work)
        self._parts.append(future)
        self._running.add(future)

    def finish(self) -> dict[str, Any]:
        """Wait for every part, publish the object, and return the answer."""
        while self._running:
            self._collect(wait(self._running, return_when=FIRST_COMPLETED).done)
        parts = [{"PartNumber": n, "ETag": _etag(part.result())} for n, part in enumerate(self._parts, start=1)]
        try:
            return self._client.call(
                "complete_multipart_upload", key=self._key, UploadId=self._id, MultipartUpload={"Parts": parts}
            )
        except UploadGone:
            return self._published()

    def _collect(self, done: set[Future[dict[str, Any]]]) -> None:
        self._running -= done
        while done:
            result_of(done.pop())

    def _published(self) -> dict[str, Any]:
        """Return the answer of a completion whose first answer was lost, if that is what happened."""
        head = self._client.head(self._key)
        if head.get("Metadata", {}).get(WRITER) == self._mark[WRITER]:
            return head
        raise StoreError(
            f"the upload of {self._key!r} to {self._client.url} was aborted by somebody else; put it again"
        )

    def _abandon(self, error: BaseException) -> None:
        for future in self._running:
            future.cancel()
        wait(self._running)
        try:
            abort(self._client, self._key, self._id)
        except StoreError as failure:
            error.add_note(f"an unfinished upload of {self._key!r} may remain in {self._client.url}: {failure}")


def abort(client: S3Client, key: str, upload_id: str) -> None:
    """Abort until the store says that nothing is left: a part that was still under way can outlive an abort.

    Raises:
        StoreError: it does not say so.
    """
    for _ in range(_ABORTS):
        with suppress(UploadGone):
            client.call("abort_multipart_upload", key=key, UploadId=upload_id)
        try:
            client.call("list_parts", key=key, UploadId=upload_id)
        except UploadGone:
            return
    raise StoreError(f"upload {upload_id} is still there after {_ABORTS} aborts")


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("CopyPartResult", answer)["ETag"])
