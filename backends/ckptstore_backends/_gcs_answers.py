"""Read what GCS answers.

The object resource: https://cloud.google.com/storage/docs/json_api/v1/objects#resource
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ckptstore.objects import ObjectInfo

FIELDS = "name,size,generation,timeCreated,crc32c,md5Hash,metadata"
"""What `info_of` and a writer's mark need of an object resource: the rest would be most of the answer."""

_XML_CODE = re.compile(rb"<Error>.*<Code>(?P<code>\w{1,64})</Code>", re.DOTALL)
_CHECKSUMS = {"crc32c": "crc32c", "md5Hash": "md5"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end.

    Attributes:
        status: the code.
        headers: by lower-case name.
        body: its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: memoryview

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; raises ValueError for anything else."""
        found = json.loads(bytes(self.body))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004  # as json.loads says of other nonsense
        return found

    @property
    def reason(self) -> str:
        """The code of the first error that the body tells, of either interface, else ""."""
        try:
            errors = self.json()["error"]["errors"]
            return str(errors[0]["reason"])
        except (ValueError, LookupError, TypeError):
            return _xml_code(self.body)


def _xml_code(body: memoryview) -> str:
    found = _XML_CODE.search(body)
    return found["code"].decode() if found else ""


def info_of(key: str, resource: Mapping[str, Any]) -> ObjectInfo:
    """Read an object resource."""
    return ObjectInfo(
        key,
        int(resource["size"]),
        datetime.fromisoformat(resource["timeCreated"]),
        str(resource["generation"]),
        {name: digest for field, name in _CHECKSUMS.items() if (digest := _hex(resource.get(field)))},
    )


def _hex(encoded: str | None) -> str:
    try:
        return base64.b64decode(encoded or "", validate=True).hex()
    except binascii.Error:
        return ""
