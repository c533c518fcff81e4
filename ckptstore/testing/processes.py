"""Run work in other processes, with a hard end and a real exit code."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeVar

from ckptstore.objects import ByteRange
from ckptstore.store import Store

__all__ = ["create_each", "in_processes", "replace_each", "use_everything", "write_each"]

Result = TypeVar("Result")

_LIMIT_S = 60.0
_START = {
    "fork": "fork",
    "fresh": "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn",
}


def in_processes(
    method: Literal["fresh", "fork"], work: Callable[..., Result], calls: Sequence[tuple[Any, ...]]
) -> list[Result]:
    """Run ``work(*call)`` for every call, each in a process of its own, all at once; return the results in order.

    Args:
        method: "fork" inherits everything from this process, "fresh" nothing but the environment. What
            `multiprocessing.set_forkserver_preload` names is imported once for all fresh ones.
        work: a function of a module.
        calls: arguments, each for one process.

    Raises:
        AssertionError: when one hangs, raises, or ends otherwise than with exit code 0.
    """
    context: Any = multiprocessing.get_context(_START[method])  # the stubs hide Process behind two types
    running = []
    for call in calls:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_report, args=(sender, work, call, dict(os.environ)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork beside threads: it is the test
            process.start()
        sender.close()
        running.append((process, receiver))
    try:
        return [_result(process, receiver) for process, receiver in running]
    finally:
        for process, _ in running:
            process.kill()
            process.join()


def _report(
    sender: Connection, work: Callable[..., object], call: tuple[Any, ...], environment: dict[str, str]
) -> None:
    os.environ.update(environment)  # a server that forks has that of the moment it began
    sender.send(work(*call))
    sender.close()


def _result(process: Any, receiver: Connection) -> Any:
    if not receiver.poll(_LIMIT_S):
        raise AssertionError(f"process {process.pid} did not answer within {_LIMIT_S:.0f} s: it hangs")
    try:
        result = receiver.recv()
    except EOFError:
        process.join(_LIMIT_S)
        raise AssertionError(f"process {process.pid} failed with exit code {process.exitcode}") from None
    process.join(_LIMIT_S)
    if process.exitcode != 0:
        raise AssertionError(f"process {process.pid} answered, then ended with exit code {process.exitcode}")
    return result


def write_each(opener: Callable[[], Store], objects: dict[str, bytes]) -> int:
    """Put the objects through a store of this process; return how many."""
    with opener() as store:
        return sum(store.put(key, data).key == key for key, data in objects.items())


def create_each(opener: Callable[[], Store], keys: Sequence[str], data: bytes) -> list[str]:
    """Try to create every key; return those that this process won."""
    with opener() as store:
        return [key for key in keys if _created(store, key, data)]


def replace_each(opener: Callable[[], Store], key: str, data: bytes, times: int) -> int:
    """Put the same object again and again; return how often."""
    with opener() as store:
        return sum(store.put(key, data).size_bytes == len(data) for _ in range(times))


def use_everything(store: Store, folder: str) -> list[str]:
    """Put, create, read, list, copy and delete below a folder with the given store itself; return the keys left."""
    key, twin = f"{folder}/one", f"{folder}/two"
    store.put(key, b"old")
    store.put(key, iter([b"ne", b"w"]))
    store.put(twin, b"x", overwrite=False)
    store.delete([twin])
    store.copy(key, twin)
    assert bytes(store.get(key)) == b"new"
    assert [bytes(part) for part in store.get_ranges(twin, [ByteRange(1)])] == [b"ew"]
    return [info.key for info in store.list(f"{folder}/")]


def _created(store: Store, key: str, data: bytes) -> bool:
    try:
        store.put(key, data, overwrite=False)
    except FileExistsError:
        return False
    return True
