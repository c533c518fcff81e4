"""Turn what botocore, aiohttp and s3fs raise into ckptstore's errors, by class or error code.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckptstore.errors import (
    AccessDenied,
    KeyNotFound,
    ObjectChanged,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore_backends._transfer import Damaged, RangePastEnd, Unanswered, UploadGone, WriteConflict


@dataclass(frozen=True, slots=True)
class Answer:
    """An error answer, reduced to what decides."""

    status: int
    code: str
    region: str


_CLASSES: Mapping[str, type[StoreError]] = {
    "NoSuchBucket": StoreNotFound,
    "NoSuchUpload": UploadGone,
    "PreconditionFailed": ObjectChanged,
    "412": ObjectChanged,
    "InvalidRange": RangePastEnd,
    "416": RangePastEnd,
    "ConditionalRequestConflict": WriteConflict,
    "OperationAborted": WriteConflict,
    "409": WriteConflict,
    "BadDigest": Damaged,
    "XAmzContentSHA256Mismatch": Damaged,
    "XAmzContentChecksumMismatch": Damaged,
    "SlowDown": StoreUnavailable,
    "RequestTimeout": StoreUnavailable,
    "429": StoreUnavailable,
    "XMinioStorageFull": StoreFull,
    "QuotaExceeded": StoreFull,
    "507": StoreFull,
}

_DENIED: Mapping[str, str] = {
    "AccessDenied": "check the rights of these credentials (without s3:ListBucket a missing key is denied too)",
    "403": "check the credentials and their rights (without s3:ListBucket a missing key is denied too)",
    "401": "check the credentials",
    "AllAccessDisabled": "ask the owner of the bucket",
    "AccountProblem": "ask the owner of the account",
    "InvalidAccessKeyId": "the store does not know this access key; set key= and secret=, or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret does not belong to this access key; set key= and secret=, or AWS_PROFILE",
    "InvalidToken": "the session token is not valid; set token=, or AWS_SESSION_TOKEN, together with its key",
    "ExpiredToken": "the temporary credentials have expired; get new ones",
    "TokenRefreshRequired": "the temporary credentials have expired; get new ones",
    "RequestTimeTooSkewed": "the clock of this machine differs too much from the store's; set it",
    "InvalidPayer": "the requester pays for this bucket; set requester_pays=True",
}

WRONG_REGION = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307",
                           "IllegalLocationConstraintException"})  # fmt: skip

_NO_CREDENTIALS = "set key= and secret=, or profile=, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or anon=True"


def expected_errors() -> tuple[type[BaseException], ...]:
    """Return the classes that `translated` understands; anything else is a mistake of ours."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, aiohttp.ClientError, asyncio.TimeoutError, OSError, RecursionError)


def translated(error: BaseException, asked: str, place: str, *, of_key: bool) -> StoreError:
    """Return the error to raise.

    Args:
        error: what a client raised.
        asked: what was asked for: "get 'a/b'".
        place: the store, without credentials.
        of_key: whether one object was asked for, so that a bare 404 means that one.
    """
    if isinstance(error, StoreError):
        return error
    found = _answer(error)
    if found is None:
        return _without_answer(error, asked, place)
    return translated_answer(found, asked, place, of_key=of_key)


def translated_answer(found: Answer, asked: str, place: str, *, of_key: bool) -> StoreError:
    """Return the error to raise for an answer; otherwise as `translated`."""
    kind, advice = _judged(found, of_key=of_key)
    return kind(f"cannot {asked} in {place}: {found.code} (HTTP {found.status}){advice and '; ' + advice}")


def unanswered(kind: str, asked: str, place: str, *, again: bool = False) -> StoreUnavailable:
    """Return the error to raise where no answer came.

    Args:
        kind: the class that a client raised.
        asked: what was asked for.
        place: the store.
        again: whether the client did not try again by itself.
    """
    return (Unanswered if again else StoreUnavailable)(
        f"cannot {asked} in {place}: no usable answer after every retry ({kind}); check endpoint_url and the "
        "network, and on a slow one raise deadline_s"
    )


