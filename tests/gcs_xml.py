"""Start the XML interface of Google Cloud Storage in front of fake-gcs-server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_APP = Path(__file__).with_name("gcs_xml_app.py")


@contextmanager
def gcs_xml_front(behind: str) -> Iterator[str]:
    """Run it in a process of its own; yields its URL."""
    with subprocess.Popen(
        [sys.executable, str(_APP), behind], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
