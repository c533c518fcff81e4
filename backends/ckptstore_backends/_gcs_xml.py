"""What only the XML interface knows: unfinished multipart uploads, and what is behind the answers to obstore.

https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

from ckptstore.errors import StoreError, StoreUnavailable
from ckptstore.objects import ObjectInfo, Upload
from ckptstore_backends._gcs_answers import Answer
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_crc32c import told_crc32c
from ckptstore_backends._gcs_http import Request
from ckptstore_backends._gcs_objects import remove_damaged
from ckptstore_backends._orphans import Beginning, watched

_PAGE = "1000"
_GONE = frozenset({404})
_LIMIT_S = 10.0
_MARGIN_S = 2.0  # Date has whole seconds


def uploads(client: GCSClient, prefix: str) -> Iterator[Upload]:
    """Yield the unfinished uploads under a prefix; their keys are relative to the store."""
    query = {"uploads": "", "prefix": client.prefix + prefix, "max-uploads": _PAGE}
    asked = client.asked("list uploads")
    while True:
        answer = client.call(Request("GET", quote(client.bucket, safe=""), query), asked)
        try:
            page = ET.fromstring(bytes(answer.body))  # noqa: S314  # from the store; expat bounds what entities may do
        except ET.ParseError as error:
            raise StoreUnavailable(f"cannot {asked}: the answer is not XML; check endpoint_url") from error
        for entry in page.iterfind("{*}Upload"):
            yield _upload(client, entry)
        if _text(page, "IsTruncated") != "true":
            return
        query["key-marker"] = _text(page, "NextKeyMarker")
        query["upload-id-marker"] = _text(page, "NextUploadIdMarker")


def abort(client: GCSClient, key: str, upload_id: str) -> None:
    """Abort one upload; one that is gone already is no error."""
    request = Request("DELETE", _path(client, key), {"uploadId": upload_id}, accepts=_GONE)
    client.call(request, client.asked("abort the upload of", key))


def check_bytes(client: GCSClient, info: ObjectInfo, crc32c: str) -> None:
    """Remove an object whose bytes were damaged on the way, unless it was replaced meanwhile.

    Raises:
        Damaged: it was removed.
    """
    asked = client.asked("put", info.key)
    answer = client.call(Request("HEAD", _path(client, info.key), accepts=_GONE), asked)
    told = told_crc32c(answer.headers.get("x-goog-hash", crc32c))
    if answer.headers.get("x-goog-generation") == info.version and told not in {"", crc32c}:
        remove_damaged(client, info.key, info.version)


def watched_upload(client: GCSClient, key: str) -> AbstractContextManager[Beginning]:
    """Watch one upload, as a context; see `ckptstore_backends._orphans.watched`."""

    def remove(seconds: float) -> None:
        with suppress(StoreError):  # there may be no right to list; a rule of the bucket removes them
            _remove_begun(client, key, seconds)

    return watched((client.bucket, client.full_key(key)), remove)


def _remove_begun(client: GCSClient, key: str, seconds: float) -> None:
    """Abort the uploads of an object that were begun since then and have no part: nobody else was told of them."""
    query = {"uploads": "", "prefix": client.full_key(key), "max-uploads": _PAGE}
    answer = _soon(client, Request("GET", quote(client.bucket, safe=""), query), key)
    since = parsedate_to_datetime(answer.headers["date"]) - timedelta(seconds=seconds + _MARGIN_S)
    for entry in ET.fromstring(bytes(answer.body)).iterfind("{*}Upload"):  # noqa: S314  # as above
        upload = _upload(client, entry)
        if upload.key == key and upload.started >= since and not _has_parts(client, upload):
            abort(client, key, upload.upload_id)


def _has_parts(client: GCSClient, upload: Upload) -> bool:
    request = Request("GET", _path(client, upload.key), {"uploadId": upload.upload_id, "max-parts": "1"})
    answer = _soon(client, request, upload.key)
    return ET.fromstring(bytes(answer.body)).find("{*}Part") is not None  # noqa: S314  # as above


def _soon(client: GCSClient, request: Request, key: str) -> Answer:
    return client.run(client.request(request, client.asked("look for uploads of", key), deadline_s=_LIMIT_S))


def _path(client: GCSClient, key: str) -> str:
    return f"{quote(client.bucket, safe='')}/{quote(client.full_key(key), safe='')}"


def _upload(client: GCSClient, entry: ET.Element) -> Upload:
    key = _text(entry, "Key").removeprefix(client.prefix)
    return Upload(key, _text(entry, "UploadId"), datetime.fromisoformat(_text(entry, "Initiated")))


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
