"""The storage options of an S3 store, checked when it is opened, and the filesystem made from them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ckptstore.errors import MissingDependency
from ckptstore_backends import _bucket_address
from ckptstore_backends._memory import memory_of
from ckptstore_backends._retries import RetryPolicy
from ckptstore_backends._s3_checks import check_names, check_values

_OURS = frozenset({"self", "kwargs", "asynchronous", "loop"})
_OF_THE_SESSION = frozenset({"profile"})
_OF_THIS_STORE = frozenset({"deadline_s", "atomic_create", "memory_bytes"})
_OF_FSSPEC = frozenset({"use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"})

# The name of a bucket, or the ARN of an access point: what botocore takes for Bucket.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[^\s?#@]+")

_DEADLINE_S = 180.0


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options if s3fs knows all of them.

    Caching options of fsspec are accepted and overruled, since nothing may be cached.

    Raises:
        TypeError: naming an unknown one, also inside client_kwargs, config_kwargs and s3_additional_kwargs.
        ValueError: for a value that cannot be.
        InvalidURL: for an endpoint without scheme, or with credentials in it.
        MissingDependency: s3fs is not installed.
    """
    known = known_options()
    given = {name: value for name, value in options.items() if name not in _OF_FSSPEC}
    check_names(given, known)
    check_values(given)
    memory_of(given)
    _check_deadline(given.get("deadline_s", _DEADLINE_S))
    return given


def _check_deadline(given: Any) -> None:
    with suppress(TypeError, ValueError):
        if float(given) > 0:
            return
    raise ValueError(f"deadline_s is {given!r}; give seconds above 0")


def known_options() -> frozenset[str]:
    """Return the options that s3fs and its session take."""
    return (
        frozenset(inspect.signature(_filesystem_class().__init__).parameters) | _OF_THE_SESSION | _OF_THIS_STORE
    ) - _OURS


def new_filesystem(options: Mapping[str, Any]) -> Any:
    """Return a filesystem of its own; it connects on first use, in the event loop that uses it.

    s3fs's retries are switched off: botocore has its own beneath (AWS_MAX_ATTEMPTS, AWS_RETRY_MODE), and both
    together try 25 times.

    Raises:
        ValueError: options that contradict each other.
    """
    config = {"read_timeout": policy_of(options).silence_s, **(options.get("config_kwargs") or {})}
    fixed = {"asynchronous": True, "use_listings_cache": False, "skip_instance_cache": True}
    try:
        of_s3fs = {name: value for name, value in options.items() if name not in _OF_THIS_STORE}
        filesystem = _filesystem_class()(**{**of_s3fs, "config_kwargs": config, **fixed})
    except KeyError as error:  # what s3fs raises for key= beside username=
        raise ValueError(error.args[0]) from None
    filesystem.retries = 1
    return filesystem


def policy_of(options: Mapping[str, Any]) -> RetryPolicy:
    """Return how long a request is tried."""
    return RetryPolicy(float(options.get("deadline_s", _DEADLINE_S)))


def parse_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of s3://bucket/prefix; raises as `_bucket_address.parse_url`."""
    return _bucket_address.parse_url(url, "s3", "key= and secret=")


def check_place(bucket: str, prefix: str) -> tuple[str, str]:
    """Return bucket and prefix, the latter "" or ending in "/"; raises as `_bucket_address.check_place`."""
    return _bucket_address.check_place(bucket, prefix, "s3", _BUCKET)


def _filesystem_class() -> Any:
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise MissingDependency(
            "the backend for 's3' needs s3fs; install it with: pip install 'ckptstore[s3]'"
        ) from error
    return S3FileSystem
