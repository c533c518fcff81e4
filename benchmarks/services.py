"""The servers that are measured against, each started for one comparison."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

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
        with _certificates() as (authority, server), _stub(["--tls", server]) as url:
            yield Service(url.replace("http:", "https:"), certificate=authority)
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
def _certificates() -> Iterator[tuple[str, str]]:
    """Make an authority, and a certificate for 127.0.0.1 with its key; the files of both."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "server")}
    now, encoding = datetime.now(UTC), serialization.Encoding.PEM

    def certificate(name: str, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=_named("authority"), subject_name=_named(name), public_key=keys[name].public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1), not_valid_after=now + timedelta(days=1),
        )  # fmt: skip
        signed = builder.add_extension(extension, critical=True).sign(keys["authority"], hashes.SHA256())
        return signed.public_bytes(encoding)

    secret = keys["server"].private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    with tempfile.TemporaryDirectory() as folder:
        authority, server = Path(folder) / "authority.pem", Path(folder) / "server.pem"
        authority.write_bytes(certificate("authority", x509.BasicConstraints(ca=True, path_length=None)))
        server.write_bytes(certificate("server", address) + secret)
        yield str(authority), str(server)


def _named(name: str) -> Any:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


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
