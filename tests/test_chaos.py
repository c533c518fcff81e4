"""Nothing is lost by kills at random moments, and the next run completes: ``python -m tests.chaos`` in short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.harness import Broken, strike


def test_what_is_killed_at_random_moments_is_completed_by_the_next_run():
    command = [sys.executable, "-m", "tests.chaos", "--rounds", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parent.parent
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.findall(r"^(\w+): killed in 2 rounds", ended.stdout, re.MULTILINE) == [
        "begin", "save", "mirror", "prune", "compress",
    ]  # fmt: skip


class _Careless:
    """Writes in place, slowly, so that a kill leaves half a file."""

    name = "careless"

    def prepare(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_bytes(b"old!" * 1000)

    def act(self, folder: Path, seed: int) -> None:
        with (folder / "file").open("r+b", buffering=0) as file:
            for _ in range(1000):
                file.write(b"new!")
                time.sleep(1e-4)  # longer than a fork takes, so that the first kills come in between

    def check(self, folder: Path) -> None:
        assert len(set((folder / "file").read_bytes())) == 4

    def check_complete(self, folder: Path) -> None:
        assert (folder / "file").read_bytes() == b"new!" * 1000


def test_the_harness_notices_an_operation_that_is_not_safe(tmp_path, capfd):
    with pytest.raises(Broken, match=r"what careless, seed \d+, killed after .* ms left is not as promised"):
        strike(_Careless(), 50, seed=1, root=tmp_path)
    assert "assert len(set(" in capfd.readouterr().err
