"""Whether a server can be reached at all, which clients that try again for minutes say late."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import closing
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def obstacle(url: str, timeout_s: float) -> str:
    """Connect once, and say what is in the way: "" when nothing is, or when a proxy stands between.

    Args:
        url: any of the server.
        timeout_s: for each of its addresses.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
    if _has_proxy(parts.scheme, host):
        return ""
    try:
        with closing(socket.create_connection((host, port), timeout_s)):
            return ""
    except socket.gaierror as error:
        return f"the name {host!r} cannot be looked up ({error.strerror}); check endpoint_url, DNS and the network"
    except OSError as error:
        why = error.strerror or type(error).__name__
        return f"no connection to {host}:{port} ({why}); check endpoint_url and the network"


def _has_proxy(scheme: str, host: str) -> bool:
    return bool(urllib.request.getproxies().get(scheme)) and not urllib.request.proxy_bypass(host)
