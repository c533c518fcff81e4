"""What botocore shall do differently."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ckptstore_backends._s3_listing import read_page
from ckptstore_backends._s3_session import connected


async def adapt(filesystem: Any, method: str) -> None:
    """Have botocore do two things differently, in whichever client s3fs has made."""
    if method not in _ADAPTED:
        return
    client = await connected(filesystem)
    event, handler = _ADAPTED[method]
    client.meta.events.register(event, handler, unique_id=event)


def _add_md5(request: Any, **_: Any) -> None:
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


_ADAPTED: Mapping[str, tuple[str, Callable[..., None]]] = {
    # servers older than flexible checksums insist on Content-MD5 for a multiple delete
    "delete_objects": ("before-sign.s3.DeleteObjects", _add_md5),
    # under this name it runs before botocore's own look for an error in the page, which parses all of it
    "list_objects_v2": ("before-parse.*.ListObjectsV2", read_page),
}
