"""Notice that the machine is about to be taken away, without interrupting a training step.

A handler runs between any two bytecodes, so none here touches model, optimizer or store. One sets a flag, for the
training loop to look at where its state is whole. The other lets a thread wait for the saves in flight, which hold
copies. While the main thread is inside one long call into C, Python runs no handler at all.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import FrameType

from ckptstore.notices import logger


class Preemption:
    """The signal handlers of one manager.

    They act in the process that installed them; in a forked child a signal does what it did before.

    Args:
        flush: waits until what is in flight is durable, a bound method; called in a thread of its own.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = weakref.WeakMethod(flush)  # the table of signals would keep a forgotten manager for ever
        self._handlers: dict[int, _Handler] = {}
        self._noticed = threading.Event()

    @property
    def noticed(self) -> bool:
        """Whether one of the signals that set the flag has come."""
        return self._noticed.is_set()

    def notice(self, signals: Iterable[int]) -> None:
        """Let these signals set a flag, and not end the program any more.

        A function that handled one before is called after that, KeyboardInterrupt only from the second SIGINT on.

        Raises:
            ValueError: there is none, one cannot be handled or is handled here already, or this is no main thread.
        """
        for number in _checked(signals):
            self._install(number, _Notice(self._noticed))

    def flush_on(self, number: int) -> None:
        """Let a signal wait for the saves in flight, and then do what it did before.

        Raises:
            ValueError: as `notice` does.
        """
        for checked in _checked([number]):
            self._install(checked, _FlushFirst(self._flush))

    def end(self) -> None:
        """Handle no signal any more; called in another thread, the handlers stay and do nothing."""
        for handler in self._handlers.values():
            handler.remove()
        self._handlers.clear()

    def _install(self, number: signal.Signals, handler: _Handler) -> None:
        if number in self._handlers:
            raise ValueError(
                f"{number.name} is handled by this manager already; either it flushes and ends the program "
                "(flush_on_sigterm), or the training loop goes on to one last save (save_on_signal)"
            )
        handler.install(number)
        self._handlers[number] = handler


class _Handler(ABC):
    """A handler in front of the one that was there before."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._active = False

    def install(self, number: signal.Signals) -> None:
        self._number, self._before = number, signal.getsignal(number)
        if self._before is None:
            raise ValueError(f"{number.name} has a handler that Python cannot call; install ckptstore's before it")
        self._active = True
        signal.signal(number, self._handle)

    def remove(self) -> None:
        self._active = False
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and os.getpid() == self._owner and signal.getsignal(self._number) == self._handle:
            signal.signal(self._number, self._before)

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        if self._active and os.getpid() == self._owner:
            self._act(frame)
        else:
            self._chain(frame)

    @abstractmethod
    def _act(self, frame: FrameType | None) -> None:
        """Do what the handler is for."""

    def _chain(self, frame: FrameType | None) -> None:
        """Do what the signal did before."""
        if callable(self._before):
            self._before(self._number, frame)
        elif self._before == signal.SIG_DFL:
            signal.signal(self._number, signal.SIG_DFL)
            _send_to_main_thread(self._number)


class _Notice(_Handler):
    def __init__(self, noticed: threading.Event) -> None:
        super().__init__()
        self._noticed = noticed
        self._count = 0

    def _act(self, frame: FrameType | None) -> None:
        self._noticed.set()
        self._count += 1
        if self._before is signal.default_int_handler and self._count == 1:
            return
        if callable(self._before):
            self._before(self._number, frame)


class _FlushFirst(_Handler):
    def __init__(self, flush: weakref.WeakMethod[Callable[[], None]]) -> None:
        super().__init__()
        self._flush = flush
        self._begun, self._flushed = False, threading.Event()

    def _act(self, frame: FrameType | None) -> None:
        if self._flushed.is_set():
            self._chain(frame)
        elif not self._begun:  # a launcher may send it twice
            self._begun = True
            # Here it could wait for a lock that the interrupted code holds.
            threading.Thread(target=self._flush_and_return, name="ckptstore flush", daemon=True).start()

    def _flush_and_return(self) -> None:
        try:
            if flush := self._flush():
                flush()
        except Exception as error:  # noqa: BLE001  # the program is about to end; there is nobody to raise it to
            logger.critical("a checkpoint was lost when %s came: %s", self._number.name, error)
        finally:
            self._flushed.set()
            _send_to_main_thread(self._number)


def _checked(signals: Iterable[int]) -> list[signal.Signals]:
    checked = [signal.Signals(number) for number in signals]  # says which one is unknown
    if not checked or {signal.SIGKILL, signal.SIGSTOP}.intersection(checked):
        raise ValueError("give signals that can be handled, such as signal.SIGTERM; SIGKILL and SIGSTOP cannot be")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signals are handled in the main thread; make the manager, or ask for a signal, there")
    return checked


def _send_to_main_thread(number: int) -> None:
    """Send a signal where it also ends a sleep or a wait for a lock."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)
