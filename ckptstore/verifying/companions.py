"""Check the files beside the checkpoints, each by the checksum that it carries or that lies beside it."""

from __future__ import annotations

import hashlib
import pickletools
import re
from collections.abc import Callable
from typing import TypeVar

import yaml

from ckptstore import keys
from ckptstore.backups import load_uids
from ckptstore.companions import digest_line, has_seal, open_pickle, open_text
from ckptstore.errors import CorruptCheckpoint, KeyNotFound
from ckptstore.experiment import Experiment
from ckptstore.hashing import SCHEME_VERSION, combine, sample_digest
from ckptstore.provenance import Provenance, parse_provenance
from ckptstore.store import ObjectInfo, Store
from ckptstore.verifying.streaming import Checked, streamed, whole

__all__ = [
    "checked_architecture",
    "checked_backup",
    "checked_config",
    "checked_digest",
    "checked_record",
    "checked_text",
    "record_in",
]

T = TypeVar("T")

_UNSEALED = "written by an older tool, without a checksum"
_DIGEST_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")
_ADVICE = re.compile("; restore it from another store(?:, or(?=, if))?")
_MOST_UIDS_BYTES = 64 * 1024 * 1024


def checked_text(store: Store, info: ObjectInfo) -> Checked:
    """Check the printed form of an architecture."""
    return _checked_whole(store, info, _unsealed)


def checked_config(store: Store, info: ObjectInfo) -> Checked:
    """Check a config: its seal, and that it is a mapping in plain YAML."""

    def check(data: bytes) -> str:
        if not isinstance(_plain_yaml(data), dict):
            raise CorruptCheckpoint("it is not a mapping")
        return _unsealed(data)

    return _checked_whole(store, info, check)


def checked_record(store: Store, info: ObjectInfo) -> Checked:
    """Check an experiment's record: its seal, and that its components make the hash that it lies under."""

    def check(data: bytes) -> str:
        record_in(data, info)
        return _unsealed(data)

    return _checked_whole(store, info, check)


def checked_architecture(store: Store, info: ObjectInfo) -> Checked:
    """Check a skeleton by its trailer; nothing is unpickled."""

    def check(data: bytes) -> str:
        if _told_once(open_pickle, data).python is not None:
            return ""
        _check_ends_with_stop(data)
        return _UNSEALED

    return _checked_whole(store, info, check)


def checked_digest(store: Store, info: ObjectInfo) -> Checked:
    """Check that a checksum is one of the backup beside it; whether it is right, the backup's own check says."""

    def check(data: bytes) -> str:
        _digest_in(data, info.key.removesuffix(".sha256"))
        return ""

    return _checked_whole(store, info, check)


def checked_backup(store: Store, info: ObjectInfo) -> Checked:
    """Check an HDF5 file by the checksum beside it; recorded UIDs also by the digest in the experiment's record."""
    try:
        expected = _digest_in(bytes(store.get(keys.backup_digest_key(info.key))), info.key)
    except KeyNotFound:
        yield from streamed(store, info)
        return "no checksum lies beside it"
    except CorruptCheckpoint as error:
        yield from streamed(store, info)
        return f"the checksum beside it is damaged: {error}"
    digest = hashlib.sha256()
    for data in streamed(store, info):
        digest.update(data)
        yield data
    if digest.hexdigest() != expected:
        raise CorruptCheckpoint("it does not match the checksum beside it")
    _check_uids(store, info)
    return ""


def record_in(data: bytes, info: ObjectInfo) -> Provenance:
    """Return the experiment's record that a file holds.

    Raises:
        CorruptCheckpoint: it is not what was written, or another experiment's.
        NewerFormat: a newer version wrote it.
    """
    record = parse_provenance(_plain_yaml(data), "it")
    parsed = keys.parse_key(info.key)
    if parsed is None or record.exp_hash != parsed.exp_hash:
        raise CorruptCheckpoint(f"it is the record of {record.exp_hash}; it was renamed or copied to this key")
    if record.scheme == SCHEME_VERSION and combine(**record.components) != record.exp_hash:
        raise CorruptCheckpoint("its components do not make the hash that it lies under")
    return record


def _checked_whole(store: Store, info: ObjectInfo, check: Callable[[bytes], str]) -> Checked:
    data = whole(store, info)
    unsealed = check(data)
    yield memoryview(data)
    return unsealed


def _unsealed(data: bytes) -> str:
    _told_once(open_text, data)
    if not has_seal(data):
        return _UNSEALED
    if not data.endswith(b"\n"):
        raise CorruptCheckpoint("its last byte is missing")
    return ""


def _plain_yaml(data: bytes) -> object:
    try:
        return yaml.safe_load(_told_once(open_text, data))
    except yaml.YAMLError as error:
        raise CorruptCheckpoint(f"it is not plain YAML: {' '.join(str(error).split())}") from None


def _told_once(open_sealed: Callable[[bytes, str], T], data: bytes) -> T:
    """Open a sealed file; the key, and what to do, are said elsewhere in a report."""
    try:
        return open_sealed(data, "it")
    except CorruptCheckpoint as error:
        raise CorruptCheckpoint(_ADVICE.sub("", str(error)).replace(", if you", "; if you")) from None


def _digest_in(data: bytes, backup: str) -> str:
    found = _DIGEST_LINE.fullmatch(data)
    if found is None or data != digest_line(found[1].decode(), keys.file_name(backup)):
        raise CorruptCheckpoint(f"it is not the line of sha256sum for {keys.file_name(backup)}")
    return found[1].decode()


def _check_ends_with_stop(data: bytes) -> None:
    try:
        *_, (_, _, last) = pickletools.genops(data)
    except Exception as error:  # noqa: BLE001  # it raises whatever the bytes lead it to
        raise CorruptCheckpoint(f"it is no pickle: {error}") from None
    if last is None or last + 1 != len(data):
        raise CorruptCheckpoint("its trailer, with the checksum, was changed")


def _check_uids(store: Store, info: ObjectInfo) -> None:
    parsed = keys.parse_key(info.key)
    if parsed is None or info.key != keys.uids_key(parsed.exp_hash) or info.size_bytes > _MOST_UIDS_BYTES:
        return
    experiment = Experiment(store, parsed.exp_hash)
    try:
        recorded = experiment.provenance().components["data"]
    except (CorruptCheckpoint, FileNotFoundError):
        return  # a finding of its own
    try:
        uids = load_uids(experiment)
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise CorruptCheckpoint(f"it holds no UIDs as ckptstore writes them ({error})") from None
    if recorded and uids is not None and sample_digest(uids.elements())[0] != recorded:
        raise CorruptCheckpoint("its UIDs are not those that the experiment's record was made of")
