"""Which store and which experiments the words of a command mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ckptstore.errors import CkptStoreError, StoreNotFound

__all__ = ["Address", "WrongUse", "check_place", "nearby_store", "parse_address", "split_words", "stores_below"]

STORE_VARIABLE = "CKPTSTORE_STORE"
MIN_DIGITS = 4

Step: TypeAlias = int | Literal["latest"]

_ADDRESS = re.compile(r"(?P<digits>[0-9a-fA-F]{4,16})(?:@(?P<step>[0-9]{1,18}|latest))?")
_ALMOST = re.compile(r"[0-9a-fA-F]{1,40}(?:@.*)?|[^/:.\\]+@.*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HASH = re.compile(r"[0-9a-f]{16}")
_MOST_FOLDERS = 1_000


class WrongUse(CkptStoreError):
    """The words of a command make no sense together."""


@dataclass(frozen=True, slots=True)
class Address:
    """An experiment, or one of its checkpoints, as somebody types it.

    Attributes:
        digits: the first 4 to 16 digits of the hash.
        step: of a checkpoint, or "latest"; None for the experiment itself.
    """

    digits: str
    step: Step | None = None

    def __str__(self) -> str:
        return self.digits if self.step is None else f"{self.digits}@{self.step}"


def parse_address(word: str) -> Address | None:
    """Return what a word of 4 to 16 hex digits says, ``@STEP`` or ``@latest`` behind them or not; else None."""
    found = _ADDRESS.fullmatch(word)
    if found is None:
        return None
    step: Step | None = None
    if found["step"]:
        step = "latest" if found["step"] == "latest" else int(found["step"])
    return Address(found["digits"].lower(), step)


def split_words(
    words: Sequence[str], *, at_least: int = 0, at_most: int | None = None
) -> tuple[str | None, list[Address]]:
    """Return the store, if the first word names one, and the experiments that the other words mean.

    Raises:
        WrongUse: there are too few or too many, or a word is no hash.
    """
    store = None
    rest = list(words)
    if rest and parse_address(rest[0]) is None:
        store = _place(rest.pop(0))
    addresses = [_address(word) for word in rest]
    if len(addresses) < at_least:
        wanted = "a hash" if at_least == 1 else f"{at_least} hashes"
        raise WrongUse(f"{wanted} of {MIN_DIGITS} to 16 hex digits expected; `ckptstore ls` shows what there is")
    if at_most is not None and len(addresses) > at_most:
        raise WrongUse(f"{len(addresses)} hashes were given, and this command takes {at_most}")
    return store, addresses


def _place(word: str) -> str:
    if _ALMOST.fullmatch(word) and not Path(word).exists():
        raise WrongUse(f"{word!r} is no hash ({MIN_DIGITS} to 16 hex digits, @STEP behind them or not) and no folder")
    return word


def _address(word: str) -> Address:
    found = parse_address(word)
    if found is None:
        raise WrongUse(f"{word!r} is no hash: {MIN_DIGITS} to 16 hex digits, @STEP or @latest behind them or not")
    return found


def check_place(location: str) -> None:
    """Make sure that a place to read from is not a folder that does not exist, which would look like an empty store.

    Raises:
        StoreNotFound: it is.
    """
    if not _SCHEME.match(location) and not Path(location).expanduser().exists():
        raise StoreNotFound(
            f"there is no folder {location!r} here; `ckptstore ls s3://bucket/prefix` looks elsewhere"
        )


def nearby_store(folder: Path) -> Path:
    """Return the store around a folder: itself, or the only one in the two levels below it.

    Raises:
        WrongUse: there is none, or more than one.
    """
    if _holds_experiments(folder):
        return folder
    found = stores_below(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        raise WrongUse(
            "no store was given, and no folder here holds experiments; "
            f"name one (PATH, s3://bucket/prefix, gs://bucket/prefix), or set {STORE_VARIABLE}"
        )
    names = ", ".join(str(below.relative_to(folder)) for below in found[:5]) + (", ..." if len(found) > 5 else "")
    raise WrongUse(f"no store was given, and {len(found)} folders here hold experiments: {names}; name one")


def stores_below(folder: Path) -> list[Path]:
    """Return the folders in the two levels below one that hold experiments."""
    return sorted(below for below in _folders_below(folder) if _holds_experiments(below))


def _folders_below(folder: Path) -> Iterator[Path]:
    visited = 0
    for level in ("*", "*/*"):
        for below in folder.glob(level):
            visited += 1
            if visited > _MOST_FOLDERS:
                return
            if below.is_dir() and not any(part.startswith(".") for part in below.relative_to(folder).parts):
                yield below


def _holds_experiments(folder: Path) -> bool:
    try:
        return any(_HASH.fullmatch(below.name) for below in (folder / "checkpoints").iterdir())
    except OSError:
        return False