def unreachable(obstacle: str, asked: str, place: str) -> StoreUnavailable:
    """Return the error to raise where no connection can be made; obstacle says why."""
    return StoreUnavailable(f"cannot {asked} in {place}: {obstacle}")


def _answer(error: BaseException) -> Answer | None:
    """Look into an error, or into the one that s3fs derived it from."""
    response: Mapping[str, Any] | None = getattr(error, "response", None) or getattr(
        error.__cause__, "response", None
    )
    if not isinstance(response, dict):
        return None
    details, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    return Answer(
        status=int(metadata.get("HTTPStatusCode", 0)),
        code=str(details.get("Code", "unknown")),
        region=str(details.get("Region") or headers.get("x-amz-bucket-region", "")),
    )


def _judged(found: Answer, *, of_key: bool) -> tuple[type[StoreError], str]:
    if found.code in _CLASSES:
        kind = _CLASSES[found.code]
        return kind, "create the bucket, or correct its name" if kind is StoreNotFound else ""
    if found.code in _DENIED:
        return AccessDenied, _DENIED[found.code]
    if found.code in WRONG_REGION:
        region = repr(found.region) if found.region else "another region"
        return StoreError, f"the bucket is in {region}; pass client_kwargs={{'region_name': ...}} with its region"
    if found.code in {"NoSuchKey", "404"}:
        return (KeyNotFound, "") if of_key else (StoreNotFound, "create the bucket, or correct its name")
    if found.code == "400":  # a HEAD has no body to say why
        return StoreError, "often expired temporary credentials, or the wrong region"
    return _by_status(found.status), ""


def _by_status(status: int) -> type[StoreError]:
    if status in {401, 403}:
        return AccessDenied
    if status == 507:  # HTTP: insufficient storage
        return StoreFull
    return StoreUnavailable if status >= 500 or status == 429 else StoreError


def _without_answer(error: BaseException, asked: str, place: str) -> StoreError:
    """Judge an error that came without an answer: no credentials, or no connection."""
    from botocore import exceptions as boto

    name = type(error).__name__
    if isinstance(error, RecursionError):  # botocore asks where the bucket is, is redirected, asks where it is, ...
        return StoreError(
            f"cannot {asked} in {place}: the server redirects without saying where to; "
            "check endpoint_url, and pass client_kwargs={'region_name': ...} with the region of the bucket"
        )
    if isinstance(error, boto.ProfileNotFound):
        return StoreError(f"cannot {asked} in {place}: no such profile; correct profile= or AWS_PROFILE")
    if isinstance(error, _credential_errors()):
        return AccessDenied(f"cannot {asked} in {place}: no usable credentials ({name}); {_NO_CREDENTIALS}")
    if isinstance(error, boto.BotoCoreError) and not isinstance(error, _of_the_way()):
        return StoreError(
            f"cannot {asked} in {place}: the client refused the request ({name}); check the options, and the profile"
        )
    return unanswered(name, asked, place, again=not isinstance(error, _tried_again()))


def _tried_again() -> tuple[type[BaseException], ...]:
    """Return the classes of what botocore raises after it has tried for long."""
    from botocore import exceptions as boto

    return (
        boto.ConnectionError,
        boto.ConnectionClosedError,
        boto.ReadTimeoutError,
        boto.EndpointConnectionError,
        TimeoutError,
    )


def _of_the_way() -> tuple[type[BaseException], ...]:
    """Return the classes of what went wrong between client and server; botocore's others are of its settings."""
    from botocore import exceptions as boto

    return (
        boto.HTTPClientError,
        boto.ConnectionError,
        boto.IncompleteReadError,
        boto.ChecksumError,
        boto.FlexibleChecksumError,
        boto.MetadataRetrievalError,
    )


def _credential_errors() -> tuple[type[BaseException], ...]:
    from botocore import exceptions as boto

    return (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.NoAuthTokenError,
        boto.SSOError,
    )
