"""Folders of a local store: walked in key order, made durably, removed when empty."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ckptstore.errors import InvalidKey
from ckptstore.objects import check_key

_CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def walk(
    folder: Path | str, prefix: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every regular file below a folder with its prefix, ordered by the UTF-8 bytes of prefix and name.

    Folders whose names no key can have are passed over; files with such names are not, as unfinished writes are
    among them. Links are followed, but not in circles. One folder's names are in memory for each level.
    """
    found = status(Path(folder))
    if found is None or (identity := (found.st_dev, found.st_ino)) in above:
        return
    for name, entry, is_folder in subfolders_and_files(folder):
        if not is_folder:
            yield prefix, entry
        elif is_key(prefix + name):
            yield from walk(entry.path, f"{prefix}{name}/", above | {identity})


def subfolders_and_files(folder: Path | str) -> list[tuple[str, os.DirEntry[str], bool]]:
    """Return (name, entry, whether it is a folder) of what a folder holds, in key order; nothing if it is gone."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            is_folder = _is_folder(entry)
            if is_folder is not None:
                found.append((entry.name, entry, is_folder))
    return sorted(found, key=lambda item: os.fsencode(item[0]) + (b"/" if item[2] else b""))


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    try:
        return True if entry.is_dir() else False if entry.is_file() else None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return None
        raise


def is_key(key: str) -> bool:
    """Tell whether that is inside the key grammar."""
    try:
        return bool(check_key(key))
    except InvalidKey:
        return False


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, each durable before anything is put into it.

    Raises:
        NotADirectoryError: something else has that name.
        FileNotFoundError: another process removed one meanwhile; try again.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        if is_no_folder(folder) or (folder.is_symlink() and status(folder) is None):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        return
    except FileNotFoundError:
        make_folders(folder.parent)
        with suppress(FileExistsError):  # another writer makes the same
            folder.mkdir()
    sync_folder(folder.parent)


def prune(folder: Path, root: Path) -> None:
    """Remove a folder and those above it, as far as they are empty and below the root."""
    while folder != root:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass  # those above it may have been made for it
        except OSError:
            return
        folder = folder.parent


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:  # such a file system orders names by itself
            raise
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Return when what was written has reached the medium itself."""
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # a network volume has no such call; fsync is all it offers
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync there stops at the drive's cache
            return
    os.fsync(descriptor)


def is_no_folder(path: Path) -> bool:
    """Tell whether something is there and is no folder; asked once, as others come and go."""
    found = status(path)
    return found is not None and not stat.S_ISDIR(found.st_mode)


def status(path: Path) -> os.stat_result | None:
    """Return the status of what is there, through links; None when there is nothing."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
