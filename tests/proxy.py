"""A faulty network: a proxy between a client and a server of the tests, which does wrong what it is told to.

A fault is a small frozen value::

    proxy.faults = [Answer(503, "SlowDown", target="^PUT ", nth=None), Lose(target="uploads$")]

Each request is read whole, met by the first fault that matches, and forwarded with its headers unchanged: a
signature covers the Host header, and a client that addresses the proxy signs the proxy's.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_UPSTREAM_TIMEOUT_S = 60
_READ_BYTES = 65_536
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "expect"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer.

    Attributes:
        start: "PUT /bucket/key?query" of a request, "200 OK" of an answer.
        headers: in their order, as sent.
        body: whole.
    """

    start: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value, "" when there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class Link:
    """What a fault works with: one request, and the two ends that it lies between."""

    def __init__(self, handler: _Handler, request: Message) -> None:
        self._handler = handler
        self.request = request
        self.ended = handler.server.ended

    def forward(self, request: Message | None = None) -> Message:
        """Have the server do what was asked, and return its answer."""
        return self._handler.forwarded(request or self.request)

    def forward_part(self, size_bytes: int) -> None:
        """Send the server the beginning of the request and no more, and wait for it to hang up."""
        self._handler.forward_part(self.request, size_bytes)

    def answer(self, answer: Message, *, only_bytes: int | None = None) -> None:
        """Answer the client; with only so many bytes of the body, and no more afterwards."""
        self._handler.answer(answer, only_bytes)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the client's connection, with an RST in place of a FIN if asked to."""
        self._handler.hang_up(reset=reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where and when something goes wrong. By itself it does nothing.

    Attributes:
        target: a regular expression, searched in "METHOD /path?query", still percent-encoded.
        nth: only the nth request that matches, counted from 1; None is every one.
        times: that many in a row, from the nth.
    """

    target: str = ""
    nth: int | None = 1
    times: int = 1

    def meets(self, count: int) -> bool:
        """Tell whether it happens to the request that is the count-th to match."""
        return self.nth is None or self.nth <= count < self.nth + self.times

    def act(self, link: Link) -> None:
        """Do it."""
        link.answer(link.forward())


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """Let the request through after a while."""

    seconds: float

    def act(self, link: Link) -> None:
        """Wait, and let it through."""
        link.ended.wait(self.seconds)
        link.answer(link.forward())


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """Take the request and never answer; the server hears nothing."""

    def act(self, link: Link) -> None:
        """Wait for the end of the proxy."""
        link.ended.wait()
        link.hang_up()


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """Close both connections when so many bytes of the request's body are through."""

    after_bytes: int = 0

    def act(self, link: Link) -> None:
        """Send a part."""
        link.forward_part(self.after_bytes)
        link.hang_up()


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Reset the client's connection; the server hears nothing."""

    def act(self, link: Link) -> None:
        """Do not even forward."""
        link.hang_up(reset=True)


@dataclass(frozen=True, slots=True)
class Answer(Fault):
    """Answer in place of the server, which hears nothing."""

    status: int
    code: str

    def act(self, link: Link) -> None:
        """Answer as the interface that was asked would."""
        in_json = "/storage/v1/" in link.request.start
        error = {"error": {"code": self.status, "message": self.code, "errors": [{"reason": self.code}]}}
        xml = f'<?xml version="1.0"?><Error><Code>{self.code}</Code><Message>injected</Message></Error>'
        body = (json.dumps(error) if in_json else xml).encode()
        kind = "application/json" if in_json else "application/xml"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        link.answer(Message(f"{self.status} Injected", headers, body))


@dataclass(frozen=True, slots=True)
class Lose(Fault):
    """Have the server do it, and close the connection in place of its answer."""

    def act(self, link: Link) -> None:
        """Forward and hang up."""
        link.forward()
        link.hang_up()


@dataclass(frozen=True, slots=True)
class Truncate(Fault):
    """Send half of the answer's body, under its whole length, and close the connection."""

    def act(self, link: Link) -> None:
        """Forward, and answer in part."""
        answer = link.forward()
        link.answer(answer, only_bytes=len(answer.body) // 2)


@dataclass(frozen=True, slots=True)
class FlipAnswer(Fault):
    """Flip a bit of the answer's body, where it has that byte."""

    offset: int = 0

    def act(self, link: Link) -> None:
        """Forward, and change the answer."""
        answer = link.forward()
        link.answer(replace(answer, body=flipped(answer.body, self.offset)))


@dataclass(frozen=True, slots=True)
class FlipRequest(Fault):
    """Flip a bit of the request's body, where it has that byte."""

    offset: int = 0

    def act(self, link: Link) -> None:
        """Change the request, and forward it."""
        link.answer(link.forward(replace(link.request, body=flipped(link.request.body, self.offset))))


def flipped(data: bytes, offset: int) -> bytes:
    """Return data with the lowest bit of one byte flipped; a negative offset counts from the end."""
    at = offset % len(data) if -len(data) <= offset < len(data) else len(data)
    return data[:at] + bytes([byte ^ 1 for byte in data[at : at + 1]]) + data[at + 1 :]


class Proxy:
    """A running proxy.

    Attributes:
        url: what a client addresses in place of the server.
        faults: in force from now on; setting them starts counting anew.
    """

    def __init__(self, url: str, server_url: str) -> None:
        self.url = url
        self.server_url = server_url
        self._lock = threading.Lock()
        self._requests: list[Message] = []
        self._faults: Mapping[Fault, int] = {}
        self._forwarding = 0
        self._forwarded = threading.Condition()

    @property
    def faults(self) -> Sequence[Fault]:
        """What goes wrong."""
        return list(self._faults)

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        with self._lock:
            self._requests = []
            self._faults = dict.fromkeys(faults, 0)

    @property
    def requests(self) -> list[Message]:
        """The requests since the faults were set, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def take(self, request: Message) -> Fault:
        """Note a request, and return what happens to it."""
        with self._lock:
            self._requests.append(request)
            matching = [fault for fault in self._faults if re.search(fault.target, request.start)]
            counts = {fault: self._faults[fault] + 1 for fault in matching}
            self._faults = {**self._faults, **counts}
        return next((fault for fault, count in counts.items() if fault.meets(count)), Fault())

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """Count a request that the server has, and may still obey when its client has long given up."""
        with self._forwarded:
            self._forwarding += 1
        try:
            yield
        finally:
            with self._forwarded:
                self._forwarding -= 1
                self._forwarded.notify_all()

    def settle(self) -> None:
        """Wait until the server has nothing left to do."""
        with self._forwarded:
            self._forwarded.wait_for(lambda: not self._forwarding)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = Proxy(f"http://127.0.0.1:{self.server_port}", server_url)
        self.ended = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that gave up is what many faults are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        request = Message(f"{self.command} {self.path}", self.headers.items(), self._body())
        self.server.proxy.take(request).act(Link(self, request))

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def forwarded(self, request: Message) -> Message:
        with self.server.proxy.forwarding(), closing(self._sent(request, request.body)) as upstream:
            answer = upstream.getresponse()
            return Message(f"{answer.status} {answer.reason}", answer.getheaders(), answer.read())

    def forward_part(self, request: Message, size_bytes: int) -> None:
        with self.server.proxy.forwarding(), closing(self._sent(request, request.body[:size_bytes])) as upstream:
            upstream.sock.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while upstream.sock.recv(_READ_BYTES):
                    """What it says of half a request does not matter."""

    def answer(self, answer: Message, only_bytes: int | None) -> None:
        proxy = self.server.proxy
        kept = [(name, value) for name, value in answer.headers if name.lower() not in _OF_ONE_CONNECTION]
        if self.command != "HEAD" and not answer.header("content-length"):
            kept.append(("Content-Length", str(len(answer.body))))
        lines = [f"{name}: {value.replace(proxy.server_url, proxy.url)}\r\n" for name, value in kept]
        head = f"HTTP/1.1 {answer.start}\r\n{''.join(lines)}\r\n".encode("latin-1")
        body = b"" if self.command == "HEAD" else answer.body[:only_bytes]
        self.connection.sendall(head + body)
        if only_bytes is not None:
            self.hang_up(reset=False)

    def hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        if not reset:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        os.close(self.connection.detach())  # now: the server class would send a FIN before it closes

    def _sent(self, request: Message, body: bytes) -> http.client.HTTPConnection:
        place = urlsplit(self.server.proxy.server_url)
        upstream = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_UPSTREAM_TIMEOUT_S)
        method, _, target = request.start.partition(" ")
        upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name.lower() not in _OF_ONE_CONNECTION:
                upstream.putheader(name, value)
        if request.header("transfer-encoding"):
            upstream.putheader("Content-Length", str(len(request.body)))
        upstream.endheaders(body)
        return upstream

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size_bytes := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size_bytes)
            self.rfile.readline()
        while self.rfile.readline().strip():
            """Skip a trailer."""


@contextmanager
def proxy_to(server_url: str) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    server = _Server(server_url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
