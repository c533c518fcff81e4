"""Atomic creates over any transfer: racers spread out, and a lost answer is looked up, not guessed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from ckptstore.errors import KeyExists, KeyNotFound, ObjectChanged, StoreUnavailable
from ckptstore.objects import ObjectInfo
from ckptstore_backends._retries import Patience, RetryPolicy
from ckptstore_backends._transfer import NOT_OBEYED, Transfer, Unanswered, Unavailable

WRITER = "ckptstore-writer"
"""Names the metadata by which a writer whose answer was lost recognises its own object."""

_POLICY = RetryPolicy(deadline_s=180.0, attempts=8)


def writer_mark() -> dict[str, str]:
    """Return metadata that no other writer has."""
    return {WRITER: secrets.token_hex(16)}


def create(transfer: Transfer, key: str, body: memoryview, url: str, *, policy: RetryPolicy = _POLICY) -> ObjectInfo:
    """Store an object that does not exist yet.

    Clients, and connections beneath them, repeat a request whose answer was lost, and the repetition finds the
    object of the first. So whoever loses looks whose object it is. Where no answer came and nothing is there,
    the request is sent again with the same mark: if an earlier one arrives after all, it is still recognised.

    Raises:
        KeyExists: somebody else's object is there.
        StoreUnavailable: no attempt was answered, or other writers were in the way at each.
    """
    mark = writer_mark()
    patience = Patience(policy)
    while True:
        try:
            return transfer.create(key, body, mark)
        except ObjectChanged:
            return _existing(transfer, key, mark, url)
        except StoreUnavailable as error:
            failure = error
        if not isinstance(failure, NOT_OBEYED):
            try:
                return _judged(transfer, key, mark, url)
            except (KeyNotFound, StoreUnavailable):
                pass  # nothing is there, or nobody can say: the next attempt finds out
        if not isinstance(failure, Unavailable | Unanswered):
            raise failure
        patience.sleep(failure)


def _existing(transfer: Transfer, key: str, mark: Mapping[str, str], url: str) -> ObjectInfo:
    try:
        return _judged(transfer, key, mark, url)
    except KeyNotFound:
        raise KeyExists(f"{key!r} existed in {url} when it was to be created, and is gone now") from None


def _judged(transfer: Transfer, key: str, mark: Mapping[str, str], url: str) -> ObjectInfo:
    head = transfer.head(key)
    if head.metadata.get(WRITER) != mark[WRITER]:
        raise KeyExists(f"{key!r} exists already in {url}") from None
    return head.info
