"""A simulated S3 in a process of its own, which writes down every request and misbehaves when told to.

Run as a script: it prints its port, serves on loopback, and ends when its standard input closes. A process,
not a thread, so that forks, warnings turned into errors and the interpreter lock of the tests stay out of it.

Paths under ``/_control/`` are for the tests: GET ``log`` answers every request so far, POST ``faults``
replaces the faults (fields: `tests.servers.Fault`), POST ``objects`` lays many into a bucket.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

_ACCOUNT = "123456789012"  # moto's only one

Respond = Callable[..., Any]


class ObservedApp:
    """Moto's application, observed."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._log: list[dict[str, Any]] = []
        self._faults: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._creating = threading.Lock()

    # Requests with the header X-Of-The-Tests seed and peek: they are neither logged nor disturbed.
    def __call__(self, environ: dict[str, Any], start_response: Respond) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/_control/"):
            return self._control(environ, start_response)
        fault = None if "HTTP_X_OF_THE_TESTS" in environ else self._observe(environ)
        if fault is None:
            return self._serve(environ, start_response)
        return self._misbehave(fault, environ, start_response)

    def _serve(self, environ: dict[str, Any], start_response: Respond) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ:
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        with self._creating:  # moto looks and writes in two steps; S3 does it in one
            return self._moto(environ, start_response)  # type: ignore[no-any-return]

    def _control(self, environ: dict[str, Any], start_response: Respond) -> Iterable[bytes]:
        with self._lock:
            if environ["REQUEST_METHOD"] == "POST":
                self._obey(
                    environ["PATH_INFO"], json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                )
            body = json.dumps(self._log).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _obey(self, path: str, order: Any) -> None:
        if path == "/_control/faults":
            self._faults = order
            return
        for key, text in order["objects"].items():
            s3_backends[_ACCOUNT]["aws"].put_object(order["bucket"], key, text.encode("latin-1"))

    def _observe(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        seen = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"].encode("latin-1").decode(),
            "query": environ["QUERY_STRING"],
            "headers": {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")},
        }
        target = f"{seen['method']} {seen['path']}?{seen['query']}"
        with self._lock:
            self._log.append(seen)
            return next((fault for fault in self._faults if _applies(fault, target)), None)

    def _misbehave(self, fault: dict[str, Any], environ: dict[str, Any], start_response: Respond) -> Iterable[bytes]:
        if fault["action"] == "refuse":
            return _refusal(fault, environ, start_response)
        content, status, headers = run_wsgi_app(self._serve, environ, buffered=True)
        body = b"".join(content)
        if fault["action"] == "truncate":
            start_response(status, list(headers))
            return _first_half(body, environ)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError


def _applies(fault: dict[str, Any], target: str) -> bool:
    if not re.search(fault["target"], target) or fault["times"] == 0:
        return False
    if fault["skip"] > 0:
        fault["skip"] -= 1
        return False
    fault["times"] -= 1
    return True


def _first_half(body: bytes, environ: dict[str, Any]) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def _refusal(fault: dict[str, Any], environ: dict[str, Any], start_response: Respond) -> Iterable[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = f"<?xml version='1.0'?><Error><Code>{fault['code']}</Code><Message>{fault['message']}</Message></Error>"
    answer = b"" if environ["REQUEST_METHOD"] == "HEAD" else (fault["body"] or body).encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(answer))), *fault["headers"]]
    start_response(f"{fault['status']} Refused", [(name, value) for name, value in headers])
    return [answer]


def main() -> None:
    """Serve until standard input closes."""
    server = make_server("127.0.0.1", 0, ObservedApp(), threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)  # noqa: T201  # the parent reads it
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
