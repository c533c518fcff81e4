"""How long a small put and a small get take."""

from __future__ import annotations

import statistics
import time

from ckptstore.checkup.visit import Visit

__all__ = ["latency"]

_ROUNDS = 7
_DATA = bytes(1024)


def latency(visit: Visit) -> str:
    """Put and get a small object a few times."""
    put_s, get_s = zip(*(_timed(visit) for _ in range(_ROUNDS)), strict=True)
    visit.put_s, visit.get_s = statistics.median(put_s), statistics.median(get_s)
    return (
        f"median of {_ROUNDS}: {visit.put_s * 1e3:.1f} ms for a small put, {visit.get_s * 1e3:.1f} ms for a small get"
    )


def _timed(visit: Visit) -> tuple[float, float]:
    began = time.monotonic()
    visit.put("timed", _DATA)
    between = time.monotonic()
    visit.get("timed")
    return between - began, time.monotonic() - between
