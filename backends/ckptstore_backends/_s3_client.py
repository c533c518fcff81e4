"""Every request of one S3 store: through one s3fs filesystem for each process, errors translated."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from ckptstore.errors import InvalidKey, KeyNotFound
from ckptstore_backends._loop_thread import LoopThread
from ckptstore_backends._process import PerProcess
from ckptstore_backends._s3_errors import expected_errors, translated
from ckptstore_backends._s3_options import new_filesystem

_T = TypeVar("_T")

_MAX_FULL_KEY_BYTES = 1024


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
        new_filesystem(self.options)  # contradictory options raise now, not in the middle of a run
        self._connection = PerProcess(self._connect, _disconnect)

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
            filesystem = self._connection.get().filesystem
            if method == "delete_objects":
                await _send_md5_of_deletes(filesystem)
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

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _connect(self) -> _Connection:
        return _Connection(LoopThread(f"ckptstore {self.url}"), new_filesystem(self.options))


async def _send_md5_of_deletes(filesystem: Any) -> None:
    """Have Content-MD5 sent as well: servers older than flexible checksums insist on it for a multiple delete."""
    client = await filesystem.set_session()
    client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5, unique_id="ckptstore-md5")


def _add_md5(request: Any, **_: Any) -> None:
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _disconnect(connection: _Connection) -> None:
    if connection.thread.is_current:  # a garbage collection may run in any thread, and find the store there
        threading.Thread(target=_disconnect, args=(connection,), daemon=True).start()
        return
    connection.thread.run(_close_session(connection.filesystem))
    connection.thread.stop()


async def _close_session(filesystem: Any) -> None:
    if filesystem._s3 is not None:  # noqa: SLF001  # s3fs closes its session only where it drives the loop itself
        await filesystem._s3creator.__aexit__(None, None, None)  # noqa: SLF001
