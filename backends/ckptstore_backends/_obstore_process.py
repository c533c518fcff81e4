"""Whether obstore may be used in this process.

Its runtime belongs to the process that started it. In a forked child its threads are gone, so that a request
would never end; and its epoll descriptor is shared, so that the child's first connection makes the parent look
up memory that only the child has: the parent dies of it (seen with obstore 0.12).
"""

from __future__ import annotations

import os
import sys

_inherited = False


def usable() -> bool:
    """Whether no parent of this process had loaded obstore before it forked."""
    return not _inherited


def _note_inheritance() -> None:
    global _inherited  # noqa: PLW0603  # a fact about the process
    _inherited = _inherited or "obstore" in sys.modules


os.register_at_fork(after_in_child=_note_inheritance)
