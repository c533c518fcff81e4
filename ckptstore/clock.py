"""The time by a store's own clock, which stamps what lies in it; this machine's may be wrong."""

from __future__ import annotations

import secrets
from datetime import datetime

from ckptstore.errors import StoreError
from ckptstore.keys import CHECKPOINTS
from ckptstore.store import Store

__all__ = ["PROBE_PREFIX", "store_time"]

PROBE_PREFIX = f"{CHECKPOINTS}ckptstore-clock-"
"""Begins the keys of what is written to see the time; a process that was killed may leave one."""


def store_time(store: Store) -> datetime:
    """Return the time by the store's clock: an empty object is written, looked at and deleted. Three requests."""
    key = PROBE_PREFIX + secrets.token_hex(8)
    try:
        store.put(key, b"")
        now = store.stat(key).modified
        store.delete([key])
    except StoreError as error:
        error.add_note(f"{key} was to tell the time by the store's clock, by which ages count")
        raise
    return now
