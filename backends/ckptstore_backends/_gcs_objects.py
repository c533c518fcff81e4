"""Single objects through the JSON interface: what they are, and storing one in one request."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import quote

from ckptstore.errors import KeyNotFound, ObjectChanged
from ckptstore.objects import ObjectInfo
from ckptstore_backends._gcs_answers import FIELDS, info_of
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_crc32c import crc32c_of
from ckptstore_backends._gcs_errors import Asked, missing_bucket
from ckptstore_backends._gcs_http import Request
from ckptstore_backends._transfer import Damaged, Head

_GONE = frozenset({404, 410})
_DENIED_OR_MISSING = frozenset({401, 403, 404})


def head(client: GCSClient, key: str) -> Head:
    """Ask about one object. An answer 404 does not tell bucket from key, so the bucket is asked for."""
    asked = client.asked("stat", key)
    try:
        found = client.json(Request("GET", client.object_path(key), {"fields": FIELDS}), asked)
    except KeyNotFound:
        client.run(check_bucket(client, asked))
        raise
    metadata = {name.lower(): text for name, text in found.get("metadata", {}).items()}
    return Head(info_of(key, found), metadata)


def stat(client: GCSClient, key: str) -> ObjectInfo:
    """Return what the store says of one object."""
    return head(client, key).info


async def check_bucket(client: GCSClient, asked: Asked) -> None:
    """Raise StoreNotFound if the bucket is missing. Listing it needs no other right than stores need anyway."""
    query = {"maxResults": "1", "fields": "kind"}
    request = Request("GET", f"{client.bucket_path}/o", query, accepts=_DENIED_OR_MISSING)
    if (await client.request(request, asked)).status == 404:
        raise missing_bucket(asked)


def insert(
    client: GCSClient, key: str, views: tuple[memoryview, ...], metadata: Mapping[str, str], **preconditions: str
) -> ObjectInfo:
    """Store an object with one request.

    Raises:
        ObjectChanged: a precondition does not hold.
    """
    asked = client.asked("put", key)
    crc32c = crc32c_of(views)
    described = json.dumps({**description(client, key, metadata), "crc32c": crc32c})
    boundary = secrets.token_hex(16)
    before = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    body = (memoryview(before.encode()), *views, memoryview(f"\r\n--{boundary}--\r\n".encode()))
    headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
    query = {"uploadType": "multipart", "fields": FIELDS, **preconditions}
    stored = client.json(Request("POST", upload_path(client), query, headers, body), asked.of_bucket())
    return checked(client, key, stored, crc32c)


def upload_path(client: GCSClient) -> str:
    """Return where objects are stored in the JSON interface."""
    return f"upload/storage/v1/b/{quote(client.bucket, safe='')}/o"


def description(client: GCSClient, key: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what goes before the bytes of a new object."""
    return {"name": client.full_key(key), "contentType": "application/octet-stream", "metadata": dict(metadata)}


def checked(client: GCSClient, key: str, stored: Mapping[str, Any], crc32c: str) -> ObjectInfo:
    """Return what was stored, unless its bytes were damaged on the way: then remove it."""
    if stored.get("crc32c", crc32c) != crc32c:
        remove_damaged(client, key, str(stored["generation"]))
    return info_of(key, stored)


def remove_damaged(client: GCSClient, key: str, version: str) -> NoReturn:
    """Remove an object that is not what was sent.

    Raises:
        Damaged: it is gone.
    """
    asked = client.asked("put", key)
    with suppress(ObjectChanged):  # replaced meanwhile
        request = Request("DELETE", client.object_path(key), {"ifGenerationMatch": version}, accepts=_GONE)
        client.call(request, asked)
    raise Damaged(f"cannot {asked}: the bytes were damaged on the way, and were removed again; put it again")
