"""Whether obstore is there, and may be used in this process.

Its runtime belongs to the process that started it. In a forked child its threads are gone, so that a request
would never end; and its epoll descriptor is shared, so that the child's first connection makes the parent look
up memory that only the child has: the parent dies of it (seen with obstore 0.12).

At the end of a process its threads must be left alone with what they still hold: after an answer was handed over
they let go of objects of Python's, and one that does so while the interpreter shuts down aborts the process (seen
in 2 of 60 programs whose last act was a request; with the pause below in 0 of 150).
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from importlib.util import find_spec

_PAUSE_S = 0.1

_inherited = False


def installed(package: str = "obstore") -> bool:
    """Whether obstore, or another one, can be imported; it is not imported to find out."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # somebody keeps it from being imported
        return False


def usable() -> bool:
    """Whether no parent of this process had loaded obstore before it forked."""
    return not _inherited


def _note_inheritance() -> None:
    global _inherited  # noqa: PLW0603  # a fact about the process
    _inherited = _inherited or "obstore" in sys.modules


os.register_at_fork(after_in_child=_note_inheritance)


def _let_its_threads_finish() -> None:
    if "obstore" in sys.modules and usable():
        time.sleep(_PAUSE_S)


atexit.register(_let_its_threads_finish)  # registered before any store is made, so it runs after they are closed
