"""Data backups: an HDF5 file copied into an experiment, validated, with its checksum beside it."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from ckptstore import keys
from ckptstore.companions import digest_line
from ckptstore.errors import BackupBusy, CorruptCheckpoint, InvalidBackup, InvalidKey, KeyNotFound
from ckptstore.opening import open_store
from ckptstore.rangedfile import RangedFile
from ckptstore.store import ByteRange, Store, check_key, redact

if TYPE_CHECKING:
    from ckptstore.experiment import Experiment
    from ckptstore.hashing import SampleSet
    from ckptstore.hashing.uids import UID

BackupSource: TypeAlias = str | os.PathLike[str]

_CHUNK_BYTES = 4 * 1024 * 1024
_PROBE_BYTES = 64 * 1024


def save_backup(experiment: Experiment, source: BackupSource, backup_name: str = "data") -> None:
    """Copy an HDF5 file into the experiment, streaming, and write its checksum after it.

    A backup of the same name is replaced whole. The source is held open for reading meanwhile, so that HDF5's lock
    keeps writers of other processes away.

    Args:
        experiment: where it goes.
        source: a path on this machine; or, where no such file exists, a key of the experiment's own store; or a URL.
        backup_name: ``[A-Za-z0-9][A-Za-z0-9._-]*``.

    Raises:
        FileNotFoundError: neither a file nor an object.
        InvalidBackup: it is not HDF5, or cut short.
        BackupBusy: HDF5's lock shows that somebody writes it.
    """
    key = keys.backup_key(experiment.exp_hash, backup_name)
    with _opened(source, experiment.store) as chunks:
        _put_with_digest(experiment.store, key, chunks)


def save_uids(experiment: Experiment, samples: SampleSet) -> None:
    """Write the active UIDs as HDF5: per type ("int", "str", "bytes") the UIDs and how often each is used."""
    data = _uids_file(samples)
    _put_with_digest(experiment.store, keys.uids_key(experiment.exp_hash), _Chunks([data], data.nbytes))


def load_uids(experiment: Experiment) -> Counter[UID] | None:
    """Return the recorded UIDs and how often each is used; None where the experiment recorded none. Two reads.

    Raises:
        CorruptCheckpoint: they are not what was written.
    """
    key, digest_key = backup_keys(keys.uids_key(experiment.exp_hash))
    try:
        data, line = experiment.store.get(key), bytes(experiment.store.get(digest_key))
    except KeyNotFound:
        return None
    if line != digest_line(hashlib.sha256(data).hexdigest(), keys.file_name(key)):
        raise CorruptCheckpoint(f"{experiment.where(key)} does not match its checksum; restore it from another store")
    return Counter(_uids_of(data))


def backup_keys(key: str) -> tuple[str, str]:
    """Return what a complete backup consists of: the file's key and its checksum's."""
    return key, keys.backup_digest_key(key)


def _put_with_digest(store: Store, key: str, chunks: _Chunks) -> None:
    _, digest_key = backup_keys(key)
    store.delete([digest_key])  # a crash must leave a file without a checksum, never with another file's
    store.put(key, chunks)
    store.put(digest_key, digest_line(chunks.digest.hexdigest(), keys.file_name(key)))


class _Chunks:
    """The bytes of a file, hashed while they are given out once, with their size for the store to plan by."""

    def __init__(self, chunks: Iterable[memoryview], size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.digest = hashlib.sha256()
        self._chunks = chunks

    def __iter__(self) -> Iterator[memoryview]:
        for chunk in self._chunks:
            self.digest.update(chunk)
            yield chunk


@contextmanager
def _opened(source: BackupSource, store: Store) -> Iterator[_Chunks]:
    location = _location(source)
    if "://" in location:
        folder, _, name = location.rpartition("/")
        name = unquote(name) if folder.startswith("file:") else name
        with open_store(folder) as other, _opened_object(other, name) as chunks:
            yield chunks
    elif Path(location).expanduser().is_file():
        with _opened_file(Path(location).expanduser()) as chunks:
            yield chunks
    else:
        with _opened_object(store, _own_key(location, store)) as chunks:
            yield chunks


def _location(source: BackupSource) -> str:
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        location = os.fspath(source)
        if isinstance(location, str):
            return location
    if hasattr(source, "protocol"):  # a UPath: what saving to a bucket returns
        return str(source)
    raise TypeError(f"data_h5_path is a {type(source).__name__}; give a path, a key of the store or a URL")


def _own_key(location: str, store: Store) -> str:
    message = f"no data file {location!r}, neither on this machine nor as a key in {redact(store.url)}"
    try:
        store.stat(check_key(location))
    except (InvalidKey, KeyNotFound):
        raise FileNotFoundError(message) from None
    return location


@contextmanager
def _opened_file(path: Path) -> Iterator[_Chunks]:
    import h5py

    if not h5py.is_hdf5(path):
        raise InvalidBackup(f"{path} is not HDF5; only the main data file is backed up, as .h5")
    try:
        held = h5py.File(path, "r")
    except BlockingIOError as error:
        raise BackupBusy(f"{path} is open for writing; close it, or back it up after the writer is done") from error
    except OSError as error:
        raise InvalidBackup(f"{path} cannot be opened as HDF5: {error}") from error
    with held, path.open("rb") as file:
        if held.mode != "r":  # this process has it open already, and HDF5 shares the open file
            raise BackupBusy(f"{path} is open for writing in this program; close it first")
        yield _Chunks(_file_chunks(file), os.fstat(file.fileno()).st_size)


def _file_chunks(file: io.BufferedReader) -> Iterator[memoryview]:
    while chunk := file.read(_CHUNK_BYTES):
        yield memoryview(chunk)


@contextmanager
def _opened_object(store: Store, key: str) -> Iterator[_Chunks]:
    import h5py

    info = store.stat(key)
    file = RangedFile(
        lambda wanted: next(store.get_ranges(key, [wanted], version=info.version)), info.size_bytes, _PROBE_BYTES
    )
    try:
        h5py.File(file, "r").close()
    except OSError as error:
        raise InvalidBackup(f"{key} in {redact(store.url)} is not whole HDF5: {error}") from error
    starts = range(0, info.size_bytes, _CHUNK_BYTES)
    ranges = [ByteRange(start, _CHUNK_BYTES) for start in starts]
    yield _Chunks(store.get_ranges(key, ranges, version=info.version), info.size_bytes)


def _uids_file(samples: SampleSet) -> memoryview:
    import h5py
    import numpy as np

    by_type: dict[type, dict[Any, int]] = {int: {}, str: {}, bytes: {}}
    for uid in samples:
        counts = by_type[type(uid)]
        counts[uid] = counts.get(uid, 0) + 1
    target = io.BytesIO()
    with h5py.File(target, "w", track_order=True) as file:
        for kind, counts in by_type.items():
            group = file.create_group(kind.__name__)
            group.create_dataset("uid", data=_uid_texts(counts), dtype=h5py.string_dtype())
            group.create_dataset("count", data=np.fromiter(counts.values(), dtype=np.uint64, count=len(counts)))
    return target.getbuffer()


def _uids_of(data: memoryview) -> dict[UID, int]:
    import h5py

    read: dict[str, Callable[[str], UID]] = {"int": int, "str": _text_uid, "bytes": bytes.fromhex}
    with h5py.File(io.BytesIO(data), "r") as file:
        return {
            read[kind](text): int(count)
            for kind, group in file.items()
            for text, count in zip(group["uid"].asstr()[:], group["count"][:], strict=True)
        }


def _text_uid(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], text)


def _uid_texts(counts: dict[Any, int]) -> list[str]:
    """Write ints (of any size) as decimal, bytes as hex, and str with its NULs, which HDF5 cannot hold, escaped."""
    return [_uid_text(uid) for uid in counts]


def _uid_text(uid: str | bytes | int) -> str:
    if isinstance(uid, bytes):
        return uid.hex()
    return str(uid).replace("\\", "\\\\").replace("\0", "\\0")
