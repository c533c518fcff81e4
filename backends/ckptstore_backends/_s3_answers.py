"""Read what S3 answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ckptstore.objects import ObjectInfo


def version_of(answer: Mapping[str, Any]) -> str:
    """Return the version of an object: its ETag, as listings, heads and writes all report it."""
    return str(answer["ETag"]).strip('"')


def quoted(version: str) -> str:
    """Return a version as HTTP's conditional headers want it."""
    return f'"{version}"'


def info_of_found(key: str, answer: Mapping[str, Any]) -> ObjectInfo:
    """Read the answer to a HEAD, or an entry of a listing."""
    size_bytes = answer["ContentLength"] if "ContentLength" in answer else answer["Size"]
    return ObjectInfo(key, size_bytes, answer["LastModified"], version_of(answer))


def info_of_written(key: str, size_bytes: int, answer: Mapping[str, Any]) -> ObjectInfo:
    """Read the answer to a write or copy: where it tells no time of its own, its Date is that of the object."""
    result = answer.get("CopyObjectResult", answer)
    modified = result.get("LastModified") or date_of(answer)
    return ObjectInfo(key, size_bytes, modified, version_of(result))


def date_of(answer: Mapping[str, Any]) -> datetime:
    """Return when the server answered, by its clock; by this machine's where it does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)
