"""An SFTP server on loopback, in a process of its own, and what reaches it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER, PASSWORD = "tester", "the-sftp-password"

_APP = Path(__file__).with_name("sftp_app.py")


@contextmanager
def sftp_server(served: Path) -> Iterator[int]:
    """Serve a folder; yield the port."""
    with subprocess.Popen(
        [sys.executable, str(_APP), str(served), USER, PASSWORD],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def sftp_options(port: int, password: str = PASSWORD) -> dict[str, Any]:
    """Return what fsspec needs to reach it, and no key of this machine."""
    return {"port": port, "username": USER, "password": password, "look_for_keys": False, "allow_agent": False}
