"""An object beyond what one request may carry, on a stub that keeps lengths only."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptstore.objects import ByteRange
from ckptstore_backends.s3 import S3Store

_STUB = Path(__file__).parent.parent / "benchmarks" / "stub_s3.py"
_MIB = 1024 * 1024
_LARGEST_PUT = 5 * 1024 * _MIB


@pytest.fixture
def stub_url() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, str(_STUB), "--discard"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def _sizes(stub_url: str) -> dict[str, list[int]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{stub_url}/_sizes") as answer:
        found: dict[str, list[int]] = json.load(answer)
    return found


def test_an_object_over_five_gib_goes_up_in_parts_and_is_read_back(stub_url: str) -> None:
    buffer = memoryview(bytes(32 * _MIB))
    size = _LARGEST_PUT + 32 * _MIB + 1
    with S3Store("bucket", anon=True, endpoint_url=stub_url) as store:
        info = store.put("k", iter([*[buffer] * (size // len(buffer)), buffer[:1]]))
        assert info.size_bytes == store.stat("k").size_bytes == size
        first, last = store.get_ranges("k", [ByteRange(0, 10), ByteRange(-1)])
        assert (bytes(first), bytes(last)) == (bytes(10), bytes(1))
    assert _sizes(stub_url) == {"/bucket/k": [30 * _MIB] * 171 + [22 * _MIB + 1]}
