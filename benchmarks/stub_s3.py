"""An S3 that costs next to nothing, so that what is measured is the client.

    python benchmarks/stub_s3.py [--discard] [--latency SECONDS] [--tls FILE]

It prints its port, serves loopback with a thread for each connection, and ends when its standard input closes. It
knows single and multipart uploads, ranged reads, deletes, and listings of one page; no signatures, no errors but 404
and 416.
With ``--discard`` only lengths are kept, and reads answer zeros: objects may be larger than the machine. With
``--latency`` every answer waits, as over a long line.

``GET /_sizes`` answers, as JSON, the sizes of the pieces of each object by its path.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_BLOCK = 1024 * 1024
_ZEROS = memoryview(bytes(_BLOCK))

Piece = bytearray | int
"""The bytes of one request, or their number."""


@dataclass
class Bucket:
    """What was stored: each object as the pieces that it came in."""

    discard: bool
    latency_s: float = 0.0
    objects: dict[str, list[Piece]] = field(default_factory=dict)
    uploads: dict[str, dict[int, Piece]] = field(default_factory=dict)


@dataclass
class Request:
    """The head of a request."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]


class Connection:
    """Serves one client until it leaves."""

    def __init__(self, client: socket.socket, bucket: Bucket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = client
        self._bucket = bucket
        self._ahead = bytearray()
        self._scratch = bytearray(_BLOCK)

    def serve(self) -> None:
        """Answer one request after the other."""
        try:
            while (request := self._head()) is not None:
                self._answer(request, self._body(request))
        except ConnectionError:
            pass
        finally:
            self._socket.close()

    def _head(self) -> Request | None:
        while (end := self._ahead.find(b"\r\n\r\n")) < 0:
            received = self._socket.recv(65536)
            if not received:
                return None
            self._ahead += received
        first, *lines = self._ahead[:end].decode("latin-1").split("\r\n")
        del self._ahead[: end + 4]
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        return Request(method, unquote(parts.path), parse_qs(parts.query, keep_blank_values=True), headers)

    def _body(self, request: Request) -> Piece:
        size = int(request.headers.get("content-length", 0))
        if request.headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._bucket.discard and request.method == "PUT":
            return self._skipped(size)
        body = bytearray(size)
        view = memoryview(body)
        filled = self._take_ahead(view)
        while filled < size:
            filled += self._received(view[filled:])
        return body

    def _skipped(self, size: int) -> int:
        view = memoryview(self._scratch)
        left = size
        while left:
            piece = view[: min(left, _BLOCK)]
            left -= self._take_ahead(piece) or self._received(piece)
        return size

    def _take_ahead(self, view: memoryview) -> int:
        count = min(len(self._ahead), len(view))
        view[:count] = self._ahead[:count]
        del self._ahead[:count]
        return count

    def _received(self, view: memoryview) -> int:
        count = self._socket.recv_into(view)
        if not count:
            raise ConnectionResetError
        return count

    def _answer(self, request: Request, body: Piece) -> None:
        time.sleep(self._bucket.latency_s)
        if request.path == "/_sizes":
            sizes = {path: [_size(piece) for piece in pieces] for path, pieces in self._bucket.objects.items()}
            self._send(200, json.dumps(sizes).encode())
        elif request.method == "GET" and request.query.get("list-type"):
            self._list(request)
        elif request.method == "HEAD" and request.path.strip("/").count("/") == 0:
            self._send(200)  # every bucket exists
        elif request.method in {"GET", "HEAD"}:
            self._read(request)
        elif request.method == "PUT":
            self._write(request, body)
        elif request.method == "POST" and "delete" in request.query:
            self._delete(request, body)
        elif request.method == "POST":
            self._post(request)
        else:
            self._bucket.objects.pop(request.path, None)
            self._bucket.uploads.pop(request.query.get("uploadId", [""])[0], None)
            self._send(204)

    def _write(self, request: Request, body: Piece) -> None:
        if "uploadId" in request.query:
            number = int(request.query["partNumber"][0])
            self._bucket.uploads[request.query["uploadId"][0]][number] = body
        elif source := request.headers.get("x-amz-copy-source"):
            pieces = self._bucket.objects[f"/{unquote(source).lstrip('/')}"]
            self._bucket.objects[request.path] = pieces
            name = "CopyObjectResult"
            self._send(200, f"{_XML}<{name}><ETag>{_etag(*pieces)}</ETag></{name}>".encode())
            return
        else:
            self._bucket.objects[request.path] = [body]
        self._send(200, ETag=_etag(body))

    def _delete(self, request: Request, body: Piece) -> None:
        assert isinstance(body, bytearray)
        for key in re.findall("<Key>(.*?)</Key>", body.decode()):
            self._bucket.objects.pop(f"{request.path.rstrip('/')}/{unescape(key)}", None)
        self._send(200, f"{_XML}<DeleteResult></DeleteResult>".encode())

    def _post(self, request: Request) -> None:
        _, bucket, key = request.path.split("/", 2)
        if "uploads" in request.query:
            upload = uuid.uuid4().hex
            self._bucket.uploads[upload] = {}
            name = "InitiateMultipartUploadResult"
            text = f"<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{upload}</UploadId>"
        else:
            parts = self._bucket.uploads.pop(request.query["uploadId"][0])
            pieces = [parts[number] for number in sorted(parts)]
            self._bucket.objects[request.path] = pieces
            name = "CompleteMultipartUploadResult"
            text = f"<Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{_etag(*pieces)}</ETag>"
        self._send(200, f"{_XML}<{name}>{text}</{name}>".encode())

    def _list(self, request: Request) -> None:
        wanted = {name: values[0] for name, values in request.query.items()}
        start = f"{request.path.rstrip('/')}/"
        prefix, delimiter = wanted.get("prefix", ""), wanted.get("delimiter", "")
        entries: dict[str, str] = {}
        for path, pieces in sorted(self._bucket.objects.copy().items()):
            key = path.removeprefix(start)
            if path.startswith(start) and key.startswith(prefix):
                folder, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                entries |= (
                    {prefix + folder + cut: _folder(prefix + folder + cut)} if cut else {key: _entry(key, pieces)}
                )
        counted = (
            f"<EncodingType>url</EncodingType><KeyCount>{len(entries)}</KeyCount><IsTruncated>false</IsTruncated>"
        )
        name = "ListBucketResult"
        self._send(200, f"{_XML}<{name}>{counted}{''.join(entries.values())}</{name}>".encode())

    def _read(self, request: Request) -> None:
        pieces = self._bucket.objects.get(request.path)
        if pieces is None:
            self._send(
                404, b"" if request.method == "HEAD" else f"{_XML}<Error><Code>NoSuchKey</Code></Error>".encode()
            )
            return
        total = sum(map(_size, pieces))
        start, stop = _range(request.headers.get("range", ""), total)
        if start >= stop and "range" in request.headers:
            self._send(416, f"{_XML}<Error><Code>InvalidRange</Code></Error>".encode())
            return
        headers = {"ETag": _etag(*pieces), "Last-Modified": formatdate(0, usegmt=True)}
        if "range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        status = 206 if "range" in request.headers else 200
        self._send_head(status, {**headers, "Content-Length": str(stop - start)})
        if request.method == "GET":
            for view in _views(pieces, start, stop):
                self._socket.sendall(view)

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self._send_head(status, {**headers, "Content-Length": str(len(body))})
        if body:
            self._socket.sendall(body)

    def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._socket.sendall(f"HTTP/1.1 {status} Stub\r\n{lines}\r\n".encode())


def _entry(key: str, pieces: list[Piece]) -> str:
    when = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    size = f"<Size>{sum(map(_size, pieces))}</Size><StorageClass>STANDARD</StorageClass>"
    return f"<Contents><Key>{quote(key)}</Key>{when}<ETag>{escape(_etag(*pieces))}</ETag>{size}</Contents>"


def _folder(prefix: str) -> str:
    return f"<CommonPrefixes><Prefix>{quote(prefix)}</Prefix></CommonPrefixes>"


def _size(piece: Piece) -> int:
    return piece if isinstance(piece, int) else len(piece)


def _etag(*pieces: Piece) -> str:
    """Return one that a client can compare, at the price of none."""
    return f'"{sum(map(_size, pieces)):032x}-{len(pieces)}"'


def _range(header: str, total: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if found is None:
        return 0, total
    first, last = found.groups()
    if not first:
        return max(0, total - int(last)), total
    return int(first), min(total, int(last) + 1) if last else total


def _views(pieces: list[Piece], start: int, stop: int) -> Iterator[memoryview]:
    position = 0
    for piece in pieces:
        low, high = max(start, position) - position, min(stop, position + _size(piece)) - position
        if low < high and isinstance(piece, bytearray):
            yield memoryview(piece)[low:high]
        elif low < high:
            yield from (_ZEROS[: min(_BLOCK, high - at)] for at in range(low, high, _BLOCK))
        position += _size(piece)


def _serve(client: socket.socket, bucket: Bucket, context: ssl.SSLContext | None) -> None:
    if context is not None:
        client = context.wrap_socket(client, server_side=True)
    Connection(client, bucket).serve()


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--discard", action="store_true", help="keep lengths only")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="before every answer")
    parser.add_argument("--tls", metavar="FILE", help="certificate and key, to speak https")
    given = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if given.tls else None
    if context is not None:
        context.load_cert_chain(given.tls)
    bucket = Bucket(discard=given.discard, latency_s=given.latency)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, bucket, context), daemon=True).start()


if __name__ == "__main__":
    main()
