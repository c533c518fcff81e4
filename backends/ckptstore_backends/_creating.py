"""Atomic creates over any transfer: racers spread out, and a lost answer is looked up, not guessed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from ckptstore.errors import KeyExists, KeyNotFound, ObjectChanged, StoreUnavailable
from ckptstore.objects import ObjectInfo
from ckptstore_backends._transfer import Transfer, WriteConflict

WRITER = "ckptstore-writer"
"""Names the metadata by which a writer whose answer was lost recognises its own object."""

_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


def writer_mark() -> dict[str, str]:
    """Return metadata that no other writer has."""
    return {WRITER: secrets.token_hex(16)}


def create(transfer: Transfer, key: str, body: memoryview, url: str) -> ObjectInfo:
    """Store an object that does not exist yet.

    Clients, and connections beneath them, repeat a request whose answer was lost, and the repetition finds the
    object of the first. So whoever loses looks whose object it is. Where no answer came and nothing is there,
    the request is sent once more with the same mark: if the first arrives after all, it is still recognised.

    Raises:
        KeyExists: somebody else's object is there.
        StoreUnavailable: no attempt was answered, or other writers were in the way at each.
    """
    mark = writer_mark()
    try:
        return _sent(transfer, key, body, mark, url)
    except WriteConflict:
        raise
    except StoreUnavailable:
        try:
            return _judged(transfer, key, mark, url)
        except KeyNotFound:
            pass
    return _sent(transfer, key, body, mark, url)


def _sent(transfer: Transfer, key: str, body: memoryview, mark: Mapping[str, str], url: str) -> ObjectInfo:
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    retrying = Retrying(
        retry=retry_if_exception_type(WriteConflict),
        wait=wait_random_exponential(_FIRST_PAUSE_S, _LONGEST_PAUSE_S),  # spreads the racers
        stop=stop_after_attempt(_ATTEMPTS),
        reraise=True,
    )
    try:
        return retrying(transfer.create, key, body, mark)
    except ObjectChanged:
        pass
    try:
        return _judged(transfer, key, mark, url)
    except KeyNotFound:
        raise KeyExists(f"{key!r} existed in {url} when it was to be created, and is gone now") from None


def _judged(transfer: Transfer, key: str, mark: Mapping[str, str], url: str) -> ObjectInfo:
    head = transfer.head(key)
    if head.metadata.get(WRITER) != mark[WRITER]:
        raise KeyExists(f"{key!r} exists already in {url}") from None
    return head.info
