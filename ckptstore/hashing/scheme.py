"""The experiment hash: three component digests, combined."""

from __future__ import annotations

from ckptstore.hashing.encoding import digest

SCHEME_VERSION = 1
"""Counts the ways in which experiments have been hashed; part of every experiment hash."""

HASH_DIGITS = 16


def combine(model: str | None, config: str | None, data: str | None) -> str:
    """Return the experiment hash, 16 hex digits, of the three component digests.

    None says that a component was never given, and differs from every digest.
    """
    return digest([SCHEME_VERSION, model, config, data])[:HASH_DIGITS]
