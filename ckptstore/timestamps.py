"""Times that files hold as text."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["parsed_timestamp"]


def parsed_timestamp(text: object) -> datetime | None:
    """Return the time that ISO 8601 text says, in UTC where it names no zone; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
