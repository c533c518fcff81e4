"""S3 as obstore's engine sees it: the settings of s3fs's session, said in obstore's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, partial
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ckptstore.errors import StoreError, StoreUnavailable
from ckptstore_backends._obstore_client import ObstoreClients
from ckptstore_backends._obstore_errors import ObstoreFailure
from ckptstore_backends._orphans import REPEATED_AFTER_S
from ckptstore_backends._parts import MIB
from ckptstore_backends._s3_answers import quoted
from ckptstore_backends._s3_client import S3Client
from ckptstore_backends._s3_credentials import S3Credentials
from ckptstore_backends._s3_errors import WRONG_REGION, Answer, translated_answer, unanswered
from ckptstore_backends._s3_mapping import encryption
from ckptstore_backends._s3_session import Session
from ckptstore_backends._s3_upload import abort
from ckptstore_backends._s3_words import asked_of
from ckptstore_backends._transfer import Unavailable

_AMAZON = re.compile(r"s3[.-](?:(?P<region>[a-z0-9-]+)\.)?(?P<suffix>amazonaws\.com(?:\.cn)?)")
_DNS_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")  # a dot would not match the certificate

_FEW_RETRIES = 4  # of what is tried again after that in turn, where it may help
_MANY_RETRIES = 1000  # the deadline comes before; an upload in parts cannot be tried again as a whole
_FIRST_PAUSE = timedelta(milliseconds=100)
_FIRST_PAUSE_OF_PARTS = timedelta(seconds=REPEATED_AFTER_S)
_LONGEST_PAUSE = timedelta(seconds=15)
_SILENCE_S = 60.0  # of a read, at most
_UNIT_BYTES = 16 * MIB  # the deadline allows for parts of this size; for larger ones there is more time
_WHOLE_REQUEST = timedelta(hours=12)  # silence is what ends a request, not its length


class S3Service:
    """The bucket of one store.

    Args:
        client: the same bucket through s3fs, for the session, and for what obstore cannot ask.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._policy = client.policy
        self._credentials = S3Credentials(client)
        self._region = ""
        self._attempts: int | None = None

    def full_key(self, key: str) -> str:
        """Return the key in the bucket."""
        return self._client.full_key(key)

    def version_of(self, answer: Mapping[str, Any]) -> str:
        """Return the ETag."""
        return str(answer["e_tag"] or "").strip('"')

    def condition(self, version: str) -> dict[str, Any]:
        """Return the condition that pins a get."""
        return {"if_match": quoted(version)}

    def connect(self) -> ObstoreClients:
        """Make clients with the settings of the session, once the store can be reached."""
        session = self._client.session()
        if not session.anonymous:
            self._client.credentials()  # so that having none is said in s3fs's words, before anything is sent
        self._client.reach()
        self._attempts = session.attempts
        silence_s = self._policy.silence_s  # obstore counts the sending of a body as silence
        return ObstoreClients(
            reading=self._store(session, min(_SILENCE_S, silence_s), self._retries(_FEW_RETRIES)),
            writing=self._store(session, silence_s, self._retries(_FEW_RETRIES)),
            of_parts=cache(partial(self._of_parts, session)),
        )

    def _of_parts(self, session: Session, part_bytes: int) -> Any:
        units = max(1.0, part_bytes / _UNIT_BYTES)
        return self._store(
            session, units * self._policy.silence_s, self._retries(_MANY_RETRIES, _FIRST_PAUSE_OF_PARTS, units)
        )

    def _retries(self, most: int, first_pause: timedelta = _FIRST_PAUSE, units: float = 1.0) -> dict[str, Any]:
        return {
            "max_retries": most if self._attempts is None else self._attempts - 1,
            "retry_timeout": timedelta(seconds=units * self._policy.deadline_s),
            "backoff": {"init_backoff": first_pause, "max_backoff": _LONGEST_PAUSE, "base": 3},
        }

    def recover(self, failure: ObstoreFailure) -> bool:
        """Learn the bucket's region, if that is what was wrong."""
        if failure.code not in WRONG_REGION and failure.status not in {301, 307}:
            return False
        found = failure.region or self._client.region_of_bucket()
        if not found or found == self._region:
            return False
        self._region = found
        return True

    def translated(self, failure: ObstoreFailure, method: str, key: str) -> StoreError:
        """Return the error to raise; an upload that may be left is aborted."""
        error = self._judged(failure, asked_of(method, key), key)
        if type(error) is StoreUnavailable and self._attempts is None:
            error = Unavailable(*error.args)
        if failure.upload_id:
            self._abort(key, unquote(failure.upload_id), error)
        return error

    def _judged(self, failure: ObstoreFailure, asked: str, key: str) -> StoreError:
        place = self._client.url
        if failure.kind == "UnauthenticatedError" and isinstance(self._credentials.failure, StoreError):
            return self._credentials.failure
        if not failure.status:
            return unanswered(failure.kind, asked, place, again=self._attempts not in {None, 1})
        if failure.status == 404 and not failure.code and (missing := self._client.missing_bucket()):
            return missing
        answer = Answer(failure.status, failure.code or str(failure.status), failure.region)
        return translated_answer(answer, asked, place, of_key=bool(key))

    def _abort(self, key: str, upload_id: str, error: StoreError) -> None:
        try:
            abort(self._client, key, upload_id)
        except StoreError as failure:
            error.add_note(f"an unfinished upload of {key!r} may remain in {self._client.url}: {failure}")

    def _store(self, session: Session, silence_s: float, retries: dict[str, Any]) -> Any:
        from obstore.store import S3Store

        self._region = self._region or session.region
        endpoint, virtual = _address(session, self._client.bucket, self._region)
        secure = urlsplit(endpoint).scheme == "https"
        config: Any = {
            "region": self._region,
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,  # beats the environment variable, which botocore has read already
            "virtual_hosted_style_request": virtual,
            "unsigned_payload": secure,  # TLS protects the body; over plain http its digest is signed
            **({} if secure else {"checksum_algorithm": "SHA256"}),  # the same digest, where more servers look
            "conditional_put": "etag",
            "skip_signature": session.anonymous,
            **encryption(self._client.options),
        }
        client_options: Any = {
            "allow_http": not secure,
            "connect_timeout": timedelta(seconds=session.connect_timeout_s),
            "read_timeout": timedelta(seconds=silence_s),
            "timeout": _WHOLE_REQUEST,
            **session.trust,
        }
        signing: Any = {} if session.anonymous else {"credential_provider": self._credentials}
        return S3Store(
            self._client.bucket,
            config=config,
            client_options=client_options,
            retry_config=cast("Any", retries),
            **signing,
        )


def _address(session: Session, bucket: str, region: str) -> tuple[str, bool]:
    """Return the endpoint as obstore wants it, and whether the bucket is in its host name."""
    parts = urlsplit(session.endpoint)
    amazon = _AMAZON.fullmatch(parts.netloc)
    host = f"s3.{region}.{amazon['suffix']}" if amazon else parts.netloc
    style = session.addressing_style
    if style == "path" or (style != "virtual" and not (amazon and _DNS_NAME.fullmatch(bucket))):
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}", False
    return f"{parts.scheme}://{bucket}.{host}{parts.path.rstrip('/')}", True
