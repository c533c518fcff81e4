"""Sizes, times and numbers as people read them, in few columns."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["age_text", "count_text", "current_time", "number_text", "size_text", "time_text"]

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def current_time() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def size_text(size_bytes: int) -> str:
    """Return a size in decimal units, three digits: ``1.17 MB``."""
    size, unit = float(size_bytes), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    if unit == 0:
        return f"{size_bytes} {'byte' if size_bytes == 1 else 'bytes'}"
    return f"{size:.{max(0, 2 - len(str(int(size))) + 1)}f} {_UNITS[unit]}"


def age_text(when: datetime | None) -> str:
    """Return how long ago something was: ``5 min``, ``3 h``, ``12 d``; ``-`` where it is not known."""
    if when is None:
        return "-"
    seconds = (current_time() - when).total_seconds()
    if seconds < 0:
        return "future" if seconds < -_MINUTE_S else "now"
    for limit, size, unit in ((100, 1, "s"), (100 * _MINUTE_S, _MINUTE_S, "min"), (2 * _DAY_S, _HOUR_S, "h")):
        if seconds < limit:
            return f"{int(seconds / size)} {unit}"
    days = int(seconds / _DAY_S)
    return f"{days} d" if days < 1000 else f"{days // 365} y"


def time_text(when: datetime | None) -> str:
    """Return a time to the second, UTC; ``-`` where it is not known."""
    return "-" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def number_text(value: float) -> str:
    """Return a number to four significant digits; whole ones whole."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 experiment``, ``1,204 experiments``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
