"""Every request of one S3 store: through one s3fs filesystem for each process, errors translated."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ckptstore.errors import InvalidKey, KeyNotFound, StoreNotFound
from ckptstore_backends._loop_thread import LoopThread
from ckptstore_backends._process import PerProcess
from ckptstore_backends._s3_errors import expected_errors, translated
from ckptstore_backends._s3_listing import read_page
from ckptstore_backends._s3_options import new_filesystem
from ckptstore_backends._s3_session import Session, keys_of, session_of

_T = TypeVar("_T")

_MAX_FULL_KEY_BYTES = 1024
_DEADLINE_S = 180.0

_WITH_A_LONG_BODY = frozenset(
    {"put_object", "upload_part", "upload_part_copy", "copy_object", "complete_multipart_upload"}
)
"""As long as bytes move, or the server moves them, no deadline can tell that nothing happens."""


@dataclass(frozen=True, slots=True)
class _Connection:
    thread: LoopThread
    filesystem: Any


class S3Client:
    """Sends requests to one bucket; keys are relative to the prefix.

    Only the request layer of s3fs is used: it brings credentials, sessions and signing. Its file layer caches,
    expands patterns, and publishes half-written files.
    """

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.options = dict(options)
        self.deadline_s = float(options.get("deadline_s", _DEADLINE_S))
        new_filesystem(self.options)  # contradictory options raise now, not in the middle of a run
        self._connection = PerProcess(partial(_connect, self.url, self.options), _disconnect)

    def full_key(self, key: str) -> str:
        """Return the key in the bucket."""
        full = self.prefix + key
        if len(full.encode()) > _MAX_FULL_KEY_BYTES:
            raise InvalidKey(
                f"key {key[:60]!r}... and the prefix of {self.url} have more than 1024 bytes; shorten one"
            )
        return full

    def address(self, key: str) -> tuple[str, str]:
        """Return bucket and full key: equal for two stores that mean the same object."""
        return self.bucket, self.full_key(key)

    def reaches_as(self, other: S3Client) -> bool:
        """Whether both speak to the same server with the same rights, so that it can copy between their buckets."""
        return self.options == other.options

    def call(self, method: str, *, key: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one request and return the answer.

        Args:
            method: of the botocore client: "head_object".
            key: the object that it is about; None for a request about the bucket.
            params: as botocore names them; Bucket and Key are filled in.

        Raises:
            StoreError: translated.
        """
        return self._connection.get().thread.run(self.request(method, key=key, **params))

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start work that awaits `request`."""
        return self._connection.get().thread.submit(work)

    async def request(self, method: str, *, key: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one request, inside the event loop; otherwise as `call`."""
        if key is not None:
            params["Key"] = self.full_key(key)
        try:
            filesystem = self._filesystem
            await _adapt(filesystem, method)
            async with asyncio.timeout(None if method in _WITH_A_LONG_BODY else self.deadline_s):
                answer: dict[str, Any] = await filesystem._call_s3(method, Bucket=self.bucket, **params)  # noqa: SLF001
        except expected_errors() as error:
            raise self.translated(error, method, key) from error
        return answer

    def translated(self, error: BaseException, method: str, key: str | None) -> Exception:
        """Return the error to raise in place of a client's."""
        asked = method.replace("_", " ") + (f" {key!r}" if key is not None else "")
        return translated(error, asked, self.url, of_key=key is not None)

    def pages(self, method: str, tokens: Mapping[str, str], **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, each asked for when it is needed.

        Args:
            method: of the botocore client.
            tokens: which field of a page becomes which parameter of the next request.
            params: of every request.
        """
        page = self.call(method, **params)
        while True:
            yield page
            if not page.get("IsTruncated"):
                return
            page = self.call(method, **params, **{name: page[field] for field, name in tokens.items()})

    def head(self, key: str, **params: Any) -> dict[str, Any]:
        """Ask about one object. The answer 404 has no body, so the bucket is asked which of both is missing."""
        try:
            return self.call("head_object", key=key, **params)
        except KeyNotFound:
            self.call("head_bucket")
            raise

    def missing_bucket(self) -> StoreNotFound | None:
        """Ask whether the bucket is there; return the error that says that it is not."""
        try:
            self.call("head_bucket")
        except StoreNotFound as error:
            return error
        return None

    def region_of_bucket(self) -> str:
        """Ask where the bucket is, or return "" where the server does not say."""
        headers = self.call("head_bucket").get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return str(headers.get("x-amz-bucket-region", ""))

    def session(self) -> Session:
        """Return the settings in effect; makes no request.

        Raises:
            StoreError: options, environment and profile do not make a session.
        """
        return self._connection.get().thread.run(self._translating(session_of(self._filesystem, self.options)))

    def credentials(self) -> Any:
        """Return the credentials in effect, refreshed when they expire soon.

        Raises:
            AccessDenied: there are none.
        """
        return self._connection.get().thread.run(self._translating(keys_of(self._filesystem, self.options)))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    async def _translating(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await work
        except expected_errors() as error:
            raise self.translated(error, "open a session", None) from error

    @property
    def _filesystem(self) -> Any:
        return self._connection.get().filesystem


def _connect(url: str, options: Mapping[str, Any]) -> _Connection:
    return _Connection(LoopThread(f"ckptstore {url}"), new_filesystem(options))


async def _adapt(filesystem: Any, method: str) -> None:
    """Have botocore do two things differently, in whichever client s3fs has made."""
    if method not in _ADAPTED:
        return
    client = await filesystem.set_session()
    event, handler = _ADAPTED[method]
    client.meta.events.register(event, handler, unique_id=event)


def _add_md5(request: Any, **_: Any) -> None:
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


_ADAPTED: Mapping[str, tuple[str, Callable[..., None]]] = {
    # servers older than flexible checksums insist on Content-MD5 for a multiple delete
    "delete_objects": ("before-sign.s3.DeleteObjects", _add_md5),
    # under this name it runs before botocore's own look for an error in the page, which parses all of it
    "list_objects_v2": ("before-parse.*.ListObjectsV2", read_page),
}


def _disconnect(connection: _Connection) -> None:
    if connection.thread.is_current:  # a garbage collection may run in any thread, and find the store there
        threading.Thread(target=_disconnect, args=(connection,), daemon=True).start()
        return
    connection.thread.run(_close_session(connection.filesystem))
    connection.thread.stop()


async def _close_session(filesystem: Any) -> None:
    if filesystem._s3 is not None:  # noqa: SLF001  # s3fs closes its session only where it drives the loop itself
        await filesystem._s3creator.__aexit__(None, None, None)  # noqa: SLF001
