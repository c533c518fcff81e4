"""Credentials for GCS: found by gcsfs in bounded time, refreshed before they expire, lent to obstore."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ckptstore.errors import AccessDenied, StoreUnavailable
from ckptstore_backends._gcs_errors import SET_CREDENTIALS
from ckptstore_backends._gcs_metadata import metadata_server_answers, named_in_files
from ckptstore_backends._gcs_options import filesystem_class
from ckptstore_backends._loop_thread import start

if TYPE_CHECKING:
    from obstore.store import GCSCredential

SEARCH_LIMIT_S = 20.0
"""How long the search for credentials may take: google-auth asks a slow metadata server three times for 3 s each."""

_SCOPE = "https://www.googleapis.com/auth/devstorage."
_REFRESH_BEFORE_S = 300.0
_REFRESH_APART_S = 30.0


def new_filesystem(options: Mapping[str, Any], place: str) -> Any:
    """Return a filesystem of its own, with credentials.

    Raises:
        AccessDenied: no usable credentials, or none found within `SEARCH_LIMIT_S`.
        StoreUnavailable: credentials could not be checked for lack of a connection.
    """
    import requests
    from google.auth.exceptions import GoogleAuthError

    search = start(lambda: _searched(options), "ckptstore credentials")
    try:
        return search.result(SEARCH_LIMIT_S)
    except TimeoutError:
        raise AccessDenied(
            f"cannot open {place}: no credentials were found within {SEARCH_LIMIT_S:.0f} s, perhaps for want of an "
            f"answer of a metadata server; {SET_CREDENTIALS}, or set NO_GCE_CHECK=true"
        ) from None
    except requests.RequestException as error:
        raise StoreUnavailable(
            f"cannot open {place}: the token could not be checked ({type(error).__name__}); check the network, or "
            "set FETCH_RAW_TOKEN_EXPIRY=false"
        ) from error
    except (GoogleAuthError, ValueError, LookupError, OSError) as error:  # what gcsfs makes of an unusable token
        raise AccessDenied(
            f"cannot open {place}: the credentials cannot be used ({type(error).__name__}); {SET_CREDENTIALS}"
        ) from error


def _searched(options: Mapping[str, Any]) -> Any:
    """Make the filesystem. Without token=, search where gcsfs does, in its order.

    gcsfs itself asks the metadata server twice, the second time with pauses of half a minute; and it passes over
    default credentials whose project is not the given one. google-auth asks it three times, for 12 s, where there
    is none.
    """
    from google.auth import default
    from google.auth.exceptions import DefaultCredentialsError

    fixed = {"asynchronous": True, "use_listings_cache": False, "skip_instance_cache": True}
    given = {**options, **fixed}
    if given.get("token") is not None:
        return filesystem_class()(**given)
    if not (named_in_files() or metadata_server_answers()):
        return _cached_or_anonymous(given)
    try:
        found, project = default(scopes=[_SCOPE + given.get("access", "full_control")])
        return filesystem_class()(**{**given, "token": found, "project": given.get("project") or project})
    except DefaultCredentialsError:
        return _cached_or_anonymous(given)


def _cached_or_anonymous(given: Mapping[str, Any]) -> Any:
    try:
        return filesystem_class()(**{**given, "token": "cache"})
    except ValueError:  # what gcsfs raises when it has none
        return filesystem_class()(**{**given, "token": "anon"})


class Tokens:
    """The access tokens of one filesystem; may be shared between threads.

    As a callable it is the credential provider of obstore.

    Attributes:
        refresh_threshold: how long before a token's end obstore asks for another one.
        failure: why obstore's last wish for one failed, or None.
    """

    refresh_threshold = timedelta(seconds=60)

    def __init__(self, filesystem: Any) -> None:
        self._credentials = filesystem.credentials.credentials
        self._lock = threading.Lock()
        self._refreshed_at = -_REFRESH_APART_S
        self.failure: Exception | None = None

    @property
    def anonymous(self) -> bool:
        """Whether requests go without credentials."""
        return self._credentials is None

    @property
    def due(self) -> bool:
        """Whether the token is missing, past its end, or near it and not renewed just now."""
        if self._credentials is None:
            return False
        left_s = self._seconds_left()
        if left_s > _REFRESH_BEFORE_S:
            return False
        return left_s <= 0 or time.monotonic() - self._refreshed_at >= _REFRESH_APART_S

    def refresh(self) -> None:
        """Get a new token if one is due; blocks.

        Raises:
            google.auth.exceptions.GoogleAuthError: it cannot be had.
        """
        from google.auth.transport.requests import Request

        with self._lock:
            if self.due:
                self._credentials.refresh(Request())
                self._refreshed_at = time.monotonic()

    def headers(self) -> dict[str, str]:
        """Return what authorizes a request."""
        headers: dict[str, str] = {}
        if self._credentials is not None:
            self._credentials.apply(headers)
        return headers

    def __call__(self) -> GCSCredential:
        """Return the token and its end, as obstore wants them; it hides what is raised here, so that is kept."""
        try:
            self.refresh()
        except Exception as error:
            self.failure = error
            raise
        self.failure = None
        if self._credentials is None:
            return {
                "token": "",
                "expires_at": None,
            }  # skip_signature alone lets obstore search for credentials to write
        return {"token": self._credentials.token, "expires_at": _end_of(self._credentials)}

    def _seconds_left(self) -> float:
        if not self._credentials.token:
            return 0.0
        end = _end_of(self._credentials)
        return float("inf") if end is None else (end - datetime.now(UTC)).total_seconds()


def _end_of(credentials: Any) -> datetime | None:
    end: datetime | None = credentials.expiry
    return None if end is None else end.replace(tzinfo=UTC) if end.tzinfo is None else end
