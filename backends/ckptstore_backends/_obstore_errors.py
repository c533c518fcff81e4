"""What obstore says of a failure, reduced to what decides.

obstore has a class for a handful of failures and one for all others; status and error code of the server's
answer stand only in the text. The text also holds URLs and a dump of internals, so none of it is passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# As object_store writes it, between the key and a debug dump:
# "... Error performing GET URL in 1ms - Server returned non-2xx status code: 404 Not Found: <body>"
_ANSWER = re.compile(
    r"Server returned non-2xx status code: (?P<status>\d{3})[^:]*:(?P<body>.*?)(?:\n\nDebug|$)", re.DOTALL
)
_ERROR_IN_OK = re.compile(r"Server returned error response: (?P<body>.*?)(?:\n\nDebug|$)", re.DOTALL)
_CODE = re.compile(r"<Code>(?P<code>\w{1,64})</Code>")
_REGION = re.compile(r"<Region>(?P<region>[a-z0-9-]{1,32})</Region>")
_UPLOAD = re.compile(r"[?&]uploadId=(?P<id>[A-Za-z0-9._~%+/=-]+)")
_REDIRECTED = "Received redirect without LOCATION"


@dataclass(frozen=True, slots=True)
class ObstoreFailure:
    """One failed request.

    Attributes:
        status: of HTTP; 0 when no answer came.
        code: the server's own, "" when it gave none (a HEAD has no body).
        region: where the server says the bucket is, or "".
        upload_id: of the multipart upload that it was part of, percent-encoded, or "".
        kind: the name of obstore's class, for a report.
    """

    status: int
    code: str
    region: str
    upload_id: str
    kind: str


def expected_failures() -> tuple[type[BaseException], ...]:
    """Return the classes that obstore raises for failed requests."""
    from obstore.exceptions import BaseError

    return (BaseError, FileNotFoundError, NotImplementedError)


def failure_of(error: BaseException, path: str) -> ObstoreFailure:
    """Read an error of obstore.

    Args:
        error: one of `expected_failures`.
        path: the key that was asked for, so that its own text is not read for an answer.
    """
    text = str(error).replace(path, "") if path else str(error)
    answer = _ANSWER.search(text) or _ERROR_IN_OK.search(text)
    body = answer["body"] if answer else ""
    return ObstoreFailure(
        status=_status(error, text, answer),
        code=_first(_CODE, "code", body),
        region=_first(_REGION, "region", body),
        upload_id=_first(_UPLOAD, "id", text),
        kind=type(error).__name__,
    )


def _status(error: BaseException, text: str, answer: re.Match[str] | None) -> int:
    from obstore import exceptions

    if answer and "status" in answer.re.groupindex:
        return int(answer["status"])
    if _REDIRECTED in text:
        return 301
    by_class = {
        FileNotFoundError: 404,
        exceptions.AlreadyExistsError: 412,
        exceptions.PreconditionError: 412,
        exceptions.PermissionDeniedError: 403,
        exceptions.UnauthenticatedError: 401,
    }
    return next((status for kind, status in by_class.items() if isinstance(error, kind)), 0)


def _first(pattern: re.Pattern[str], group: str, text: str) -> str:
    found = pattern.search(text)
    return found[group] if found else ""
