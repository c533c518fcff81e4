"""Where a store in a bucket lies: bucket and prefix, from a URL or given apart."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ckptstore.errors import InvalidKey, InvalidURL
from ckptstore.objects import check_prefix, redact

_MAX_FULL_KEY_BYTES = 1024
"""S3 and GCS take no longer ones."""


def parse_url(url: str, scheme: str, options: str) -> tuple[str, str]:
    """Return bucket and prefix ("" or ending in "/") of scheme://bucket/prefix.

    Args:
        url: as the user gave it.
        scheme: for the message.
        options: the names of those that credentials belong into, for the message.

    Raises:
        InvalidURL: naming what is wrong, without what may be a secret.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidURL(f"{redact(url)!r} came with credentials; pass them as {options}")
    if "?" in url or "#" in url:
        raise InvalidURL(
            f"{redact(url)!r} came with '?' or '#'; pass options by name, and leave both out of a prefix"
        )
    if not parts.netloc:
        raise InvalidURL(f"{url!r} names no bucket; write {scheme}://bucket/prefix")
    path = parts.path.strip("/")
    return parts.netloc, f"{path}/" if path else ""


def check_place(bucket: str, prefix: str, scheme: str, names: re.Pattern[str]) -> tuple[str, str]:
    """Return bucket and prefix, the latter "" or ending in "/".

    Args:
        bucket: its name.
        prefix: with or without the last "/".
        scheme: for the message.
        names: what a bucket may be called.

    Raises:
        InvalidURL: naming what is wrong.
    """
    if not isinstance(bucket, str) or not names.fullmatch(bucket):
        raise InvalidURL(f"{bucket!r} is no bucket name; write {scheme}://bucket/prefix")
    folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    try:
        return bucket, check_prefix(folder)
    except InvalidKey as error:
        raise InvalidURL(f"{prefix!r} cannot be the prefix of a store: {error}") from None


def full_key(prefix: str, key: str, url: str) -> str:
    """Return the key in the bucket.

    Raises:
        InvalidKey: too long; url is the store's, for the message.
    """
    full = prefix + key
    if len(full.encode()) > _MAX_FULL_KEY_BYTES:
        raise InvalidKey(f"key {key[:60]!r}... and the prefix of {url} have more than 1024 bytes; shorten one")
    return full
