"""Certificates of an authority that nobody knows, and a tunnel that speaks https for a server that does not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files: the authority's certificate, and the server's with its key."""

    authority: Path
    server: Path


def certificates_for_loopback(folder: Path) -> Certificates:
    """Make an authority, and let it sign a certificate for 127.0.0.1."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "server")}
    now = datetime.now(UTC)

    def signed(name: str, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=_named("authority"), subject_name=_named(name), public_key=keys[name].public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1), not_valid_after=now + timedelta(days=1),
        )  # fmt: skip
        return (
            builder.add_extension(extension, critical=True)
            .sign(keys["authority"], hashes.SHA256())
            .public_bytes(_PEM)
        )

    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    secret = keys["server"].private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = Certificates(folder / "authority.pem", folder / "server.pem")
    made.authority.write_bytes(signed("authority", x509.BasicConstraints(ca=True, path_length=None)))
    made.server.write_bytes(signed("server", address) + secret)
    return made


@contextmanager
def tls_in_front_of(url: str, certificates: Certificates) -> Iterator[str]:
    """Give a server of plain http an https address as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    behind = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = (str(behind.hostname), behind.port or 80)
        threading.Thread(target=_accept, args=(listener, context, address), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, context: ssl.SSLContext, address: tuple[str, int]) -> None:
    with suppress(OSError):  # the listener was closed
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_tunnel, args=(client, context, address), daemon=True).start()


def _tunnel(client: socket.socket, context: ssl.SSLContext, address: tuple[str, int]) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(client, server_side=True) as front,
        socket.create_connection(address) as back,
    ):
        answers = threading.Thread(target=_pass_on, args=(back, front), daemon=True)
        answers.start()
        _pass_on(front, back)
        answers.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
