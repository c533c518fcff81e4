"""What belongs to one process: made on first use, and made anew in a forked child.

A forked child has a copy of its parent's clients but not the threads that drive them, and it shares the
parent's sockets. Such a copy can be neither used nor closed: a call would wait for ever, and closing it would
end TLS connections and deregister sockets of the parent.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

_EVERYONE: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


class PerProcess(Generic[_T]):
    """Holds one value for each process that uses it.

    Args:
        make: builds the value; called once in each process, on first use.
        close: releases it: on `close`, when the holder is collected, or at the interpreter's exit.
    """

    def __init__(self, make: Callable[[], _T], close: Callable[[_T], None]) -> None:
        self._make = make
        self._close = close
        self._lock = threading.Lock()
        self._value: _T | None = None
        self._finalizer: weakref.finalize[[Callable[[_T], None], _T], PerProcess[_T]] | None = None
        _EVERYONE.add(self)

    def get(self) -> _T:
        """Return this process's value."""
        with self._lock:
            if self._value is None:
                self._value = self._make()
                self._finalizer = weakref.finalize(self, _release, self._close, self._value)
            return self._value

    def close(self) -> None:
        """Release the value, if there is one."""
        with self._lock:
            finalizer, self._value, self._finalizer = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def _forget(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if self._finalizer is not None:
            self._finalizer.detach()
            _keep_for_ever(self._value)
        self._value, self._finalizer = None, None


def _release(close: Callable[[_T], None], value: _T) -> None:
    if sys.is_finalizing():  # first used by an exit handler; the threads that closing would wait for are gone
        _keep_for_ever(value)
    else:
        close(value)


def _keep_for_ever(value: object) -> None:
    """Have a value never collected, so that it is neither closed nor complains that nobody did."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _forget_everything() -> None:
    for holder in list(_EVERYONE):
        holder._forget()  # noqa: SLF001  # the fork is this module's own business


os.register_at_fork(after_in_child=_forget_everything)
