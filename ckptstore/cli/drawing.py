"""Progress on a terminal: bytes, rate and what is left, once work has taken longer than a second."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ckptstore.cli.answers import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["DrawnProgress"]

_AFTER_S = 1.0


class DrawnProgress:
    """Draws progress on standard error where that is a terminal, and nothing elsewhere.

    Args:
        always: draw even where it is no terminal, for a test.
        after_s: seconds of work before anything is drawn.
    """

    def __init__(self, *, always: bool = False, after_s: float = _AFTER_S) -> None:
        self._always = always or None
        self._draws = always or sys.stderr.isatty()
        self._timer = threading.Timer(after_s, self._appear)
        self._timer.daemon = True
        self.bar: Bar | None = None
        self._bar_counts_bytes = False
        self._task: TaskID
        self._what = ""
        self._expected_bytes = self._expected_objects = 0
        self._done_bytes = self._done_objects = 0
        self._lock = threading.Lock()

    def expect(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        """Add to what there is to do."""
        with self._lock:
            self._expected_bytes += size_bytes
            self._expected_objects += objects
            self._show()

    def advance(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        """Add to what is done."""
        with self._lock:
            self._done_bytes += size_bytes
            self._done_objects += objects
            self._show()

    def describe(self, what: str) -> None:
        """Say in a few words what is being done now."""
        with self._lock:
            self._what = what
            self._show()

    def __enter__(self) -> Self:
        if self._draws:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the line away again."""
        self._timer.cancel()
        with self._lock:
            self._draws = False
            if self.bar is not None:
                self.bar.stop()
            self.bar = None

    def _appear(self) -> None:
        with self._lock:
            if self._draws:
                self.bar = self._started(counts_bytes=self._expected_bytes > 0)
                self._show()

    def _started(self, *, counts_bytes: bool) -> Bar:
        bar = _bar(console(stderr=True, as_terminal=self._always), counts_bytes=counts_bytes)
        self._task, self._bar_counts_bytes = bar.add_task("", total=None), counts_bytes
        bar.start()
        return bar

    def _show(self) -> None:
        if self.bar is None:
            return
        counts_bytes = self._expected_bytes > 0
        if counts_bytes != self._bar_counts_bytes:
            self.bar.stop()
            self.bar = self._started(counts_bytes=counts_bytes)
        self.bar.update(
            self._task,
            description=_shortened(self._what),
            total=(self._expected_bytes if counts_bytes else self._expected_objects) or None,
            completed=self._done_bytes if counts_bytes else self._done_objects,
        )


def _bar(screen: Console, *, counts_bytes: bool) -> Bar:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts = [DownloadColumn(), TransferSpeedColumn()] if counts_bytes else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), *amounts, TimeRemainingColumn()]
    return Progress(*columns, console=screen, transient=True, expand=True)


def _shortened(text: str, width: int = 28) -> str:
    return text if len(text) <= width else f"...{text[3 - width :]}"
