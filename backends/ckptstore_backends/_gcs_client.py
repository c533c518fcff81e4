"""Every JSON request of one GCS store: over one HTTP session for each process, retried, errors translated.

gcsfs brings credentials, endpoint and session settings. Its own request layer is not used: it drops the status of an
answer, judges by texts, and goes on trying for minutes. Its file layer caches and expands patterns.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from ckptstore.errors import StoreUnavailable
from ckptstore_backends._bucket_address import full_key
from ckptstore_backends._gcs_answers import Answer
from ckptstore_backends._gcs_credentials import Tokens, new_filesystem
from ckptstore_backends._gcs_errors import Asked, expected_errors, judged, without_answer
from ckptstore_backends._gcs_http import Request, exchanged, new_session
from ckptstore_backends._gcs_options import GCSOptions
from ckptstore_backends._loop_thread import LoopThread, result_of
from ckptstore_backends._process import PerProcess
from ckptstore_backends._reaching import obstacle
from ckptstore_backends._retries import Patience, RetryPolicy

_T = TypeVar("_T")

_REFRESH_LIMIT_S = 20.0
_STALL_S = 60.0
_CONNECT_LIMIT_S = 10.0
_FIRST_CONTACT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Connection:
    thread: LoopThread
    filesystem: Any
    tokens: Tokens
    session: Any
    reached: threading.Event = field(default_factory=threading.Event)


class GCSClient:
    """Sends requests to one bucket; keys are relative to the prefix."""

    def __init__(self, bucket: str, prefix: str, options: GCSOptions) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.url = f"gs://{bucket}/{prefix}".rstrip("/")
        self.options = options
        self.memory_bytes = options.memory_bytes
        self.retries = RetryPolicy(deadline_s=options.deadline_s)
        self.stall_s = min(_STALL_S, self.retries.silence_s)
        self._connection = PerProcess(self._connect, _disconnect)

    @property
    def tokens(self) -> Tokens:
        """The credentials of this process."""
        return self._connection.get().tokens

    @property
    def on_google(self) -> bool:
        """Whether the server is Google's own, not an emulator."""
        return self.options.on_google

    @property
    def location(self) -> str:
        """The server: Google's own, its variant for mutual TLS, or an emulator."""
        found: str = self._connection.get().filesystem._location  # noqa: SLF001  # gcsfs shows it nowhere else
        return found.rstrip("/")

    @property
    def over_tls(self) -> bool:
        """Whether TLS protects what is sent."""
        return self.location.startswith("https:")

    @property
    def payer(self) -> str:
        """The project to be billed for requests, "" where the bucket's owner is."""
        filesystem = self._connection.get().filesystem
        payer = filesystem.requester_pays
        return payer if isinstance(payer, str) else str(filesystem.project or "") if payer else ""

    def full_key(self, key: str) -> str:
        """Return the key in the bucket."""
        return full_key(self.prefix, key, self.url)

    def object_path(self, key: str) -> str:
        """Return the path of an object in the JSON interface."""
        return f"{self.bucket_path}/o/{quote(self.full_key(key), safe='')}"

    @property
    def bucket_path(self) -> str:
        """The path of the bucket in the JSON interface."""
        return f"storage/v1/b/{quote(self.bucket, safe='')}"

    def reaches_as(self, other: GCSClient) -> bool:
        """Whether both speak to the same server with the same rights, so that it can copy between their buckets."""
        return self.options == other.options

    def asked(self, what: str, key: str | None = None) -> Asked:
        """Return what is asked for, as messages say it."""
        subject = f"{what} {key!r}" if key is not None else what
        return Asked(subject, self.url, of_key=key is not None)

    def call(self, request: Request, asked: Asked) -> Answer:
        """Send one request and return the answer; raises as `request`."""
        return self.run(self.request(request, asked))

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run work that awaits `request` to its end."""
        return result_of(self.submit(work))

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start work that awaits `request`."""
        try:
            thread = self._connection.get().thread
        except BaseException:
            work.close()  # Python warns of a coroutine that nobody awaits
            raise
        return thread.submit(work)

    async def request(self, request: Request, asked: Asked, *, deadline_s: float | None = None) -> Answer:
        """Send one request, inside the event loop, until it is answered or patience ends.

        Raises:
            StoreError: translated.
        """
        patience = self.patience(deadline_s)
        while True:
            try:
                answer = await self.once(request, asked)
            except StoreUnavailable as error:
                await patience.wait(error)
            else:
                return answer

    def patience(self, limit_s: float | None = None) -> Patience:
        """Return what there is of it for one request: little, until the server was reached for the first time."""
        reached = self._connection.get().reached.is_set()
        limits = (self.retries.deadline_s, limit_s, None if reached else _FIRST_CONTACT_S)
        return Patience(replace(self.retries, deadline_s=min(limit for limit in limits if limit is not None)))

    def reach(self) -> None:
        """Make sure once that the server can be reached: obstore would go on trying for the whole deadline.

        Raises:
            StoreUnavailable: it cannot.
        """
        reached, patience = self._connection.get().reached, self.patience()
        while not reached.is_set():
            if found := obstacle(self.location, _CONNECT_LIMIT_S):
                patience.sleep(StoreUnavailable(f"cannot connect in {self.url}: {found}"))
            else:
                reached.set()

    async def once(self, request: Request, asked: Asked) -> Answer:
        """Send one request a single time; raises as `request`."""
        connection = self._connection.get()
        try:
            if connection.tokens.due:
                await _refreshed(connection.tokens, asked)
            answer = await self._exchange(connection, request)
        except expected_errors() as error:
            raise without_answer(error, asked, urlsplit(self.location).netloc) from error
        connection.reached.set()
        if answer.status < 300 or answer.status in request.accepts:
            return answer
        raise judged(answer.status, answer.reason, asked, anonymous=connection.tokens.anonymous)

    def pages(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing of the bucket, each asked for when it is needed."""
        asked = self.asked("list")
        page = self.json(Request("GET", f"{self.bucket_path}/o", query), asked)
        while True:
            yield page
            if not (token := page.get("nextPageToken")):
                return
            page = self.json(Request("GET", f"{self.bucket_path}/o", {**query, "pageToken": token}), asked)

    def target(self, request: Request) -> str:
        """Return path and query, with what a bucket whose requester pays wants."""
        query = dict(request.query)
        if payer := self.payer:
            query["userProject"] = payer
        if not query:
            return request.path
        return f"{request.path}{'&' if '?' in request.path else '?'}{urlencode(query, quote_via=quote)}"

    def json(self, request: Request, asked: Asked) -> dict[str, Any]:
        """Send one request and return the JSON object that answers it."""
        return decoded(self.call(request, asked), asked)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    async def _exchange(self, connection: _Connection, request: Request) -> Answer:
        authorization = connection.tokens.headers()
        url = self._whole_url(request)
        return await exchanged(connection.session, url, request, authorization, self.stall_s)

    def _whole_url(self, request: Request) -> Any:
        from yarl import URL

        return URL(f"{self.location}/{self.target(request)}", encoded=True)

    def _connect(self) -> _Connection:
        filesystem = new_filesystem(self.options.filesystem, self.url)
        thread = LoopThread(f"ckptstore {self.url}")
        return _Connection(thread, filesystem, Tokens(filesystem), thread.run(new_session(filesystem)))


async def _refreshed(tokens: Tokens, asked: Asked) -> None:
    try:
        await asyncio.wait_for(asyncio.to_thread(tokens.refresh), _REFRESH_LIMIT_S)
    except TimeoutError:
        limit = f"within {_REFRESH_LIMIT_S:.0f} s"
        raise StoreUnavailable(
            f"cannot {asked}: the credentials could not be refreshed {limit}; check the network"
        ) from None


def decoded(answer: Answer, asked: Asked) -> dict[str, Any]:
    """Return the JSON object in an answer."""
    try:
        return answer.json()
    except ValueError as error:
        raise StoreUnavailable(f"cannot {asked}: the answer is not the JSON of GCS; check endpoint_url") from error


def _disconnect(connection: _Connection) -> None:
    if connection.thread.is_current:  # a garbage collection may run in any thread, and find the store there
        threading.Thread(target=_disconnect, args=(connection,), daemon=True).start()
        return
    connection.thread.run(connection.session.close())
    connection.thread.stop()
