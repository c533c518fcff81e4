"""Run a server program for the tests: on free ports, in a folder of its own, gone when the tests are gone."""

from __future__ import annotations

import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

GRPC_OFFSET = 10_000  # SeaweedFS opens a second port for each service, that far above the first

_FIRST_PORTS = range(11_000, 22_000)  # both of a pair lie below those that the kernel gives to outgoing connections
_STARTS = 3
_READY_S = 30
_POLL_S = 0.05
_LOG_CHARS = 3000

# A killed test process cleans nothing up, but its end of the pipe closes. `exec` keeps the pid that is killed.
_END_WITH_PARENT = 'exec 3<&0 </dev/null; (read -r _ <&3 || kill -9 $$) & exec 3<&-; exec "$@"'


class NotStarted(Exception):
    """A server did not become ready; the message holds the end of its log."""


def program(package: str, beginning: str) -> Path:
    """Return the program that a Python package brought along, wherever its wheel put it."""
    (found,) = [file for file in distribution(package).files or () if file.name.startswith(beginning)]
    return Path(str(found.locate()))


def free_ports(count: int) -> list[int]:
    """Return ports that are free, and free as well `GRPC_OFFSET` above."""
    chosen: list[int] = []
    with ExitStack() as held:
        while len(chosen) < count:
            port = random.choice(_FIRST_PORTS)
            with suppress(OSError):
                for number in (port, port + GRPC_OFFSET):
                    held.enter_context(socket.create_server(("127.0.0.1", number)))
                chosen.append(port)
    return chosen


@contextmanager
def running(
    command: Callable[[Sequence[int], Path], Sequence[str]],
    *,
    ports: int,
    check: Callable[[Sequence[int]], object],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Sequence[int]]:
    """Run a server on loopback and yield its ports; afterwards it is gone, and so are its files.

    Args:
        command: from ports and an empty folder to the command line.
        ports: how many it needs. When somebody else takes one of them first, it is started anew on others.
        check: makes real requests, and raises while the server is not ready.
        environment: of the server; None is an empty one.
    """
    with ExitStack() as stack:
        for attempt in range(1, _STARTS + 1):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="srv-")))
            chosen = free_ports(ports)
            log = folder / "log"
            process = stack.enter_context(_process(command(chosen, folder), log, environment or {}))
            if _is_ready(process, partial(check, chosen)):
                break
            if attempt == _STARTS:
                raise NotStarted(f"{process.args!r} is not ready; its log ends:\n{log.read_text()[-_LOG_CHARS:]}")
        yield chosen


@contextmanager
def _process(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    guarded = ["/bin/sh", "-c", _END_WITH_PARENT, "sh", *command]
    with (
        log.open("wb") as said,
        subprocess.Popen(
            guarded, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, cwd=log.parent, bufsize=0,
            start_new_session=True,  # an interrupt from the terminal is for the tests, which then stop it
        ) as process,
    ):  # fmt: skip
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.kill()  # SeaweedFS does not end on SIGTERM
            process.wait()
            with suppress(BrokenPipeError):  # killed before there was a watcher
                process.stdin.write(b"it is gone\n")  # and its pid may be another's: the watcher lets it be


def _is_ready(process: subprocess.Popen[bytes], check: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(Exception):
            check()
            return True
        time.sleep(_POLL_S)
    return False
