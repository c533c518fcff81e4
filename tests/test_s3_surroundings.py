"""Bad surroundings of an S3 store: one clear error, soon, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ckptstore.errors import AccessDenied, StoreUnavailable
from ckptstore_backends.s3 import S3Store
from tests.proxy import Answer, Lose, Stall, proxy_to
from tests.seaweedfs import READER_KEY, READER_SECRET, SeaweedFS

_LARGE = 17 * 1024 * 1024
_ONE_ATTEMPT = {"retries": {"total_max_attempts": 1}}
_THROUGH_S3FS = {"s3_additional_kwargs": {"StorageClass": "STANDARD"}}  # which obstore cannot give

either_engine = pytest.mark.parametrize("how", [{}, _THROUGH_S3FS], ids=["obstore", "s3fs"])


def _writes(store: S3Store) -> dict[str, Callable[[], object]]:
    return {
        "put": lambda: store.put("k", b"new"),
        "put in parts": lambda: store.put("k", bytes(_LARGE)),
        "create": lambda: store.put("another", b"new", overwrite=False),
        "delete": lambda: store.delete(["k"]),
        "copy": lambda: store.copy("k", "copied"),
    }


@either_engine
def test_a_read_only_bucket_is_read_and_refuses_every_write(
    seaweedfs_s3_url: str, seaweedfs_options: dict[str, Any], how: dict[str, Any]
) -> None:
    with S3Store.from_url(seaweedfs_s3_url, **seaweedfs_options) as owner:
        owner.put("k", b"old")
    reader = {**seaweedfs_options, "key": READER_KEY, "secret": READER_SECRET, **how}
    with S3Store.from_url(seaweedfs_s3_url, **reader) as store:
        assert bytes(store.get("k")) == b"old"
        for write in _writes(store).values():
            with pytest.raises(AccessDenied):
                write()
        assert [info.key for info in store.list()] == ["k"]
        assert bytes(store.get("k")) == b"old"


@either_engine
def test_a_host_name_that_nobody_knows_is_named(how: dict[str, Any]) -> None:
    options = {"key": "k", "secret": "s", "endpoint_url": "http://no-such-store.invalid:8333", **how}
    with S3Store("bucket", **options, config_kwargs=_ONE_ATTEMPT) as store:
        for act in (lambda: store.get("k"), lambda: list(store.list()), *_writes(store).values()):
            with pytest.raises(
                StoreUnavailable, match=r"'no-such-store.invalid' cannot be looked up .*check endpoint"
            ):
                act()


def test_a_store_that_was_reached_is_waited_for(
    seaweedfs: SeaweedFS, seaweedfs_s3_url: str, seaweedfs_options: dict[str, Any]
) -> None:
    """Nobody said how often, so the deadline decides: more refusals than obstore takes by itself are outlasted."""
    with (
        proxy_to(seaweedfs.url) as proxy,
        S3Store.from_url(seaweedfs_s3_url, **{**seaweedfs_options, "endpoint_url": proxy.url}) as store,
    ):
        store.put("k", b"x")
        proxy.faults = [Answer(503, "SlowDown", times=6)]
        assert bytes(store.get("k")) == b"x"


@either_engine
def test_uploads_whose_beginning_was_never_answered_are_removed_and_others_stay(
    seaweedfs: SeaweedFS, seaweedfs_s3_url: str, seaweedfs_options: dict[str, Any], how: dict[str, Any]
) -> None:
    bucket, _, prefix = seaweedfs_s3_url.removeprefix("s3://").partition("/")
    place = {"Bucket": bucket, "Key": f"{prefix}/k"}
    with proxy_to(seaweedfs.url) as proxy:
        options = {**seaweedfs_options, **how, "endpoint_url": proxy.url, "config_kwargs": _ONE_ATTEMPT}
        with S3Store.from_url(seaweedfs_s3_url, **options) as store:
            store.put("k", b"old")
            others = seaweedfs.hands.create_multipart_upload(**place)["UploadId"]
            seaweedfs.hands.upload_part(**place, UploadId=others, PartNumber=1, Body=b"x")
            proxy.faults = [Lose(target="^POST .*uploads", nth=None)]
            with pytest.raises(StoreUnavailable):
                store.put("k", bytes(_LARGE))
            assert seaweedfs.uploads(bucket, f"{prefix}/") == [(f"{prefix}/k", others)]
            assert bytes(store.get("k")) == b"old"
    seaweedfs.hands.abort_multipart_upload(**place, UploadId=others)


def test_an_interrupt_is_heard_while_a_store_is_silent(
    seaweedfs: SeaweedFS, seaweedfs_s3_url: str, seaweedfs_options: dict[str, Any]
) -> None:
    with (
        proxy_to(seaweedfs.url) as proxy,
        S3Store.from_url(seaweedfs_s3_url, **{**seaweedfs_options, "endpoint_url": proxy.url}) as store,
    ):
        store.put("k", b"x")
        for act in (lambda: store.put("k", b"y"), lambda: store.stat("k"), lambda: store.get("k")):
            proxy.faults = [Stall(nth=None)]
            interrupt = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
            interrupt.start()
            with pytest.raises(KeyboardInterrupt):
                act()
            interrupt.join()


_WITHOUT_OBSTORE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "obstore":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from ckptstore import open_store
from ckptstore.errors import KeyExists
url, endpoint = sys.argv[1:]
options = {"key": "k", "secret": "s", "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
with open_store(url, **options) as store:
    print(store.capabilities.transfer, *(limit for limit in store.capabilities.limits if "obstore" in limit))
    store.put("k", b"x")
    store.put("large", bytes(17 * 2**20))
    store.put("new", b"x", overwrite=False)
    try:
        store.put("new", b"y", overwrite=False)
    except KeyExists:
        print("exists")
    print(bytes(store.get("k")), len(store.get("large")), store.stat("new").size_bytes)
    store.delete(["k"])
    print([info.key for info in store.list()], "obstore" in sys.modules)
"""


def test_everything_works_where_obstore_is_not_installed(s3_url: str, moto_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_OBSTORE, s3_url, moto_url], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    how, *found = done.stdout.splitlines()
    assert how.startswith("s3fs bytes move through s3fs: slower than obstore, which is not installed (pip install")
    assert found == ["exists", "b'x' 17825792 1", "['large', 'new'] False"]
