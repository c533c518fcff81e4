"""Read the pages of a listing faster than botocore does: it takes 0.1 ms for a key, most of a long listing's time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

_NOTHING_LEFT = b"<ListBucketResult/>"


def read_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Read a page in place of botocore, as its event "before-parse" allows; leave it what is no page.

    Keys stay as the server encoded them: botocore decodes what it is given.
    """
    if response_dict["status_code"] != 200:
        return
    try:
        root = ET.fromstring(response_dict["body"])  # noqa: S314  # entities are not expanded from outside
        page = dict(_fields(root))
    except (ET.ParseError, KeyError, ValueError):
        return
    customized_response_dict.update(page)
    response_dict["body"] = _NOTHING_LEFT


def _fields(root: ET.Element) -> Iterator[tuple[str, Any]]:
    space = root.tag.removesuffix("ListBucketResult")
    if space == root.tag:
        raise ValueError(root.tag)
    yield "Contents", [_entry(found, space) for found in root.iter(f"{space}Contents")]
    yield (
        "CommonPrefixes",
        [{"Prefix": _text(found, space, "Prefix")} for found in root.iter(f"{space}CommonPrefixes")],
    )
    yield "IsTruncated", root.findtext(f"{space}IsTruncated", "false") == "true"
    for name in ("NextContinuationToken", "EncodingType"):
        if value := root.findtext(f"{space}{name}"):
            yield name, value


def _entry(found: ET.Element, space: str) -> dict[str, Any]:
    texts = {child.tag: child.text or "" for child in found}
    return {
        "Key": texts[f"{space}Key"],
        "Size": int(texts[f"{space}Size"]),
        "LastModified": datetime.fromisoformat(texts[f"{space}LastModified"]),
        "ETag": texts[f"{space}ETag"],
    }


def _text(found: ET.Element, space: str, name: str) -> str:
    return found.findtext(f"{space}{name}", "")
