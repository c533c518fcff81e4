"""What a check-up found, as a value and as a page of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

_WIDTH = 80
_MARGIN = 17
_CHECKPOINT_BYTES = 5 * 1024**3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: what: "create", "list", ...
        ok: whether the store does it as promised.
        detail: what was found.
        hint: what to do about it; "" when nothing.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the store was.

    Attributes:
        up_mb_s: a large put, in 10**6 bytes per second; None where it was not measured, as for the others.
        down_mb_s: a large get.
        put_ms: a put of 1 KiB, the median of several.
        get_ms: a get of 1 KiB, the median of several.
    """

    up_mb_s: float | None = None
    down_mb_s: float | None = None
    put_ms: float | None = None
    get_ms: float | None = None


@dataclass(frozen=True, slots=True)
class CheckUp:
    """The findings about one store; ``str()`` gives them as a page of 80 columns.

    Attributes:
        url: the store, without credentials.
        checks: everything that was tried, in order.
        speed: what was measured.
        sent_bytes: how much the check-up wrote.
        received_bytes: how much it read.
        seconds: how long it took.
        transfer: what moves the bytes.
        limits: promises that the store itself says it cannot keep.
        hangs: the last answer had not come when the time was over.
    """

    url: str
    checks: tuple[Check, ...]
    speed: Speed
    sent_bytes: int
    received_bytes: int
    seconds: float
    transfer: str = ""
    limits: tuple[str, ...] = ()
    hangs: bool = False

    @property
    def ok(self) -> bool:
        """Whether everything that was tried works."""
        return bool(self.checks) and all(check.ok for check in self.checks) and not self.hangs

    @property
    def read_only(self) -> bool:
        """Whether it could be read and not written."""
        by_name = {check.name: check.ok for check in self.checks}
        return by_name.get("reach", False) and not by_name.get("write", True)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {**asdict(self), "ok": self.ok, "read_only": self.read_only}

    def __str__(self) -> str:
        title = f"{self.url}  ({self.transfer})" if self.transfer else self.url
        lines = [title, "", *(line for check in self.checks for line in _check_lines(check)), ""]
        lines += [line for name, text in self._remarks() for line in _wrapped(f"  {name}", text)]
        return "\n".join([*lines, "", *textwrap.wrap(self._verdict(), _WIDTH)])

    def _remarks(self) -> Iterator[tuple[str, str]]:
        if self.speed.up_mb_s is not None and self.speed.down_mb_s is not None:
            yield "speed", f"{self.speed.up_mb_s:.0f} MB/s up, {self.speed.down_mb_s:.0f} MB/s down"
            yield (
                "expect",
                (
                    f"a 5 GiB checkpoint takes about {_duration(self.speed.up_mb_s)} to save and "
                    f"{_duration(self.speed.down_mb_s)} to load"
                ),
            )
        for limit in self.limits if self.sent_bytes else ():
            yield "limit", limit
        moved = f"{self.sent_bytes / 1e6:.1f} MB sent, {self.received_bytes / 1e6:.1f} MB received"
        yield "cost", f"{moved}, {self.seconds:.1f} s"

    def _verdict(self) -> str:
        if self.ok:
            return "all is well: this store keeps what a training run needs"
        if self.hangs:
            return "the store does not answer; look at the network, or raise the time limit"
        if self.read_only:
            return "read-only: checkpoints here can be loaded, nothing can be saved"
        failed = ", ".join(check.name for check in self.checks if not check.ok)
        return f"do not train on this store as it is; see: {failed}"


def _check_lines(check: Check) -> Iterator[str]:
    yield from _wrapped(f"  {'ok  ' if check.ok else 'FAIL'}  {check.name}", check.detail)
    if check.hint:
        yield from _wrapped("", f"-> {check.hint}")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{head:<{_MARGIN}}", subsequent_indent=" " * _MARGIN, break_on_hyphens=False
    )


def _duration(mb_s: float) -> str:
    seconds = _CHECKPOINT_BYTES / 1e6 / max(mb_s, 1e-9)
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} minutes" if seconds < 7200 else f"{round(seconds / 3600)} hours"
