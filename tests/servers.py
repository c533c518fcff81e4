"""Start and stop the servers that the tests talk to, and look at what reached them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote_plus

_MOTO_APP = Path(__file__).with_name("moto_app.py")
_OF_THE_TESTS = {
    "X-Of-The-Tests": "1",
    "Content-Type": "application/octet-stream",
    "Authorization": "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",  # noqa: E501  # one header
}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that reached the server.

    Attributes:
        method: "GET", "PUT", ...
        path: "/bucket/key", percent-decoded.
        query: as sent, without the question mark.
        headers: by name as CGI has it: "RANGE", "CONTENT_MD5".
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def parameters(self) -> str:
        """The query, percent-decoded."""
        return unquote_plus(self.query)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the server shall do wrong.

    Attributes:
        target: a regular expression, searched in "METHOD /bucket/key?query".
        action: "lose" does the work and drops the connection instead of answering, "truncate" drops it after
            half of the body, "refuse" answers `status` with `code` and does no work.
        times: to how many requests; -1 for all.
        skip: how many that match are served first.
        body: of a refusal, in place of the usual XML with `code` and `message`.
    """

    target: str
    action: str
    times: int = 1
    skip: int = 0
    status: int = 500
    code: str = "InternalError"
    message: str = "refused"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


class S3Server:
    """A simulated S3 on loopback."""

    def __init__(self, url: str) -> None:
        self.url = url

    def log(self) -> list[Request]:
        """Return every request so far."""
        return [Request(**entry) for entry in json.loads(self.request("GET", "_control/log"))]

    def set_faults(self, *faults: Fault) -> None:
        """Misbehave like that from now on, in place of what was set before."""
        self.request("POST", "_control/faults", json.dumps([asdict(fault) for fault in faults]).encode())

    def put_objects(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Lay thousands of objects into a bucket at once, by their full keys."""
        order = {"bucket": bucket, "objects": {key: data.decode("latin-1") for key, data in objects.items()}}
        self.request("POST", "_control/objects", json.dumps(order).encode())

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send one request past every client under test, unlogged and undisturbed; `path` is not yet quoted."""
        request = urllib.request.Request(f"{self.url}/{quote(path)}", data=body, method=method, headers=_OF_THE_TESTS)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.read()  # type: ignore[no-any-return]


class HttpLog:
    """The requests that reached the server since it was made or last cleared."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._seen = 0
        self.clear()

    def clear(self) -> None:
        """Forget what was seen so far."""
        self._seen = len(self._server.log())

    @property
    def requests(self) -> list[Request]:
        """The requests in the order of their arrival."""
        return self._server.log()[self._seen :]

    def count(self) -> Counter[str]:
        """Return how many requests there were, by method."""
        return Counter(request.method for request in self.requests)


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run a simulated S3 in a process of its own."""
    with subprocess.Popen(
        [sys.executable, str(_MOTO_APP)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield S3Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()
