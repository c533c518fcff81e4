"""Every request of one S3 store: through one s3fs filesystem for each process, errors translated."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ckptstore.errors import KeyNotFound, StoreError, StoreNotFound, StoreUnavailable
from ckptstore_backends._bucket_address import full_key
from ckptstore_backends._loop_thread import LoopThread
from ckptstore_backends._memory import memory_of
from ckptstore_backends._parts import MIB
from ckptstore_backends._process import PerProcess
from ckptstore_backends._reaching import obstacle
from ckptstore_backends._retries import Patience
from ckptstore_backends._s3_adapting import adapt
from ckptstore_backends._s3_errors import expected_errors, translated, unreachable
from ckptstore_backends._s3_options import new_filesystem, policy_of
from ckptstore_backends._s3_session import Session, connected, keys_of, session_of
from ckptstore_backends._s3_words import asked_of
from ckptstore_backends._transfer import Unanswered, Unavailable

_T = TypeVar("_T")


_MOVED_BY_THE_SERVER = frozenset({"upload_part_copy", "copy_object", "complete_multipart_upload"})
"""While it does so it sends a sign of life now and then, so that only silence tells that nothing happens."""

_UNIT_BYTES = 16 * MIB  # what the deadline allows for; a larger body may take longer
_CONNECT_LIMIT_S = 10.0
_CONNECTIONS = 4  # tried before the store is said to be out of reach


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
        self.memory_bytes = memory_of(options)
        self.policy = policy_of(options)
        self._reached = False
        new_filesystem(self.options)  # contradictory options raise now, not in the middle of a run
        self._connection = PerProcess(partial(_connect, self.url, self.options), _disconnect)

    def full_key(self, key: str) -> str:
        """Return the key in the bucket."""
        return full_key(self.prefix, key, self.url)

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
        """Send one request, inside the event loop; otherwise as `call`.

        What botocore does not try again is tried again here, and where nobody said how often, what it gave up too,
        once the store has been reached. Not a create: its writer has to look whether it was obeyed. The answer's
        RetryAttempts counts all.
        """
        if key is not None:
            params["Key"] = self.full_key(key)
        patience = Patience(self.policy)
        while True:
            try:
                answer = await self._sent(method, key, params)
            except StoreUnavailable as error:
                creates = "IfNoneMatch" in params
                if not self._is_worth_another(error) or (creates and isinstance(error, Unavailable)):
                    raise
                if creates:
                    raise Unanswered(*error.args) from error
                await patience.wait(error)
            else:
                metadata = answer.get("ResponseMetadata", {})
                metadata["RetryAttempts"] = metadata.get("RetryAttempts", 0) + patience.failures
                return answer

    async def _sent(self, method: str, key: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if not self._reached:
                await self._reach(asked_of(method, key))
            filesystem = self._filesystem
            await adapt(filesystem, method)
            async with asyncio.timeout(self._allowed_s(method, params)):
                answer: dict[str, Any] = await filesystem._call_s3(method, Bucket=self.bucket, **params)  # noqa: SLF001
        except StoreError:
            raise
        except expected_errors() as error:
            raise self.translated(error, method, key) from error
        return answer

    def _allowed_s(self, method: str, params: Mapping[str, Any]) -> float | None:
        if method in _MOVED_BY_THE_SERVER:
            return None
        return self.policy.deadline_s * max(1.0, len(params.get("Body", b"")) / _UNIT_BYTES)

    async def _reach(self, asked: str) -> None:
        client = await connected(self._filesystem)
        config = client.meta.config
        attempts = (config.retries or {}).get("total_max_attempts", _CONNECTIONS)
        patience = Patience(replace(self.policy, attempts=attempts))
        limit_s = min(_CONNECT_LIMIT_S, config.connect_timeout)
        authorities = (await session_of(self._filesystem, self.options)).authorities
        url = client.meta.endpoint_url
        while found := await asyncio.to_thread(obstacle, url, limit_s, authorities=authorities):
            await patience.wait(unreachable(found, asked, self.url))
        self._reached = True

    def _is_worth_another(self, error: StoreUnavailable) -> bool:
        if isinstance(error, Unavailable | Unanswered):
            return True
        if isinstance(error.__cause__, TimeoutError) or not self._reached:
            return False
        config = self._filesystem._s3.meta.config  # noqa: SLF001
        return "total_max_attempts" not in (config.retries or {})

    def translated(self, error: BaseException, method: str, key: str | None) -> StoreError:
        """Return the error to raise in place of a client's."""
        return translated(error, asked_of(method, key), self.url, of_key=key is not None)

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

    def reach(self) -> None:
        """Make sure that the store can be connected to: clients would go on trying for the whole deadline.

        Raises:
            StoreUnavailable: it cannot.
        """
        if not self._reached:
            self._connection.get().thread.run(self._translating(self._reach("connect")))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    async def _translating(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await work
        except StoreError:
            raise
        except expected_errors() as error:
            raise self.translated(error, "open a session", None) from error

    @property
    def _filesystem(self) -> Any:
        return self._connection.get().filesystem


def _connect(url: str, options: Mapping[str, Any]) -> _Connection:
    return _Connection(LoopThread(f"ckptstore {url}"), new_filesystem(options))


def _disconnect(connection: _Connection) -> None:
    if connection.thread.is_current:  # a garbage collection may run in any thread, and find the store there
        threading.Thread(target=_disconnect, args=(connection,), daemon=True).start()
        return
    connection.thread.run(_close_session(connection.filesystem))
    connection.thread.stop()


async def _close_session(filesystem: Any) -> None:
    if filesystem._s3 is not None:  # noqa: SLF001  # s3fs closes its session only where it drives the loop itself
        await filesystem._s3creator.__aexit__(None, None, None)  # noqa: SLF001
