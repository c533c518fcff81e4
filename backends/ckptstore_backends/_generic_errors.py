"""What the errors of any fsspec filesystem mean for a store, by class, errno or status code."""

from __future__ import annotations

import errno
import ftplib

from ckptstore.errors import (
    AccessDenied,
    CkptStoreError,
    InvalidKey,
    KeyNotFound,
    MissingDependency,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnsupportedOperation,
)

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNREACHABLE = frozenset({
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
    errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTDOWN,
})  # fmt: skip
_MISTAKES = (TypeError, AttributeError, AssertionError, MemoryError)
_ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
            NotImplementedError, ftplib.error_perm)  # fmt: skip


def translated(error: Exception, asked: str) -> Exception:
    """Return the error to raise; asked is such as "get 'k' in sftp://host/x".

    An error that tells of a mistake in the code, ours or a filesystem's, comes back as it is. The text of an
    error is never repeated: it may hold a signed address.
    """
    if isinstance(error, (CkptStoreError, *_MISTAKES)):
        return error
    kind, advice = _judged(error)
    name = type(error).__name__
    found = f"{name}: {error.strerror}" if isinstance(error, OSError) and error.strerror else name
    return kind(f"cannot {asked}: {found}{advice and '; ' + advice}")


def is_answer(error: BaseException) -> bool:
    """Whether the other side said so itself, and another connection would say the same."""
    known = isinstance(error, (*_ANSWERS, CkptStoreError, *_MISTAKES)) or _status(error) is not None
    return known or (isinstance(error, Exception) and _is_denial(error))


def _judged(error: Exception) -> tuple[type[CkptStoreError], str]:
    if isinstance(error, FileNotFoundError):
        return KeyNotFound, ""
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return InvalidKey, "a key is no folder of another one, choose another key"
    if isinstance(error, ImportError):
        return MissingDependency, "install what it names"
    if isinstance(error, NotImplementedError):
        return UnsupportedOperation, "this filesystem has no such operation"
    if isinstance(error, OSError) and error.errno in _FULL:
        return StoreFull, "free some space, what was there before is intact"
    if _is_denial(error):
        return AccessDenied, "check the credentials and their rights"
    if _is_outage(error):
        return StoreUnavailable, "check the address and the network, and try again"
    return StoreError, ""


def _is_denial(error: Exception) -> bool:
    if isinstance(error, ftplib.error_perm):
        return error.args[0][:3] in {"530", "532"}  # RFC 959: not logged in
    return (
        isinstance(error, PermissionError)
        or (isinstance(error, OSError) and error.errno in _DENIED)
        or _status(error) in {401, 403}
        or "AuthenticationException" in _class_names(error)  # of paramiko, which is not ours to import
    )


def _is_outage(error: Exception) -> bool:
    status = _status(error)
    return (
        isinstance(error, ConnectionError | TimeoutError | EOFError | ftplib.error_temp)
        or (isinstance(error, OSError) and error.errno in _UNREACHABLE)
        or (status is not None and (status == 429 or status >= 500))
        or bool(_class_names(error) & {"gaierror", "SSHException", "NoValidConnectionsError", "ServiceRequestError"})
    )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries, the way requests, httpx, aiohttp and Azure's client do."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            if isinstance(found := getattr(holder, name, None), int):
                return found
    return None


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
