"""Tell the user what was done, and what was odd."""

from __future__ import annotations

import logging
import sys
import warnings

logger = logging.getLogger("ckptstore")


class CkptStoreWarning(UserWarning):
    """Something was skipped, passed over or repaired; the message says what."""


def say(line: str) -> None:
    """Log a line at level INFO; where the program's logging would not show that, write it to stderr instead."""
    if logger.hasHandlers() and logger.isEnabledFor(logging.INFO):
        logger.info(line)
    else:
        sys.stderr.write(f"ckptstore: {line}\n")


def warn(line: str) -> None:
    """Warn with `CkptStoreWarning`, pointing at the code that called ckptstore."""
    warnings.warn(line, CkptStoreWarning, stacklevel=_outside())


def _outside() -> int:
    level, frame = 2, sys._getframe(2)  # noqa: SLF001  # what warnings itself walks
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ckptstore"):
        level, frame = level + 1, frame.f_back
    return level
