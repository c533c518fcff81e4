"""Runs one contender in a process of its own: it gets ready at the first line, and runs once for each further line.

Every line is answered with a line of JSON: wall seconds, CPU seconds of all its threads, and how far its
memory rose above what it held before.

A virtual machine may give memory that is free for a second back to its host. Who touches it next then waits for the
host, 2 s for each GiB on one such machine: many times what the copy into it costs, and a matter of whose turn came
when. So as much memory as the state needs, 1 GiB at most, is touched and freed right before each call.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it waits a minute for gRPC, which is not there

from benchmarks.contenders import CONTENDERS, Setup

_WARM_BYTES = 1024**3


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


def warm_memory(size: int) -> None:
    """Have this much free memory backed by the machine: touch it, by two threads, and free it."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        pages = np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda half: half.fill(1), np.array_split(pages, 2)))
        del pages


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def main() -> None:
    """Serve until standard input closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    setup = Setup(**json.loads(sys.argv[1]))
    contender = CONTENDERS[setup.contender](setup)
    sys.stdin.readline()  # contenders start side by side, and take turns from here on
    contender.prepare()
    contender.run()
    contender.check()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        contender.before()
        warm_memory(min(contender.shape.size_bytes, _WARM_BYTES))
        print(json.dumps(measured(contender.run)), file=answers, flush=True)
    contender.close()


if __name__ == "__main__":
    main()
