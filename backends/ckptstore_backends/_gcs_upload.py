"""Uploads through the JSON interface in a session that completes or is cancelled.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from ckptstore.errors import StoreError, StoreUnavailable
from ckptstore.objects import ObjectInfo
from ckptstore_backends._creating import WRITER, writer_mark
from ckptstore_backends._gcs_answers import FIELDS, Answer
from ckptstore_backends._gcs_client import GCSClient, decoded
from ckptstore_backends._gcs_crc32c import RunningCRC32C
from ckptstore_backends._gcs_errors import NoAnswer, UploadLost
from ckptstore_backends._gcs_http import Request
from ckptstore_backends._gcs_objects import checked, description, upload_path
from ckptstore_backends._loop_thread import result_of
from ckptstore_backends._parts import Part
from ckptstore_backends._retries import Patience
from ckptstore_backends._transfer import UploadGone

_INCOMPLETE = 308
_CANCEL_LIMIT_S = 10.0  # what is not cancelled is invisible, costs nothing, and ends after a week
_GONE = frozenset({404, 410})
_CANCELLED = frozenset({*_GONE, 499})


class ResumableUpload:
    """One session, as a context: leaving it by an exception cancels it, whatever the exception is.

    The chunk before is under way while the next is made ready.
    """

    def __init__(self, client: GCSClient, key: str) -> None:
        self._client = client
        self._key = key
        self._asked = client.asked("put", key)
        self._mark = writer_mark()
        self._crc32c = RunningCRC32C()
        self._session = ""
        self._sent = 0
        self._running: Future[Mapping[str, Any] | None] | None = None

    def __enter__(self) -> Self:
        described = json.dumps(description(self._client, self._key, self._mark)).encode()
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        query = {"uploadType": "resumable", "fields": FIELDS, "name": self._client.full_key(self._key)}
        request = Request("POST", upload_path(self._client), query, headers, (memoryview(described),))
        answer = self._client.call(request, self._asked.of_bucket())
        location = urlsplit(answer.headers["location"])
        self._session = f"{location.path.lstrip('/')}?{location.query}"  # on the host that was asked
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
        self._running = None  # a failure refers to this upload: the cycle would keep its buffers

    def send(self, part: Part) -> None:
        """Send the next part, once the one before is stored.

        Raises:
            StoreError: the one before failed.
        """
        self._collect()
        self._running = self._client.submit(self._send(part))

    def finish(self) -> ObjectInfo:
        """Wait for the last part, which publishes the object."""
        stored = self._collect()
        if stored is None:
            raise UploadLost(f"cannot {self._asked}: the store did not complete the upload; put it again")
        return checked(self._client, self._key, stored, self._crc32c.text())

    def _collect(self) -> Mapping[str, Any] | None:
        return None if self._running is None else result_of(self._running)

    async def _send(self, part: Part) -> Mapping[str, Any] | None:
        """Send one part until the store has it; return the object once it is published."""
        self._crc32c.update(part.views)
        start, stop = self._sent, self._sent + part.size_bytes
        patience, unsure = Patience(self._client.retries), False
        while True:
            try:
                answer = await (self._ask_state(part, stop) if unsure else self._put(part, start, stop))
            except UploadGone:
                return await self._published()
            except StoreUnavailable as error:
                unsure = self._client.on_google
                if isinstance(error, NoAnswer) and not unsure:  # asked for it, fake-gcs-server publishes what it has
                    return await self._published(error)
                await patience.wait(error)
                continue
            asked, unsure = unsure, False
            if answer.status != _INCOMPLETE:
                return decoded(answer, self._asked)
            before, self._sent = self._sent, _persisted(answer)
            if self._sent == stop:
                return None
            if not start <= self._sent < stop:
                raise UploadLost(f"cannot {self._asked}: the store lost a part of the upload; put it again")
            if self._sent > before:
                patience.renew()
            elif not asked:
                await patience.wait(
                    StoreUnavailable(f"cannot {self._asked}: the store takes no bytes; try again later")
                )

    async def _put(self, part: Part, start: int, stop: int) -> Answer:
        span = f"bytes {self._sent}-{stop - 1}/{_total(part, stop)}"
        return await self._ask({"Content-Range": span}, _without(part.views, self._sent - start))

    async def _ask_state(self, part: Part, stop: int) -> Answer:
        return await self._ask({"Content-Range": f"bytes */{_total(part, stop)}"}, ())

    async def _ask(self, headers: Mapping[str, str], body: tuple[memoryview, ...]) -> Answer:
        request = Request("PUT", self._session, {}, headers, body, frozenset({_INCOMPLETE, *_GONE}))
        answer = await self._client.once(request, self._asked)
        if answer.status in _GONE:
            raise UploadGone(f"cannot {self._asked}: the upload is gone; put it again")
        return answer

    async def _published(self, failure: StoreUnavailable | None = None) -> Mapping[str, Any]:
        """Return the object, if it is this upload that made it."""
        request = Request("GET", self._client.object_path(self._key), {"fields": FIELDS}, accepts=_GONE)
        answer = await self._client.request(request, self._asked)
        found = {} if answer.status in _GONE else decoded(answer, self._asked)
        if found.get("metadata", {}).get(WRITER) == self._mark[WRITER]:
            return found
        raise UploadLost(str(failure or f"cannot {self._asked}: the store knows the upload no longer; put it again"))

    def _abandon(self, error: BaseException) -> None:
        if self._running is not None:
            self._running.cancel()
            wait([self._running])
        try:
            request = Request("DELETE", self._session, accepts=_CANCELLED)
            self._client.run(self._client.request(request, self._asked, deadline_s=_CANCEL_LIMIT_S))
        except StoreError as failure:
            error.add_note(f"an unfinished upload of {self._key!r} may remain in {self._client.url}: {failure}")


def _total(part: Part, stop: int) -> str:
    return str(stop) if part.last else "*"


def _persisted(answer: Answer) -> int:
    told = answer.headers.get("range")
    return int(told.rpartition("-")[2]) + 1 if told else 0


def _without(views: tuple[memoryview, ...], count: int) -> tuple[memoryview, ...]:
    """Return the views without their first bytes."""
    rest = []
    for view in views:
        rest.append(view[min(count, view.nbytes) :])
        count -= min(count, view.nbytes)
    return tuple(rest)
