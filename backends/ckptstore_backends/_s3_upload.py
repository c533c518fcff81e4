"""Multipart uploads that either complete or leave nothing behind."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ckptstore.errors import StoreError
from ckptstore_backends._loop_thread import result_of
from ckptstore_backends._s3_client import S3Client
from ckptstore_backends._s3_errors import UploadGone

_WRITER = "ckptstore-writer"
_ABORTS = 3


class Signature:
    """A random mark in an object's metadata, by which a writer whose answer was lost recognises its own work."""

    def __init__(self, client: S3Client) -> None:
        self._mark = secrets.token_hex(16)
        given: Mapping[str, str] = (client.options.get("s3_additional_kwargs") or {}).get("Metadata", {})
        self.params: dict[str, Any] = {"Metadata": {**given, _WRITER: self._mark}}

    def is_on(self, head: Mapping[str, Any]) -> bool:
        """Whether an object, by the answer to a HEAD, is ours."""
        return bool(head.get("Metadata", {}).get(_WRITER) == self._mark)


class MultipartUpload:
    """One upload, as a context: leaving it by an exception aborts it, whatever the exception is.

    Args:
        client: the bucket.
        key: what to publish.
        in_flight: how many parts may be under way.
    """

    def __init__(self, client: S3Client, key: str, in_flight: int) -> None:
        self._client = client
        self._key = key
        self._in_flight = in_flight
        self._signature = Signature(client)
        self._id = ""
        self._parts: list[Future[dict[str, Any]]] = []
        self._running: set[Future[dict[str, Any]]] = set()

    def __enter__(self) -> Self:
        answer = self._client.call("create_multipart_upload", key=self._key, **self._signature.params)
        self._id = answer["UploadId"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
        self._parts.clear()  # a failed part's error refers to this upload: the cycle would keep its buffers
        self._running.clear()

    def add(self, method: str, **params: Any) -> None:
        """Send the next part, once fewer than `in_flight` are under way.

        Raises:
            StoreError: an earlier part failed.
        """
        while len(self._running) >= self._in_flight:
            self._collect(wait(self._running, return_when=FIRST_COMPLETED).done)
        self._collect({future for future in self._running if future.done()})
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
        if self._signature.is_on(head):
            return head
        raise StoreError(
            f"the upload of {self._key!r} to {self._client.url} was aborted by somebody else; put it again"
        )

    def _abandon(self, error: BaseException) -> None:
        for future in self._running:
            future.cancel()
        wait(self._running)
        try:
            self._abort()
        except StoreError as failure:
            error.add_note(f"an unfinished upload of {self._key!r} may remain in {self._client.url}: {failure}")

    def _abort(self) -> None:
        """Abort until the store says that nothing is left: a part that was still under way can outlive an abort."""
        for _ in range(_ABORTS):
            with suppress(UploadGone):
                self._client.call("abort_multipart_upload", key=self._key, UploadId=self._id)
            try:
                self._client.call("list_parts", key=self._key, UploadId=self._id)
            except UploadGone:
                return
        raise StoreError(f"upload {self._id} is still there after {_ABORTS} aborts")


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("CopyPartResult", answer)["ETag"])
