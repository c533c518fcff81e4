"""Turn what GCS answers, and what its clients raise, into ckptstore's errors, by status, reason or class.

Statuses and reasons: https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ckptstore.errors import (
    AccessDenied,
    KeyNotFound,
    ObjectChanged,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore_backends._transfer import Damaged, RangePastEnd, Unanswered

SET_CREDENTIALS = (
    "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run: gcloud auth application-default login, or pass token="
)
"""What to do where there are none."""


class NoAnswer(Unanswered):
    """A request went out, perhaps, and no whole answer came: whether it was carried out is not known."""


class UploadLost(StoreUnavailable):
    """An upload came to nothing, and nothing of it is published: begun once more, it may succeed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as messages say it.

    Attributes:
        what: such as "get 'a/b'".
        place: the store, without credentials.
        of_key: whether it is about one object, so that a 404 means that one.
    """

    what: str
    place: str
    of_key: bool = True

    def __str__(self) -> str:
        return f"{self.what} in {self.place}"

    def of_bucket(self) -> Asked:
        """Return the same, where a 404 means the bucket."""
        return Asked(self.what, self.place, of_key=False)


_MORE_RIGHTS = (
    "give this account a role such as roles/storage.objectUser on the bucket "
    "(without storage.objects.list a missing key is denied too)"
)
_BY_REASON: Mapping[str, tuple[type[StoreError], str]] = {
    "rateLimitExceeded": (StoreUnavailable, ""),
    "userRateLimitExceeded": (StoreUnavailable, ""),
    "quotaExceeded": (StoreUnavailable, "raise the quota of the project"),
    "storageQuotaExceeded": (StoreFull, "raise the quota of the project"),
    "userProjectMissing": (AccessDenied, "the requester pays for this bucket; set requester_pays=True and project="),
    "userProjectAccountProblem": (AccessDenied, "the project to be billed has no valid billing account"),
    "BadDigest": (Damaged, "the bytes were damaged on the way; put it again"),
    "accountDisabled": (AccessDenied, "ask the owner of the project"),
}
_BY_STATUS: Mapping[int, tuple[type[StoreError], str]] = {
    401: (AccessDenied, f"the store refuses these credentials; {SET_CREDENTIALS}"),
    403: (AccessDenied, _MORE_RIGHTS),
    412: (ObjectChanged, ""),
    416: (RangePastEnd, ""),
    408: (StoreUnavailable, ""),
    429: (StoreUnavailable, ""),
    507: (StoreFull, ""),
}
_MISSING_BUCKET = "create the bucket, or correct its name"


def expected_errors() -> tuple[type[BaseException], ...]:
    """Return the classes that `without_answer` understands; anything else is a mistake of ours."""
    import aiohttp
    import requests
    from gcsfs.retry import HttpError, NonRetryableError
    from google.auth.exceptions import GoogleAuthError

    return (
        aiohttp.ClientError, requests.RequestException, GoogleAuthError, HttpError, NonRetryableError,
        asyncio.TimeoutError, TimeoutError, OSError,
    )  # fmt: skip


def judged(status: int, reason: str, asked: Asked, *, anonymous: bool) -> StoreError:
    """Return the error that an answer stands for.

    Args:
        status: of HTTP.
        reason: the store's own code, or "".
        asked: for the message.
        anonymous: whether it was asked without credentials.
    """
    kind, advice = _kind(status, reason, asked)
    if anonymous and status in {401, 403} and kind is AccessDenied:
        advice = f"the request went without credentials; {SET_CREDENTIALS}"
    return kind(f"cannot {asked}: {reason and reason + ', '}HTTP {status}{advice and '; ' + advice}")


def _kind(status: int, reason: str, asked: Asked) -> tuple[type[StoreError], str]:
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    if status == 404:
        return (KeyNotFound, "no such object") if asked.of_key else (StoreNotFound, _MISSING_BUCKET)
    return _BY_STATUS.get(status, (StoreUnavailable if status >= 500 else StoreError, ""))


def without_answer(error: BaseException, asked: Asked, server: str = "") -> StoreError:
    """Return the error for one that came without an answer of the store: no credentials, or no connection.

    Args:
        error: what was raised.
        asked: for the message.
        server: host and port that should have answered.
    """
    if isinstance(error, StoreError):
        return error
    import requests
    from gcsfs.retry import HttpError, NonRetryableError
    from google.auth import exceptions as auth

    name = type(error).__name__
    if isinstance(error, auth.TransportError | auth.TimeoutError | requests.RequestException):
        return StoreUnavailable(f"cannot {asked}: the credentials could not be refreshed ({name}); check the network")
    if isinstance(error, auth.GoogleAuthError) and error.retryable:
        return StoreUnavailable(f"cannot {asked}: the credentials could not be refreshed ({name}); try again later")
    if isinstance(error, auth.GoogleAuthError | HttpError | NonRetryableError):
        return AccessDenied(f"cannot {asked}: no usable credentials ({name}); {SET_CREDENTIALS}")
    return NoAnswer(f"cannot {asked}: {_lacking(error, server or 'the server')}")


def _lacking(error: BaseException, server: str) -> str:
    """Say how far a request came that nobody answered."""
    import aiohttp

    why = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        why = _told(error.os_error) or why
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {error.host!r} cannot be looked up ({why}); check endpoint_url, DNS and the network"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to {server} ({why}); check endpoint_url and the network"
    return f"no answer of {server} ({why}); check endpoint_url and the network"


def _told(error: OSError) -> str:
    # asyncio puts an address in place of the system's words
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or ""


def missing_bucket(asked: Asked) -> StoreNotFound:
    """Return the error for a bucket that is not there."""
    return StoreNotFound(f"cannot {asked}: no such bucket; {_MISSING_BUCKET}")
