"""Run the demo on a server that is started for it: ``python -m tests.demo_server s3``, or gcs.

What follows are options of the demo.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.fake_gcs import fake_gcs_server
from tests.seaweedfs import KEY, SECRET, seaweedfs

_DEMO = Path(__file__).parents[1] / "examples" / "train_digits.py"


@contextmanager
def s3() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield a URL on SeaweedFS, and the environment that reaches it."""
    with seaweedfs() as server:
        variables = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        yield f"s3://{server.new_bucket()}/demo", {**variables, "AWS_REGION": "us-east-1"}


@contextmanager
def gcs() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield a URL on fake-gcs-server, and the environment that reaches it."""
    with fake_gcs_server() as server:
        yield f"gs://{server.new_bucket()}/demo", {"STORAGE_EMULATOR_HOST": server.url}


def main() -> None:
    """Start the server, run the demo, and stop the server."""
    service, *options = sys.argv[1:] or [""]
    if service not in {"s3", "gcs"}:
        raise SystemExit("python -m tests.demo_server s3|gcs [options of the demo]")
    with (s3 if service == "s3" else gcs)() as (url, variables):
        command = [sys.executable, str(_DEMO), "--store", url, *options]
        code = subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
    raise SystemExit(code)


if __name__ == "__main__":
    main()
