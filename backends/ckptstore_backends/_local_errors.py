"""What the errors of a file system mean for a store."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ckptstore.errors import AccessDenied, CkptStoreError, InvalidKey, KeyNotFound, StoreError, StoreFull

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR}
_BAD_NAME = {errno.ENAMETOOLONG, errno.EILSEQ}


@contextmanager
def reading(asked: str) -> Iterator[None]:
    """Translate the errors of reading; asked is such as "get 'k' from file:///x"."""
    try:
        yield
    except CkptStoreError:
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise KeyNotFound(f"cannot {asked}: no such object") from error
    except OSError as error:
        raise _translated(error, asked) from error


@contextmanager
def writing(asked: str) -> Iterator[None]:
    """Translate the errors of writing; asked is such as "put 'k' into file:///x"."""
    try:
        yield
    except CkptStoreError:
        raise
    except OSError as error:
        raise _translated(error, asked) from error


def _translated(error: OSError, asked: str) -> CkptStoreError:
    found = (error.strerror or str(error)).lower()
    if error.errno in _DENIED:
        return AccessDenied(f"cannot {asked}: {found}; give this user the right to, or choose another root")
    if error.errno in _FULL:
        return StoreFull(f"cannot {asked}: {found}; free some space, what was there before is intact")
    if error.errno in _IN_THE_WAY:
        return InvalidKey(f"cannot {asked}: {found}; a key is no folder of another one, choose another key")
    if error.errno in _BAD_NAME:
        return InvalidKey(f"cannot {asked}: {found}; choose another key, or a root with a shorter path")
    return StoreError(f"cannot {asked}: {found}")
