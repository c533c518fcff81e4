"""Which files of an old folder are checkpoints, and of which number.

Where there is an index, those it names are, and no others. Without one a file is a checkpoint if its name is a
number, or ends with one after words such as "model" or "checkpoint": ``12.pt``, ``model_0001.pth``,
``checkpoint-12.ckpt``, ``model_step_100.pt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ckptstore.errors import CorruptCheckpoint
from ckptstore.importing.index import Entry, OldIndex, parse_index
from ckptstore.keys import CHECKPOINTS, DATA, LOGS
from ckptstore.objects import ObjectInfo, redact
from ckptstore.store import Store

__all__ = ["OldCheckpoint", "OldFolder", "read_folder"]

INDEX_NAMES = ("index.json", "checkpoints.json", "checkpoint_index.json")
_WORDS = ("checkpoint", "ckpt", "chkpt", "model", "state", "weights", "step", "iter")
_NUMBERED = re.compile(r"(?:(?P<name>.+)[_-])?(?P<number>[0-9]{1,12})\.(?:pt|pth|ckpt)")


@dataclass(frozen=True, slots=True)
class OldCheckpoint:
    """A checkpoint of the older layout.

    Attributes:
        file: its name.
        info: what the store says of it; None where the index names a file that is not there.
        number: its number, where its name or the index tells.
        entry: what the index says.
    """

    file: str
    info: ObjectInfo | None
    number: int | None
    entry: Entry


@dataclass(frozen=True, slots=True)
class OldFolder:
    """What lies in an old folder.

    Attributes:
        checkpoints: by number.
        index: what its index says, None without one.
        unknown: what was not understood.
    """

    checkpoints: tuple[OldCheckpoint, ...]
    index: OldIndex | None
    unknown: tuple[str, ...]


def read_folder(store: Store, names: Iterable[str]) -> OldFolder:
    """Return what lies at the top of a store. One listing, and one read of the index.

    Args:
        store: the old folder.
        names: words that may stand before a number, besides the usual ones, such as a model's name.

    Raises:
        CorruptCheckpoint: the index is damaged, or there are two.
    """
    files = {info.key: info for info in store.list() if "/" not in info.key}
    indexes = [name for name in INDEX_NAMES if name in files]
    where = f"in {redact(store.url)}"
    if len(indexes) > 1:
        raise CorruptCheckpoint(f"{' and '.join(indexes)} {where} contradict each other; move one away")
    folders = [prefix for prefix in store.list_prefixes() if prefix not in {CHECKPOINTS, DATA, LOGS}]
    if not indexes:
        found = _by_name(files, (*_WORDS, *names))
        return OldFolder(found, None, _unknown(files, found, folders))
    index = parse_index(bytes(store.get(indexes[0])), f"{indexes[0]} {where}")
    found = tuple(_by_entry(entry, files, f"{indexes[0]} {where}") for entry in index.entries)
    known_keys = [f"{indexes[0]}: {key!r}" for key in index.unknown]
    rest = {name: info for name, info in files.items() if name != indexes[0]}
    return OldFolder(_sorted(found), index, (*_unknown(rest, found, folders), *known_keys))


def _by_name(files: Mapping[str, ObjectInfo], words: Sequence[str]) -> tuple[OldCheckpoint, ...]:
    word = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    accepted = re.compile(rf"(?:{word})(?:[_-](?:{word}))*", re.IGNORECASE)
    found = []
    for name, info in files.items():
        parts = _NUMBERED.fullmatch(name)
        if parts and (parts["name"] is None or accepted.fullmatch(parts["name"])):
            found.append(OldCheckpoint(name, info, int(parts["number"]), Entry()))
    return _sorted(found)


def _by_entry(entry: Entry, files: Mapping[str, ObjectInfo], where: str) -> OldCheckpoint:
    if entry.file is not None:
        number = _number_in(entry.file) if entry.number is None else entry.number
        return OldCheckpoint(entry.file, files.get(entry.file), number, entry)
    if entry.number is None:
        raise CorruptCheckpoint(f"{where} has an entry with neither a file nor an id; mend it or move it away")
    numbered = [name for name in files if _number_in(name) == entry.number]
    if len(numbered) > 1:
        raise CorruptCheckpoint(f"{where} has an entry {entry.number} that may be any of {', '.join(numbered)}")
    name = numbered[0] if numbered else f"number {entry.number}"
    return OldCheckpoint(name, files.get(name), entry.number, entry)


def _number_in(name: str) -> int | None:
    parts = _NUMBERED.fullmatch(name)
    return int(parts["number"]) if parts else None


def _sorted(found: Iterable[OldCheckpoint]) -> tuple[OldCheckpoint, ...]:
    return tuple(sorted(found, key=lambda old: (old.number is None, old.number or 0, old.file)))


def _unknown(
    files: Mapping[str, ObjectInfo], found: Iterable[OldCheckpoint], folders: Iterable[str]
) -> tuple[str, ...]:
    known = {old.file for old in found}
    return (*(name for name in files if name not in known), *folders)
