"""The servers that are measured against, each started for one comparison."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STUB = Path(__file__).with_name("stub_s3.py")


@dataclass(frozen=True, slots=True)
class Service:
    """Where a bucket is.

    Attributes:
        url: of the server, "" for the disk.
        bucket: on it.
        kept: False where it throws away what it is sent.
        certificate: file of the certificate that a client has to trust, "" for plain http.
    """

    url: str = ""
    bucket: str = "bucket"
    kept: bool = True
    certificate: str = ""


@contextmanager
def running(name: str) -> Iterator[Service]:
    """Run a server by name; "disk" is none.

    Args:
        name: "stub", "stub discarding", "stub 20 ms", "stub over TLS", "seaweedfs", "gcs emulator" or "disk".
    """
    if name == "disk":
        yield Service()
    elif name == "stub over TLS":
        from tests.tls import certificates_for_loopback

        with tempfile.TemporaryDirectory() as folder:
            made = certificates_for_loopback(Path(folder))
            with _stub(["--tls", str(made.server)]) as url:
                yield Service(url.replace("http:", "https:"), certificate=str(made.authority))
    elif name.startswith("stub"):
        with _stub(_STUB_ARGUMENTS[name]) as url:
            yield Service(url, kept=name != "stub discarding")
    elif name == "seaweedfs":
        from tests.seaweedfs import seaweedfs

        with seaweedfs() as server:
            yield Service(server.url, server.new_bucket())
    else:
        from tests.fake_gcs import fake_gcs_server

        with fake_gcs_server() as emulator:
            yield Service(emulator.url, emulator.new_bucket())


_STUB_ARGUMENTS = {"stub": [], "stub discarding": ["--discard"], "stub 20 ms": ["--latency", "0.02"]}


@contextmanager
def _stub(arguments: Sequence[str]) -> Iterator[str]:
    command = [sys.executable, str(_STUB), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
