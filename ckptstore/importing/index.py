"""The JSON index of the older layout, in the shapes it is known to have had.

An entry tells of one checkpoint: ``file`` (filename, path), ``id`` (checkpoint_id, number), ``step`` (global_step,
iteration), ``config`` (hparams, hyperparameters), ``timestamp`` (created_at, time), ``metadata``; whatever else it
holds counts as metadata. The index is a list of entries, or a mapping of them by id or file, where a step can stand
for the entry of a file and a file name for that of an id; or a mapping with such a thing under ``checkpoints``, and
perhaps a ``config`` for all beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ckptstore.errors import CorruptCheckpoint
from ckptstore.timestamps import parsed_timestamp

__all__ = ["Entry", "OldIndex", "parse_index"]

_ENTRIES = "checkpoints"
_NAMES = {
    "file": ("file", "filename", "file_name", "path"),
    "number": ("id", "checkpoint_id", "number"),
    "step": ("step", "global_step", "iteration"),
    "config": ("config", "hparams", "hyperparameters"),
    "timestamp": ("timestamp", "created_at", "time"),
}
_NUMBER = re.compile(r"[0-9]{1,12}")
_FILE = re.compile(r".+\.(?:pt|pth|ckpt)")


@dataclass(frozen=True, slots=True)
class Entry:
    """What an index says of one checkpoint; None where it says nothing.

    Attributes:
        file: its name, without folders.
        number: its number.
        step: the training step.
        config: of the run.
        timestamp: when it was saved, ISO 8601.
        metadata: everything else.
    """

    file: str | None = None
    number: int | None = None
    step: int | None = None
    config: Mapping[str, Any] | None = None
    timestamp: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OldIndex:
    """What an index says.

    Attributes:
        entries: in its order.
        config: for all of them.
        unknown: keys beside the entries that mean nothing here.
    """

    entries: tuple[Entry, ...]
    config: Mapping[str, Any] | None
    unknown: tuple[str, ...]


def parse_index(data: bytes, where: str) -> OldIndex:
    """Return what an index says.

    Args:
        data: its bytes.
        where: its name and place, for messages.

    Raises:
        CorruptCheckpoint: it is no JSON, or of another shape.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} is not JSON ({error}); mend it or move it away") from None
    pairs, beside = _split(found, where)
    config = next((beside[name] for name in _NAMES["config"] if name in beside), None)
    unknown = sorted(set(map(str, beside)).difference(_NAMES["config"]))
    return OldIndex(tuple(_entry(key, value, where) for key, value in pairs), _config(config, where), tuple(unknown))


def _split(found: Any, where: str) -> tuple[list[tuple[str | None, Any]], dict[Any, Any]]:
    """Return the entries with their keys, and what stands beside them."""
    beside: dict[Any, Any] = {}
    entries = found
    if isinstance(found, dict) and isinstance(found.get(_ENTRIES), list | dict):
        entries = found[_ENTRIES]
        beside = {key: value for key, value in found.items() if key != _ENTRIES}
    if isinstance(entries, list):
        return [(None, value) for value in entries], beside
    if not isinstance(entries, dict):
        raise CorruptCheckpoint(f"{where} is a {type(found).__name__}, not a list or mapping of checkpoints")
    beside |= {key: value for key, value in entries.items() if not _is_name(key)}
    return [(key, value) for key, value in entries.items() if _is_name(key)], beside


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and bool(_NUMBER.fullmatch(key) or _FILE.fullmatch(key))


def _entry(key: str | None, value: Any, where: str) -> Entry:
    named: dict[str, Any] = {}
    if key is not None:
        named = {"number": int(key)} if _NUMBER.fullmatch(key) else {"file": key}
    if isinstance(value, str) and "number" in named:
        value = {"file": value}
    elif _is_step(value) and "file" in named:
        value = {"step": value}
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{where} has a {type(value).__name__} as entry {key!r}; mend it or move it away")
    known = named | dict(_known(value))
    step, number, file = known.get("step"), str(known.get("number")), known.get("file")
    if not (step is None or _is_step(step)) or not (file is None or isinstance(file, str)):
        raise CorruptCheckpoint(f"{where} has an entry with step {step!r} and file {file!r}; mend it or move it away")
    return Entry(
        file=None if file is None else re.split(r"[/\\]", file)[-1],
        number=int(number) if _NUMBER.fullmatch(number) else None,
        step=step,
        config=_config(known.get("config"), where),
        timestamp=_time(known.get("timestamp")),
        metadata=_metadata(value),
    )


def _known(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for field_name, names in _NAMES.items():
        for name in names:
            if value.get(name) is not None:
                yield field_name, value[name]
                break


def _metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    taken = {name for names in _NAMES.values() for name in names}
    rest = {name: item for name, item in value.items() if name not in taken and name != "metadata"}
    nested = value.get("metadata")
    return rest | (nested if isinstance(nested, dict) else {} if nested is None else {"metadata": nested})


def _config(config: Any, where: str) -> Mapping[str, Any] | None:
    if config is not None and not isinstance(config, dict):
        raise CorruptCheckpoint(f"{where} has a {type(config).__name__} as config; mend it or move it away")
    return config


def _time(value: Any) -> str | None:
    when = parsed_timestamp(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError, OSError):
            when = datetime.fromtimestamp(value, UTC)
    return when.isoformat(timespec="microseconds") if when else None


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
