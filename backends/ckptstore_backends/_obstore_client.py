"""One bucket as obstore reaches it: clients for each process, errors translated by who knows the service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ckptstore.errors import StoreError
from ckptstore_backends._loop_thread import LoopThread, result_of
from ckptstore_backends._obstore_errors import ObstoreFailure, expected_failures, failure_of
from ckptstore_backends._process import PerProcess
from ckptstore_backends._workers import Workers

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ObstoreClients:
    """Two clients of one bucket, which differ in how long they wait for a sign of life.

    Attributes:
        reading: gives up soon on an answer that stalls.
        writing: waits for a body to be sent as well.
        of_parts: returns the one for an upload in parts of a size; None: `writing` does it.
    """

    reading: Any
    writing: Any
    of_parts: Callable[[int], Any] | None = None

    def sending(self, part_bytes: int) -> Any:
        """Return the client for an upload in parts of a size."""
        return self.writing if self.of_parts is None else self.of_parts(part_bytes)


class Service(Protocol):
    """What a backend knows of its bucket that obstore does not."""

    def full_key(self, key: str) -> str:
        """Return the key in the bucket.

        Raises:
            InvalidKey: too long together with the prefix.
        """

    def connect(self) -> ObstoreClients:
        """Make clients for this process; called on first use, and again after `recover` said so."""

    def translated(self, failure: ObstoreFailure, method: str, key: str) -> StoreError:
        """Return the error to raise, without any text of obstore's.

        The failure of an upload that names its id is also an upload that obstore could not abort, or might not
        have: it is aborted here, and what may remain is a note on the error.

        Args:
            failure: what came back.
            method: what was asked for: "get", "put", "head", "upload", ...
            key: of the object, relative to the prefix.
        """

    def recover(self, failure: ObstoreFailure) -> bool:
        """Return whether new clients would do better, as with a bucket whose region was learned from the answer."""

    def version_of(self, answer: Mapping[str, Any]) -> str:
        """Return the version of an object, from the "e_tag" and "version" of an answer of obstore's."""

    def condition(self, version: str) -> dict[str, Any]:
        """Return the options of a get that make it fail for any other version."""


class ObstoreClient:
    """Sends requests to one bucket; keys are relative to the prefix of the store.

    Args:
        url: of the store, for messages.
        service: the backend's own knowledge.
    """

    def __init__(self, url: str, service: Service) -> None:
        self.url = url
        self.service = service
        self._thread = PerProcess(lambda: LoopThread(f"ckptstore obstore {url}"), _stop)
        self._workers = PerProcess(lambda: Workers(f"ckptstore request {url}"), Workers.stop)
        self._clients = PerProcess(service.connect, _forget)

    def call(self, method: str, key: str, send: Callable[[ObstoreClients, str], _T]) -> _T:
        """Send one request from this thread, which hears of no signal meanwhile, and return its answer.

        Args:
            method: what is asked for, for messages.
            key: the object.
            send: is given the clients and the full key; called a second time only if the first led to `recover`.

        Raises:
            StoreError: translated.
        """
        path = self.service.full_key(key)
        clients = self._clients.get()
        try:
            return send(clients, path)
        except expected_failures() as error:
            failure = failure_of(error, path)
        clients = self._recovered(failure, method, key)
        try:
            return send(clients, path)
        except expected_failures() as error:
            failure = failure_of(error, path)
        raise self.service.translated(failure, method, key)

    def request(self, method: str, key: str, send: Callable[[ObstoreClients, str], _T]) -> _T:
        """Do as `call`, and hear of signals: an interrupted request may still be obeyed."""
        return self._workers.get().call(lambda: self.call(method, key, send))

    def run(self, method: str, key: str, send: Callable[[ObstoreClients, str], Awaitable[_T]]) -> _T:
        """Send one request and wait for its answer; an interrupt cancels it. Otherwise as `call`."""
        return result_of(self.submit(self.ask(method, key, send)))

    async def ask(self, method: str, key: str, send: Callable[[ObstoreClients, str], Awaitable[_T]]) -> _T:
        """Send one request inside the event loop; otherwise as `call`."""
        path = self.service.full_key(key)
        clients = self._clients.get()
        try:
            return await send(clients, path)
        except expected_failures() as error:
            failure = failure_of(error, path)
        clients = await asyncio.to_thread(self._recovered, failure, method, key)
        try:
            return await send(clients, path)
        except expected_failures() as error:
            failure = failure_of(error, path)
        raise await asyncio.to_thread(self.service.translated, failure, method, key)

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start work that awaits `ask`."""
        try:
            self._clients.get()  # made in the caller's thread: it takes a while
        except BaseException:
            work.close()  # Python warns of a coroutine that nobody awaits
            raise
        return self._thread.get().submit(work)

    def close(self) -> None:
        """Release the connections."""
        self._clients.close()
        self._workers.close()
        self._thread.close()

    def _recovered(self, failure: ObstoreFailure, method: str, key: str) -> ObstoreClients:
        if not self.service.recover(failure):
            raise self.service.translated(failure, method, key)
        self._clients.close()
        return self._clients.get()


def _forget(clients: ObstoreClients) -> None:
    """Do nothing: connections close when the last request that uses the clients has ended."""


def _stop(thread: LoopThread) -> None:
    if thread.is_current:  # a garbage collection may run in any thread, and find the store there
        threading.Thread(target=thread.stop, daemon=True).start()
        return
    thread.stop()
