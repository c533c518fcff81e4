"""Mistakes in the storage options of an S3 store, found before anything is sent, and each named."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ckptstore.errors import InvalidURL
from ckptstore.objects import redact

_TABLES = ("client_kwargs", "config_kwargs", "s3_additional_kwargs")
_OPERATIONS = (
    "PutObject", "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload",
    "AbortMultipartUpload", "CopyObject", "GetObject", "HeadObject", "HeadBucket", "DeleteObjects", "ListObjectsV2",
    "ListMultipartUploads", "ListParts",
)  # fmt: skip
_GIVEN_BY_S3FS = frozenset({"self", "service_name", "config"})
_MEANT = {
    "region": "client_kwargs={'region_name': ...}",
    "region_name": "client_kwargs={'region_name': ...}",
    "verify": "client_kwargs={'verify': ...}",
    "endpoint": "endpoint_url=",
    "access_key": "key=",
    "aws_access_key_id": "key=",
    "secret_key": "secret=",
    "aws_secret_access_key": "secret=",
    "session_token": "token=",
    "aws_session_token": "token=",
    "aws_profile": "profile=",
    "profile_name": "profile=",
}


def check_names(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Make sure that options are known, and those in tables too.

    Raises:
        TypeError: naming an unknown one, and the one that was meant as far as that can be told.
    """
    for name in sorted(set(options) - set(known)):
        if name in _MEANT:
            raise TypeError(f"unknown storage option {name!r} for s3; write {_MEANT[name]}")
        raise TypeError(f"unknown storage option {name!r} for s3 (known: {', '.join(sorted(known))})")
    for table in _TABLES:
        if not isinstance(options.get(table) or {}, Mapping):
            raise TypeError(f"{table} is a {type(options[table]).__name__}; give a dict")
    given = {table: options.get(table) or {} for table in _TABLES}
    if "config" in given["client_kwargs"]:
        raise TypeError("client_kwargs['config'] is made from config_kwargs; give that dict instead")
    if given["client_kwargs"]:
        _check_table("client_kwargs", given["client_kwargs"], _client_names())
    if given["s3_additional_kwargs"]:
        _check_table("s3_additional_kwargs", given["s3_additional_kwargs"], _request_names())


def check_values(options: Mapping[str, Any]) -> None:
    """Make sure that values can be used.

    Raises:
        TypeError: a session that is none.
        ValueError: naming the option.
        InvalidURL: for an endpoint without scheme, or with credentials in it.
    """
    client = options.get("client_kwargs") or {}
    for endpoint in (options.get("endpoint_url"), client.get("endpoint_url")):
        _check_endpoint(endpoint)
    _check_concurrency(options.get("max_concurrency", 1))
    _check_session(options.get("session"))
    verify = client.get("verify")
    if isinstance(verify, str) and not Path(verify).exists():
        raise ValueError(f"client_kwargs['verify'] names the file {verify!r}, which does not exist; correct the path")
    if options.get("config_kwargs"):
        _check_config(options["config_kwargs"])


def _check_table(table: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in sorted(set(given) - known):
        meant = _nearest(name, known)
        advice = f"write {meant!r}" if meant else f"known are {', '.join(sorted(known))}"
        raise TypeError(f"{table} has an unknown name {name!r}; {advice}")


def _nearest(name: str, known: Iterable[str]) -> str | None:
    by_lower = {each.lower(): each for each in known}
    found = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def _client_names() -> frozenset[str]:
    from aiobotocore.session import AioSession

    taken = inspect.signature(AioSession._create_client).parameters  # noqa: SLF001  # what create_client passes all to
    return frozenset(taken) - _GIVEN_BY_S3FS


@cache
def _request_names() -> frozenset[str]:
    """Return what requests of S3 may have; s3fs leaves out of each request, without a word, what it has not."""
    from botocore.loaders import create_loader
    from botocore.model import ServiceModel

    service = ServiceModel(create_loader().load_service_model("s3", "service-2"), "s3")
    shapes = [service.operation_model(operation).input_shape for operation in _OPERATIONS]
    return frozenset(_members(shapes))


def _members(shapes: Iterable[Any]) -> Iterator[str]:
    for shape in shapes:
        yield from shape.members


def _check_endpoint(endpoint: Any) -> None:
    if not endpoint:
        return
    if not isinstance(endpoint, str):
        raise TypeError(f"endpoint_url is a {type(endpoint).__name__}; give a str")
    place = endpoint.rpartition("://")[2]
    if "@" in place.partition("/")[0]:
        shown = redact(endpoint if "://" in endpoint else f"http://{endpoint}")
        raise InvalidURL(f"endpoint_url {shown!r} holds credentials; pass key= and secret=")
    if "://" not in endpoint:
        raise InvalidURL(
            f"endpoint_url {place!r} has no scheme; write 'http://{place}', or https:// where it has TLS"
        )
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidURL(f"endpoint_url {redact(endpoint)!r} is not of the form https://host:port")


def _check_concurrency(given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"max_concurrency is {given!r}; give a whole number of parts, from 1")


def _check_session(session: Any) -> None:
    from aiobotocore.session import AioSession

    if session is not None and not isinstance(session, AioSession):
        raise TypeError(f"session is a {type(session).__name__}; give an aiobotocore.session.AioSession, or profile=")


def _check_config(config: Mapping[str, Any]) -> None:
    from aiobotocore.config import AioConfig
    from botocore.exceptions import BotoCoreError

    try:
        AioConfig(**config)
    except (BotoCoreError, ValueError, AttributeError) as error:
        raise ValueError(f"config_kwargs cannot be used: {error}") from None
    except TypeError as error:
        raise TypeError(f"config_kwargs cannot be used: {error}") from None
