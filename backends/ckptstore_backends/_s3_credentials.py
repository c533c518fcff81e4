"""Credentials for obstore, from the session that s3fs uses."""

from __future__ import annotations

import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

from ckptstore.errors import StoreError
from ckptstore_backends._s3_client import S3Client

_ASKED_AGAIN_AFTER = timedelta(seconds=10)


class S3Credentials:
    """What obstore calls for a key: profiles, SSO, instance metadata, web identity, environment, or given options.

    botocore decides when to refresh: 15 to 10 minutes before they expire, and when they live shorter, at every
    call. So obstore may keep what it is given for seconds only, however long a run takes.

    Attributes:
        failure: why the last call had none to give, or None.
        refresh_threshold: read by obstore: how long before `expires_at` it asks again.
    """

    refresh_threshold = timedelta(0)

    def __init__(self, client: S3Client) -> None:
        self._client = weakref.ref(client)  # obstore is no part of a garbage collection: it would keep the store
        self.failure: Exception | None = None

    def __call__(self) -> dict[str, Any]:
        """Return credentials that are valid now."""
        try:
            found = self._asked()
        except Exception as error:
            self.failure = error
            raise
        self.failure = None
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _ASKED_AGAIN_AFTER,
        }

    def _asked(self) -> Any:
        client = self._client()
        if client is None:
            raise StoreError("the store was closed")
        return client.credentials()
