"""Remove uploads whose beginning was not answered.

S3 lists an upload without any trace of its writer. These are taken for such: uploads of the very key, begun while
this process asked for one and, when that ended, still without a part. A writer in another process that begins to
write the same key in the same seconds could lose its upload by this, before it has sent anything: it is told so, and
a store of this library begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Any

from ckptstore.errors import StoreError
from ckptstore_backends._loop_thread import result_of
from ckptstore_backends._orphans import Beginning, watched
from ckptstore_backends._s3_answers import date_of
from ckptstore_backends._s3_client import S3Client

_LIMIT_S = 10.0  # the put that went before may have failed because nothing gets through
_MARGIN_S = 2.0  # both times are told in whole seconds


def watched_upload(client: S3Client, key: str) -> AbstractContextManager[Beginning]:
    """Watch one upload, as a context; see `ckptstore_backends._orphans.watched`."""

    def remove(seconds: float) -> None:
        with suppress(StoreError, TimeoutError):  # there may be no right to list; a rule of the bucket removes them
            result_of(client.submit(_removed(client, key, seconds)))

    return watched(client.address(key), remove)


async def _removed(client: S3Client, key: str, seconds: float) -> None:
    async with asyncio.timeout(min(_LIMIT_S, client.policy.deadline_s)):
        answer = await client.request("list_multipart_uploads", Prefix=client.full_key(key))
        since = date_of(answer) - timedelta(seconds=seconds + _MARGIN_S)
        for upload_id in _begun(answer.get("Uploads", ()), client.full_key(key), since):
            parts = await client.request("list_parts", key=key, UploadId=upload_id)
            if not parts.get("Parts"):
                await client.request("abort_multipart_upload", key=key, UploadId=upload_id)


def _begun(uploads: Iterable[Mapping[str, Any]], full_key: str, since: Any) -> list[str]:
    return [upload["UploadId"] for upload in uploads if upload["Key"] == full_key and upload["Initiated"] >= since]
