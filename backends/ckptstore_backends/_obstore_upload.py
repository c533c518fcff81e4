"""Feed obstore's multipart upload from another thread.

obstore.put holds its thread until it is done, and there no signal is seen. So it has a thread of its own, and the
caller's thread goes on pulling the iterable, which may be bound to it, and hears of an interrupt at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from ckptstore.errors import StoreError
from ckptstore_backends._parts import MAX_PARTS, MIB

_T = TypeVar("_T")

_AHEAD = 2  # pieces that wait to be taken, of at most one part each
_AHEAD_BYTES = 8 * MIB  # more wait while they are small: the threads take turns less often


class Abandoned(Exception):
    """Makes obstore abort an upload."""


class Handover:
    """An iterator of pieces in one thread that another one gives them to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._complete = self._abandoned = self._ended = False

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._complete or self._abandoned)
            if self._abandoned:
                raise Abandoned
            if not self._pieces:
                raise StopIteration
            piece = self._pieces.popleft()
            self._waiting_bytes -= piece.nbytes
            if self._room:
                self._changed.notify_all()
            return piece

    def give(self, piece: memoryview) -> bool:
        """Wait for room, and hand a piece over; return whether anybody still takes them."""
        with self._changed:
            self._changed.wait_for(lambda: self._room or self._ended)
            self._pieces.append(piece)
            self._waiting_bytes += piece.nbytes
            self._changed.notify_all()
            return not self._ended

    @property
    def _room(self) -> bool:
        return len(self._pieces) < _AHEAD or self._waiting_bytes < _AHEAD_BYTES

    def complete(self) -> None:
        """Say that no piece follows."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Have the upload aborted."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no more pieces are taken."""
        with self._changed:
            self._ended = True
            self._pieces.clear()
            self._changed.notify_all()


def uploaded(pieces: Iterable[memoryview], send: Callable[[Iterator[memoryview]], _T]) -> _T:
    """Return what `send` returns when it is run in another thread and given the pieces, which are pulled in this one.

    Whatever the pieces raise, and an interrupt, comes out of here once `send` has aborted; its own error becomes a
    note then.
    """
    handover = Handover()
    future: Future[_T] = Future()
    threading.Thread(target=_run, args=(send, handover, future), name="ckptstore upload", daemon=True).start()
    try:
        for piece in pieces:
            if not handover.give(piece):
                break
        handover.complete()
        return future.result()
    except BaseException as error:
        handover.abandon()
        if not future.done() or future.exception() is not error:
            _take_notes(error, future)
        raise
    finally:
        del future  # with its error it would make a cycle that keeps the caller's buffers until a collection


def _run(send: Callable[[Iterator[memoryview]], _T], handover: Handover, future: Future[_T]) -> None:
    try:
        future.set_result(send(handover))
    except BaseException as error:  # noqa: BLE001  # it is raised in the other thread
        future.set_exception(error)
    finally:
        handover.end()


def _take_notes(error: BaseException, future: Future[_T]) -> None:
    with suppress(Abandoned):
        for note in getattr(future.exception(), "__notes__", ()):
            error.add_note(note)


def pieces_of(views: Iterable[memoryview], part_bytes: int) -> Iterator[memoryview]:
    """Yield the views, cut where they are larger than a part: obstore would start all parts of a larger one at once.

    Raises:
        StoreError: there is more than the parts of one upload hold.
    """
    left = MAX_PARTS * part_bytes
    for view in views:
        left -= view.nbytes
        if left < 0:
            limit = MAX_PARTS * part_bytes
            raise StoreError(f"a stream of unknown length may have {limit} bytes; give it an attribute size_bytes")
        for start in range(0, view.nbytes, part_bytes):
            yield view[start : start + part_bytes]


class Counted:
    """An iterator that knows what has passed.

    Attributes:
        size_bytes: the bytes so far.
        complete: whether that is all.
    """

    def __init__(self, views: Iterator[memoryview]) -> None:
        self._views = views
        self.size_bytes = 0
        self.complete = False

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        try:
            view = next(self._views)
        except StopIteration:
            self.complete = True
            raise
        self.size_bytes += view.nbytes
        return view
