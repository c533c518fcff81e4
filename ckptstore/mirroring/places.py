"""Refuse to mirror a place onto itself, into itself, or out of itself."""

from __future__ import annotations

from pathlib import Path

from ckptstore import keys
from ckptstore.errors import SamePlace
from ckptstore.objects import redact
from ckptstore.store import Store


def check_apart(source: Store, target: Store) -> None:
    """Return if neither store lies in the other, however they were spelled; links on a disk are followed.

    Raises:
        SamePlace: they are one place, or one lies in the other.
    """
    for one, other in zip(_places(source), _places(target), strict=False):
        if one == other:
            raise SamePlace(
                f"cannot mirror {redact(source.url)} to {redact(target.url)}: both are {one}; choose another target"
            )
        if other.startswith(one + "/") or one.startswith(other + "/"):
            outer, inner = sorted((one, other), key=len)
            raise SamePlace(
                f"cannot mirror {redact(source.url)} to {redact(target.url)}: {inner} lies inside {outer}; "
                "choose a target beside the source"
            )


def _places(store: Store) -> list[str]:
    """Return where the store lies; on a disk also where its folders do, as each may be a link."""
    inside = store.path("k")
    if not isinstance(inside, Path):
        return [store.place.rstrip("/")]
    root = inside.parent
    return [str((root / folder).resolve()) for folder in ("", keys.CHECKPOINTS, keys.DATA, keys.LOGS)]
