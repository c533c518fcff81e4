"""How messages say what was asked of S3."""

from __future__ import annotations

_WORDS = {
    "get_object": "get",
    "head_object": "stat",
    "head": "stat",
    "put_object": "put",
    "copy_object": "copy to",
    "delete_objects": "delete",
    "list_objects_v2": "list",
    "list_multipart_uploads": "list uploads",
    "head_bucket": "look for the bucket",
    "create_multipart_upload": "begin an upload of",
    "upload_part": "put a part of",
    "upload_part_copy": "copy a part to",
    "complete_multipart_upload": "complete the upload of",
    "abort_multipart_upload": "abort the upload of",
    "list_parts": "list the parts of",
}


def asked_of(method: str, key: str | None) -> str:
    """Return what was asked for, as "get 'a/b'".

    Args:
        method: of the botocore client, or of obstore.
        key: the object that it was about; None for the bucket.
    """
    return _WORDS.get(method, method.replace("_", " ")) + (f" {key!r}" if key is not None else "")
