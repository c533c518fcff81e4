"""What a failure looks like on the command line: one line, and an exit code that a script can act on."""

from __future__ import annotations

from typing import Any

from ckptstore import errors
from ckptstore.cli.addresses import WrongUse

__all__ = ["EXIT_CODES", "INTERRUPTED", "PIPE_CLOSED", "describe_failure", "exit_code_of"]

INTERRUPTED, PIPE_CLOSED = 130, 141

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done, and all is well"),
    (1, "problems were found, or something failed; the report or the message says what"),
    (2, "the command line is wrong, or a package that it needs is not installed"),
    (
        3,
        "what was asked for is not there: store, experiment, checkpoint or key; or a prefix fits several experiments",
    ),
    (4, "the store cannot be used: no access, no answer, no space"),
    (INTERRUPTED, "interrupted"),
    (PIPE_CLOSED, "whoever read the output went away"),
)
"""Code and meaning, as the documentation shows them."""

_ABSENT = (
    errors.CheckpointNotFound,
    errors.KeyNotFound,
    errors.NoExperiment,
    errors.StoreNotFound,
    errors.UnknownExperiment,
)
_UNUSABLE = (errors.AccessDenied, errors.StoreFull, errors.StoreUnavailable)
_MISTAKES = (
    errors.InvalidKey,
    errors.InvalidName,
    errors.InvalidStep,
    errors.InvalidURL,
    errors.MissingDependency,
    errors.SamePlace,
    errors.UnknownBackend,
    WrongUse,
)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code for an error."""
    if isinstance(error, _ABSENT):
        return 3
    if isinstance(error, _UNUSABLE):
        return 4
    if isinstance(error, _MISTAKES) or type(error) is ValueError:  # an option that contradicts another
        return 2
    return 1


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Return an error as plain data, for JSON."""
    return {"error": {"type": type(error).__name__, "message": _message(error), "exit_code": exit_code_of(error)}}


def _message(error: BaseException) -> str:
    text = " ".join("; ".join([str(error), *getattr(error, "__notes__", [])]).split())
    if isinstance(error, errors.CkptStoreError | OSError) or type(error) is ValueError:
        return text
    return f"unexpected {type(error).__name__}: {text} (--debug shows where)"
