"""Flip random bits in a copy of a store that has every kind of file; each must be found, and repaired.

``python -m tests.bit_flips --flips 1000`` is the long form of a test in `tests.test_verify_flips`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from ckptstore import CheckpointManagerV2, keys, open_store
from ckptstore.compression import compress
from ckptstore.keys import Kind
from ckptstore.store import Store
from ckptstore.verifying import verify
from tests.models import Job


@dataclass(frozen=True, slots=True)
class Flip:
    """One bit of one file."""

    path: Path
    kind: Kind
    offset: int
    bit: int

    def apply(self) -> None:
        """Flip it; doing so twice undoes it."""
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            [byte] = file.read(1)
            file.seek(self.offset)
            file.write(bytes([byte ^ (1 << self.bit)]))

    def __str__(self) -> str:
        return f"bit {self.bit} of byte {self.offset} of {self.path.name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some flips."""

    by_kind: Counter[Kind]
    lost: list[str]


def build(root: Path, *, width: int = 8) -> Store:
    """Return a store with an experiment that has at least one file of every kind."""
    source = root.with_name(root.name + "-source.h5")
    with h5py.File(source, "w") as file:
        file["x"] = np.arange(500.0)
    store = open_store(root)
    job = Job().train(2)
    with CheckpointManagerV2(store, data_h5_path=source, record_uids=True) as manager:
        manager.update_experiment_hash(job.model, {"lr": 0.1, "layers": [1, 2]}, ["a", "b", 3, b"c"])
        for step in range(1, 4):
            extra = {"loss": 1 / step, "map": torch.rand(width, 3), "empty": torch.empty(0)}
            manager.save_model_checkpoint(
                job.train(1).model, step=step, optimizer=job.optimizer, scheduler=job.scheduler, metadata=extra
            )
        manager.save_config({"other": 1}, "eval")
    compress(store, steps=[1])
    assert {parsed.kind for parsed in _layout(store).values()} == set(Kind)
    return store


def flips(store: Store, rng: random.Random) -> Iterator[Flip]:
    """Yield flips without end: every file as often as any other, every byte of it as likely as any other."""
    layout = sorted(_layout(store).items())
    while True:
        key, parsed = rng.choice(layout)
        path = Path(str(store.path(key)))
        yield Flip(path, parsed.kind, rng.randrange(path.stat().st_size), rng.randrange(8))


def try_flips(store: Store, mirror: Store, count: int, seed: int) -> Outcome:
    """Flip bits of the mirror, one at a time; each must be found and repaired by the bytes of the original."""
    rng, outcome = random.Random(seed), Outcome(Counter(), [])
    source = flips(mirror, rng)
    for _ in range(count):
        flip = next(source)
        sound = flip.path.read_bytes()
        flip.apply()
        outcome.by_kind[flip.kind] += 1
        report = verify(mirror, deep=True, repair_from=store, workers=2)
        if not any(finding.outcome for finding in report.findings):
            outcome.lost.append(f"{flip} was not found")
        if not report.ok or flip.path.read_bytes() != sound:
            outcome.lost.append(f"{flip} was not repaired: {report.problems}")
            flip.path.write_bytes(sound)
    if not verify(mirror, deep=True).ok:
        outcome.lost.append("damage is left at the end")
    return outcome


def _layout(store: Store) -> dict[str, keys.ParsedKey]:
    parsed = {info.key: keys.parse_key(info.key) for info in store.list(keys.CHECKPOINTS)}
    return {key: found for key, found in parsed.items() if found is not None}


def main(arguments: list[str]) -> int:
    """Try many flips and say how many were found and repaired, by kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = build(Path(folder) / "store")
        shutil.copytree(Path(folder) / "store", Path(folder) / "mirror")
        began = time.monotonic()
        outcome = try_flips(store, open_store(Path(folder) / "mirror"), options.flips, options.seed)
    for kind, count in sorted(outcome.by_kind.items()):
        sys.stdout.write(f"{count:6} in {kind}\n")
    sys.stdout.write("".join(f"LOST: {line}\n" for line in outcome.lost))
    found = options.flips - len(outcome.lost)
    sys.stdout.write(f"{found} of {options.flips} found and repaired, in {time.monotonic() - began:.0f} s\n")
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
