"""Single values to plain data: text, numbers, bytes, paths, moments, and what numpy and torch call a scalar."""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta
from pathlib import PurePath
from typing import Any, Final, TypeAlias

Scalar: TypeAlias = str | int | float | bool | bytes | None


class NoPlainForm(Exception):  # never leaves the package: Reduction adds the path
    """A value cannot become plain data; the message completes the sentence "config['x'] ..."."""


class Unreduced:
    """The one answer of a reduction to a value that is not its business."""


UNREDUCED: Final = Unreduced()


def reduce_scalar(value: object) -> Scalar | Unreduced:
    """Return the plain form of a single value, or UNREDUCED for what is none.

    Subclasses of str, int, float and bytes become their base, numpy and torch scalars the Python value; paths, dates,
    times, `torch.dtype` and `torch.device` become text, and a timedelta its seconds.

    Raises:
        NoPlainForm: for a scalar that YAML cannot carry.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return _reduce_library_scalar(value)


def _reduce_library_scalar(value: object) -> Scalar | Unreduced:
    if isinstance(value, PurePath):
        return _text(str(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if (numpy := sys.modules.get("numpy")) and isinstance(value, numpy.generic):
        return _reduce_numpy(value)
    if (torch := sys.modules.get("torch")) and isinstance(value, torch.dtype | torch.device):
        return str(value)
    return UNREDUCED


def _reduce_numpy(value: Any) -> Scalar | Unreduced:
    if value.dtype.kind in "mM":
        return str(value)
    item = value.item()
    if item is value or not isinstance(item, bool | int | float):
        raise NoPlainForm(f"is a numpy {value.dtype}, which has no plain form; give a float, an int or a str")
    return item


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NoPlainForm(f"is the text {value!a}, which is not valid unicode; give bytes") from None
    return value
