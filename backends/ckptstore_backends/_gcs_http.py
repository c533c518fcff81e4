"""One HTTP exchange: sent from the caller's memory, read to its end, given up when nothing moves any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckptstore_backends._gcs_answers import Answer
from ckptstore_backends._parts import MIB

_CONNECT_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: "GET", ...
        path: below the endpoint, quoted, perhaps with a query of its own.
        query: what follows the question mark.
        headers: beyond those that authorize it.
        body: sent as they are, one after the other.
        accepts: statuses from 300 on that are answers rather than errors.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: tuple[memoryview, ...] = ()
    accepts: frozenset[int] = frozenset()

    @property
    def size_bytes(self) -> int:
        """The length of the body."""
        return sum(view.nbytes for view in self.body)


async def exchanged(
    session: Any, url: Any, request: Request, authorization: Mapping[str, str], stall_s: float
) -> Answer:
    """Send a request a single time and return whatever answers it.

    Args:
        session: from `new_session`.
        url: whole, quoted.
        request: what to send.
        authorization: headers.
        stall_s: how long nothing may move.
    """
    async with asyncio.timeout(None) as stall:
        progress = _Progress(stall, stall_s)
        sending = session.request(
            request.method,
            url,
            headers=_headers(request, authorization),
            data=_pieces(request.body, progress) if request.size_bytes else None,
            allow_redirects=False,
        )
        async with sending as response:
            body = memoryview(b"") if request.method == "HEAD" else await _read(response, progress)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, headers, body)


async def new_session(filesystem: Any) -> Any:
    """Return a session with the settings of a filesystem of gcsfs."""
    # not gcsfs's own: it is closed by a finalizer, also in a forked child, where that ends the parent's connections
    import aiohttp
    from fsspec.implementations.http import get_client
    from gcsfs.core import _client_cert_ssl_context

    settings = {
        "timeout": aiohttp.ClientTimeout(total=filesystem.requests_timeout, sock_connect=_CONNECT_LIMIT_S),
        **filesystem.session_kwargs,
    }
    if filesystem._use_client_cert and "connector" not in settings:  # noqa: SLF001
        context = await asyncio.to_thread(_client_cert_ssl_context)
        settings["connector"] = aiohttp.TCPConnector(ssl=context)
    return await get_client(**settings)


class _Progress:
    """Ends an exchange in which nothing moves any more."""

    def __init__(self, timeout: asyncio.Timeout, stall_s: float) -> None:
        self._timeout = timeout
        self._stall_s = stall_s
        self.made()

    def made(self) -> None:
        """Begin to wait anew."""
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._stall_s)


def _headers(request: Request, authorization: Mapping[str, str]) -> dict[str, str]:
    # a body compressed on the way could not be asked for by ranges
    headers = {"Accept-Encoding": "identity", **authorization, **request.headers}
    return headers if request.method == "GET" else {**headers, "Content-Length": str(request.size_bytes)}


async def _pieces(views: tuple[memoryview, ...], progress: _Progress) -> AsyncIterator[memoryview]:
    for view in views:
        for start_at in range(0, view.nbytes, MIB):
            progress.made()
            yield view[start_at : start_at + MIB]
    progress.made()


async def _read(response: Any, progress: _Progress) -> memoryview:
    """Read a body into memory of its own; a body cut short raises aiohttp's error."""
    body = memoryview(bytearray(response.content_length or 0))
    filled = 0
    async for chunk in response.content.iter_any():
        progress.made()
        if filled + len(chunk) > body.nbytes:  # of a length that was not told
            body = memoryview(bytearray(bytes(body[:filled]) + chunk))
        else:
            body[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return body[:filled]
