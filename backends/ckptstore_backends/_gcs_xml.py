"""What only the XML interface knows: unfinished multipart uploads, and what is behind the answers to obstore.

https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

from ckptstore.errors import StoreUnavailable
from ckptstore.objects import ObjectInfo, Upload
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_crc32c import told_crc32c
from ckptstore_backends._gcs_http import Request
from ckptstore_backends._gcs_objects import remove_damaged

_PAGE = "1000"
_GONE = frozenset({404})


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


def _path(client: GCSClient, key: str) -> str:
    return f"{quote(client.bucket, safe='')}/{quote(client.full_key(key), safe='')}"


def _upload(client: GCSClient, entry: ET.Element) -> Upload:
    key = _text(entry, "Key").removeprefix(client.prefix)
    return Upload(key, _text(entry, "UploadId"), datetime.fromisoformat(_text(entry, "Initiated")))


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
