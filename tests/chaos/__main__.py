"""python -m tests.chaos [--rounds 200] [--only NAME] [--seed N]."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.chaos.harness import Broken, strike
from tests.chaos.operations import OPERATIONS


def main() -> int:
    """Run every operation's rounds and say how it went; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="kill -9 at random moments")
    parser.add_argument("--rounds", type=int, default=200, help="of each operation")
    parser.add_argument("--only", choices=[operation.name for operation in OPERATIONS], help="one operation")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="to have the same moments again")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork has none of them
    _say(f"seed {given.seed}")
    for operation in OPERATIONS:
        if given.only in {None, operation.name}:
            try:
                root = Path(tempfile.mkdtemp(prefix=f"chaos-{operation.name}-"))
                outcome = strike(operation, given.rounds, given.seed, root)
            except Broken as broken:
                _say(f"{operation.name}: {broken}")
                return 1
            times = f"{outcome.killed} before its end, which takes {outcome.seconds * 1e3:.0f} ms"
            _say(f"{operation.name}: killed in {outcome.rounds} rounds, {times}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
