"""The storage options of a GCS store, checked when it is opened."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from ckptstore.errors import InvalidURL, MissingDependency
from ckptstore.objects import redact
from ckptstore_backends import _bucket_address
from ckptstore_backends._memory import memory_of
from ckptstore_backends._obstore_process import installed

Bulk: TypeAlias = Literal["obstore", "gcsfs"]

_ENGINES: tuple[Bulk, ...] = ("obstore", "gcsfs")
_OF_THIS_STORE = frozenset({"bulk", "deadline_s", "atomic_create", "memory_bytes"})
_DEADLINE_S = 180.0
_OURS = frozenset({"self", "kwargs", "asynchronous", "loop"})
_READ_BY_OBSTORE = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY")
_OF_FSSPEC = frozenset({"use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"})
_ACCESS = frozenset({"read_only", "read_write", "full_control"})

# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class GCSOptions:
    """What a store was opened with.

    Attributes:
        bulk: what moves the bytes of objects.
        deadline_s: how long a request may go on failing, or be silent.
        atomic_create: whether the server keeps preconditions.
        memory_bytes: how much one transfer may hold.
        filesystem: the storage options of gcsfs, as given.
    """

    bulk: Bulk
    deadline_s: float
    atomic_create: bool
    memory_bytes: int
    filesystem: Mapping[str, Any] = field(repr=False)

    @property
    def on_google(self) -> bool:
        """Whether the server is Google's own, not an emulator."""
        return _on_google(self.filesystem)


def checked_options(options: Mapping[str, Any]) -> GCSOptions:
    """Return the options if gcsfs, or this backend, knows all of them.

    Caching options of fsspec are accepted and overruled, since nothing may be cached.

    Raises:
        TypeError: naming an unknown one.
        ValueError: for a value that cannot be, or options that contradict each other.
        InvalidURL: for an endpoint with credentials in it.
        MissingDependency: gcsfs, google-crc32c, or the obstore that was asked for, is not installed.
    """
    known = known_options()
    if unknown := sorted(set(options) - known - _OF_FSSPEC):
        raise TypeError(f"unknown storage option {unknown[0]!r} for gs (known: {', '.join(sorted(known))})")
    given = {name: value for name, value in options.items() if name not in _OF_FSSPEC}
    _check_values(given)
    _check_packages(given)
    return GCSOptions(
        bulk=given.get("bulk") or _engine(given),
        deadline_s=float(given.get("deadline_s", _DEADLINE_S)),
        atomic_create=bool(given.get("atomic_create", True)),
        memory_bytes=memory_of(given),
        filesystem={name: value for name, value in given.items() if name not in _OF_THIS_STORE},
    )


def known_options() -> frozenset[str]:
    """Return the options that this backend takes."""
    return (frozenset(inspect.signature(filesystem_class().__init__).parameters) | _OF_THIS_STORE) - _OURS


def filesystem_class() -> Any:
    """Return the class of gcsfs that speaks HTTP only.

    The class that gcsfs exports asks each bucket over gRPC whether it is hierarchical or zonal, which takes a minute
    where gRPC does not get through. What it adds concerns calls that this backend does not make.
    """
    try:
        from gcsfs.core import GCSFileSystem
    except ImportError as error:
        raise MissingDependency(
            "the backend for 'gs' needs gcsfs; install it with: pip install 'ckptstore[gcs]'"
        ) from error
    return GCSFileSystem


def _check_values(given: Mapping[str, Any]) -> None:
    if (access := given.get("access", "full_control")) not in _ACCESS:
        raise ValueError(f"access={access!r} is none of {', '.join(sorted(_ACCESS))}")
    if (bulk := given.get("bulk")) not in {None, *_ENGINES}:
        raise ValueError(f"bulk={bulk!r} is none of {', '.join(_ENGINES)}; leave it out for the default")
    if given.get("token") == "anon" and given.get("requester_pays"):
        raise ValueError("requester_pays needs an account to bill: pass another token than 'anon'")
    _check_token(given.get("token"))
    _check_endpoint(given.get("endpoint_url"))


def _check_packages(given: Mapping[str, Any]) -> None:
    needed = {"google_crc32c": True, "obstore": given.get("bulk") == "obstore"}
    for name, is_needed in needed.items():
        if is_needed and not installed(name):
            package = name.replace("_", "-")
            raise MissingDependency(
                f"the backend for 'gs' needs {package}; install it with: pip install 'ckptstore[gcs]'"
            )


def _check_token(token: object) -> None:
    # gcsfs takes a path that does not exist for an access token, and sends it to Google
    if isinstance(token, str) and token.endswith(".json") and not Path(token).exists():
        raise ValueError(f"token= names the file {token!r}, which does not exist; correct the path")


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise InvalidURL(f"endpoint_url {redact(endpoint)!r} holds credentials; pass them as token=")
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
        raise InvalidURL(f"endpoint_url {redact(endpoint)!r} is not of the form https://host:port")


def _engine(given: Mapping[str, Any]) -> Bulk:
    """Choose from the settings alone: where obstore would not get through, gcsfs does it."""
    if not installed():
        return "gcsfs"
    # obstore takes these for the path or the text of a key, and fails on anything else
    misleading = any(name in os.environ for name in _READ_BY_OBSTORE)
    only_gcsfs = misleading or given.get("session_kwargs") or not _on_google(given) or _has_client_certificate()
    return "gcsfs" if only_gcsfs else "obstore"


def _on_google(given: Mapping[str, Any]) -> bool:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "default")
    endpoint = given.get("endpoint_url") or (emulator if emulator not in {"", "default"} else None)
    return endpoint is None or str(urlsplit(endpoint).hostname).endswith(".googleapis.com")


def _has_client_certificate() -> bool:
    from gcsfs import core

    found: bool = core._use_client_cert()  # noqa: SLF001  # tokens bound to a certificate work over mutual TLS only
    return found


def parse_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of gs://bucket/prefix; raises as `_bucket_address.parse_url`."""
    return _bucket_address.parse_url(url, "gs", "token=")


def check_place(bucket: str, prefix: str) -> tuple[str, str]:
    """Return bucket and prefix, the latter "" or ending in "/"; raises as `_bucket_address.check_place`."""
    return _bucket_address.check_place(bucket, prefix, "gs", _BUCKET)
