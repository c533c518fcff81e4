"""GCS as obstore's engine sees it: gcsfs's tokens and settings, said in obstore's words.

obstore speaks the XML interface: https://cloud.google.com/storage/docs/xml-api/overview
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import unquote

from ckptstore.errors import ObjectChanged, StoreError
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_errors import NoAnswer, judged, without_answer
from ckptstore_backends._gcs_objects import stat
from ckptstore_backends._gcs_xml import abort
from ckptstore_backends._obstore_client import ObstoreClients
from ckptstore_backends._obstore_errors import ObstoreFailure
from ckptstore_backends._orphans import REPEATED_AFTER_S
from ckptstore_backends._parts import MIB
from ckptstore_backends._transfer import UploadGone

_RETRIES = 1000  # the deadline comes before
_UNIT_BYTES = 16 * MIB  # the deadline allows for parts of this size; for larger ones there is more time
_CONNECT_LIMIT = timedelta(seconds=10)
_WHOLE_REQUEST = timedelta(hours=12)  # silence is what ends a request, not its length


class GCSService:
    """The bucket of one store.

    Args:
        client: the same bucket through the JSON interface, for tokens, and for what obstore cannot ask.
    """

    def __init__(self, client: GCSClient) -> None:
        self._client = client

    def full_key(self, key: str) -> str:
        """Return the key in the bucket."""
        return self._client.full_key(key)

    def version_of(self, answer: Mapping[str, Any]) -> str:
        """Return the generation; a stand-in without them has ETags."""
        return str(answer["version"] or answer["e_tag"] or "").strip('"')

    def condition(self, version: str) -> dict[str, Any]:
        """Return what pins a get: a generation that was replaced is not found."""
        return {"version": version} if version.isdecimal() else {"if_match": f'"{version}"'}

    def connect(self) -> ObstoreClients:
        """Make clients with the credentials and settings of gcsfs, once the server could be reached."""
        self._client.reach()
        writing = cache(self._writing)
        return ObstoreClients(
            reading=self._store(self._client.stall_s, self._client.retries.deadline_s),
            writing=writing(1.0),
            of_parts=lambda part_bytes: writing(max(1.0, part_bytes / _UNIT_BYTES)),
        )

    def _writing(self, units: float) -> Any:
        """Return a client for bodies of so many units: obstore counts the sending of one as silence."""
        retries = self._client.retries
        return self._store(units * retries.silence_s, units * retries.deadline_s)

    def recover(self, failure: ObstoreFailure) -> bool:  # noqa: ARG002  # nothing is learned from a failure
        """Return False: new clients would do no better."""
        return False

    def translated(self, failure: ObstoreFailure, method: str, key: str) -> StoreError:
        """Return the error to raise; an upload that may be left is aborted."""
        error = self._judged(failure, method, key)
        if failure.upload_id:
            try:
                abort(self._client, key, unquote(failure.upload_id))
            except StoreError as remaining:
                error.add_note(f"an unfinished upload of {key!r} may remain in {self._client.url}: {remaining}")
        return error

    def _judged(self, failure: ObstoreFailure, method: str, key: str) -> StoreError:
        asked = self._client.asked(method, key)
        tokens = self._client.tokens
        if failure.kind == "UnauthenticatedError" and tokens.failure is not None:
            return without_answer(tokens.failure, asked)
        if not failure.status:
            return NoAnswer(f"cannot {asked}: no answer ({failure.kind}); check the network")
        if failure.code == "NoSuchUpload":
            return UploadGone(f"cannot {asked}: the upload is gone; put it again")
        if failure.status == 404:
            return self._missing(key)
        return judged(failure.status, failure.code, asked, anonymous=tokens.anonymous)

    def _missing(self, key: str) -> StoreError:
        """Tell bucket, key and generation apart: the answer does not."""
        try:
            stat(self._client, key)
        except StoreError as error:
            return error
        return ObjectChanged(f"{key!r} in {self._client.url} was replaced meanwhile; read it again")

    def _store(self, silence_s: float, deadline_s: float) -> Any:
        from obstore.store import GCSStore

        tokens, location = self._client.tokens, self._client.location
        payer = self._client.payer
        return GCSStore(
            self._client.bucket,
            config={"base_url": location, "skip_signature": tokens.anonymous},  # also against GOOGLE_* variables
            client_options={
                "allow_http": not self._client.over_tls,
                "connect_timeout": _CONNECT_LIMIT,
                "read_timeout": timedelta(seconds=silence_s),
                "timeout": _WHOLE_REQUEST,
                **({"default_headers": {"x-goog-user-project": payer}} if payer else {}),
            },
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timedelta(seconds=deadline_s),
                "backoff": {
                    "init_backoff": timedelta(seconds=REPEATED_AFTER_S),
                    "max_backoff": timedelta(seconds=self._client.retries.longest_s),
                    "base": 2,
                },
            },
            credential_provider=tokens,
        )
