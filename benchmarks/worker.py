"""Runs one contender in a process of its own: one round for each line that comes in.

The process answers every line with a line of JSON: wall seconds, CPU seconds of all its threads, and how far its
memory rose above what it held before.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it waits a minute for gRPC, which is not there

from benchmarks.contenders import CONTENDERS, Setup


def measured(act: Callable[[], object]) -> dict[str, float]:
    """Return what one call costs."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    before = _kib("VmRSS")
    cpu, began = time.process_time(), time.perf_counter()
    held = act()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = _kib("VmHWM") - before
    del held
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak / 1024}


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def main() -> None:
    """Serve until standard input closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    setup = Setup(**json.loads(sys.argv[1]))
    contender = CONTENDERS[setup.contender](setup)
    contender.prepare()
    contender.run()
    contender.check()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        contender.before()
        print(json.dumps(measured(contender.run)), file=answers, flush=True)
    contender.close()


if __name__ == "__main__":
    main()
