"""What identifying an experiment costs: UIDs, the model, and an update that changes nothing.

    python benchmarks/bench_hashing.py [--rounds 5] [--millions 100]

Each figure is printed with the bar that it is held against, best and median of all rounds. Memory is what the
hashing itself adds to the peak of the program.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from ckptstore import ExperimentHashGenerator, SampleSet
from ckptstore.hashing import describe_model, sample_digest

_MILLION = 1_000_000
_DISCARDED = 10_000


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millions", type=int, default=100, help="how many integer UIDs, in millions")
    given = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()}, Python {platform.python_version()}"
    )
    print(", ".join(f"{name} {version(name)}" for name in ("ckptstore", "torch", "numpy", "xxhash")))
    measure_models(given.rounds)
    measure_samples(given.rounds)
    measure_integers(given.millions)


def measure_models(rounds: int) -> None:
    """A small transformer, one of a thousand modules, and updates that change nothing."""
    small, large = _transformer(6), _transformer(100)
    for name, model in (("6 layers", small), ("100 layers", large)):
        what = f"describing {name}, {sum(1 for _ in model.modules())} modules"
        report(what, "milliseconds per thousand", rounds * 5, partial(describe_model, model))
    generator = ExperimentHashGenerator()
    again = partial(generator.generate_hash, small, {"lr": 0.1, "betas": [0.9, 0.99]}, ["a", "b", "c"])
    report("hash of 6 layers, config and 3 UIDs, nothing changed", "1 ms", rounds * 5, again)


def measure_samples(rounds: int) -> None:
    """A million texts, and discarding some of them."""
    texts = [f"sample-{number:08d}" for number in range(_MILLION)]
    report("1 M UIDs of text", "0.5 s", rounds, lambda: sample_digest(texts))
    samples = SampleSet(texts)
    began = time.perf_counter()
    for text in texts[:_DISCARDED]:
        samples.discard(text)
    each = (time.perf_counter() - began) / _DISCARDED
    print(f"discarding one of a million: {each * 1e6:.2f} us (bar: microseconds)")


def measure_integers(millions: int) -> None:
    """Integers that stream by."""
    numbers = np.arange(millions * _MILLION, dtype=np.int64)
    sample_digest(numbers[:_MILLION])
    before, began = _peak_mib(), time.perf_counter()
    sample_digest(numbers)
    seconds, above = time.perf_counter() - began, _peak_mib() - before
    print(f"{millions} M int UIDs of a numpy array: {seconds:.3f} s, {above:.0f} MiB above it (bar: constant)")


def report(what: str, bar: str, rounds: int, act: Callable[[], object]) -> None:
    """Print the best and the median of some rounds, after one that does not count."""
    act()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    print(f"{what}: best {min(taken) * 1e3:.3f} ms, median {statistics.median(taken) * 1e3:.3f} ms (bar: {bar})")


def _transformer(layers: int) -> nn.Module:
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
