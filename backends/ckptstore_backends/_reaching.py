"""Whether a server can be reached at all, which clients that try again for minutes say late."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from contextlib import closing
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_TRUST = "set AWS_CA_BUNDLE, or client_kwargs={'verify': FILE}, to the file of the authority that signed it"


def obstacle(url: str, timeout_s: float, *, authorities: str | None = None) -> str:
    """Connect once, and say what is in the way: "" when nothing is, or when a proxy stands between.

    Args:
        url: any of the server.
        timeout_s: for each of its addresses.
        authorities: file of the certificates that an https server's has to come from; None does not look at it.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
    if _has_proxy(parts.scheme, host):
        return ""
    try:
        with closing(socket.create_connection((host, port), timeout_s)) as connection:
            if authorities is not None and parts.scheme == "https":
                return _distrust(connection, host, authorities)
            return ""
    except socket.gaierror as error:
        return f"the name {host!r} cannot be looked up ({error.strerror}); check endpoint_url, DNS and the network"
    except OSError as error:
        why = error.strerror or type(error).__name__
        return f"no connection to {host}:{port} ({why}); check endpoint_url and the network"


def _distrust(connection: socket.socket, host: str, authorities: str) -> str:
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        return f"the authorities in {authorities!r} cannot be read ({error.strerror or error}); {_TRUST}"
    try:
        context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {host} is not trusted ({error.verify_message}); {_TRUST}"
    except OSError:  # whatever else is wrong, the request itself will say
        return ""
    return ""


def _has_proxy(scheme: str, host: str) -> bool:
    return bool(urllib.request.getproxies().get(scheme)) and not urllib.request.proxy_bypass(host)
