"""Unfinished multipart uploads, which only the XML interface knows.

https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

from ckptstore.errors import StoreUnavailable
from ckptstore.objects import Upload
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_http import Request

_PAGE = "1000"


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
    path = f"{quote(client.bucket, safe='')}/{quote(client.full_key(key), safe='')}"
    request = Request("DELETE", path, {"uploadId": upload_id}, accepts=frozenset({404}))
    client.call(request, client.asked("abort the upload of", key))


def _upload(client: GCSClient, entry: ET.Element) -> Upload:
    key = _text(entry, "Key").removeprefix(client.prefix)
    return Upload(key, _text(entry, "UploadId"), datetime.fromisoformat(_text(entry, "Initiated")))


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
