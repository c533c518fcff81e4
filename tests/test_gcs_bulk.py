"""Bulk bytes on GCS: through obstore's XML uploads, and through resumable sessions as Google keeps them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ckptstore import CheckpointManagerV2
from ckptstore.errors import AccessDenied, KeyNotFound, ObjectChanged, StoreNotFound, StoreUnavailable
from ckptstore.objects import ByteRange
from ckptstore.store import open_store
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.gcs import GCSStore
from tests.fake_gcs import FakeGCS
from tests.proxy import Answer, Cut, Fault, Lose, Proxy, Reset, Truncate, proxy_to
from tests.seaweedfs import SeaweedFS

_MIB = 1024 * 1024
_LARGE = np.random.default_rng(0).bytes(20 * _MIB)
_SHORT = _LARGE[: 5 * _MIB // 2]


def _pieces(data: bytes = _LARGE) -> Iterator[memoryview]:
    return (memoryview(data)[start : start + 3 * _MIB] for start in range(0, len(data), 3 * _MIB))


def _failing() -> Iterator[memoryview]:
    yield from _pieces()
    raise ZeroDivisionError


@pytest.fixture
def network(gcs_bulk_options: dict[str, object]) -> Iterator[Proxy]:
    with proxy_to(str(gcs_bulk_options["endpoint_url"])) as proxy:
        yield proxy


@pytest.fixture
def store(fake_gcs_server: FakeGCS, network: Proxy) -> Iterator[GCSStore]:
    options = {"endpoint_url": network.url, "token": "anon", "bulk": "obstore", "deadline_s": 20}
    with GCSStore(fake_gcs_server.new_bucket(), "p", **options) as store:
        yield store


class TestObstore:
    """The XML interface is a program of the tests; what it stores lies in fake-gcs-server."""

    def test_what_is_large_goes_up_in_parts_and_has_a_generation(self, store: GCSStore, network: Proxy) -> None:
        info = store.put("k", _LARGE)
        assert info.version == store.stat("k").version
        assert len([request for request in network.requests if "partNumber=" in request.start]) == 2
        assert bytes(store.get("k")) == _LARGE

    def test_what_is_small_is_one_request_and_tells_checksums(self, store: GCSStore, network: Proxy) -> None:
        for data in (b"123456789", iter([b"1234", b"56789"])):
            network.faults = []
            assert store.put("k", data).checksums["crc32c"] == "e3069283"
            assert len(network.requests) == 1

    def test_a_replaced_version_is_not_read(self, store: GCSStore) -> None:
        old = store.put("k", b"one")
        store.put("k", b"two")
        with pytest.raises(ObjectChanged, match="read it again"):
            list(store.get_ranges("k", [ByteRange(0)], version=old.version))

    def test_a_missing_bucket_is_told_from_a_missing_key(self, store: GCSStore, network: Proxy) -> None:
        with pytest.raises(KeyNotFound):
            store.get("absent")
        with GCSStore("no-such-bucket", endpoint_url=network.url, token="anon", bulk="obstore") as nowhere:
            for act in (
                lambda: nowhere.get("k"),
                lambda: nowhere.put("k", b"x"),
                lambda: nowhere.put("k", _pieces()),
            ):
                with pytest.raises(StoreNotFound):
                    act()

    @pytest.mark.parametrize("key", ["a+b", "100%", "a b/c d", "é/日本", ".hidden/.x", "a=b&c", "x#y"])
    def test_a_key_of_special_characters_is_one_object_to_both_interfaces(
        self, store: GCSStore, fake_gcs_server: FakeGCS, key: str
    ) -> None:
        data = _LARGE[: 4 * _MIB + 1]
        info = store.put(key, data)
        assert fake_gcs_server.get(store._client.bucket, f"p/{key}") == data
        assert bytes(store.get(key)) == data
        assert [bytes(part) for part in store.get_ranges(key, [ByteRange(-3)], version=info.version)] == [data[-3:]]
        assert [found.key for found in store.list()] == [key]
        store.delete([key])
        assert list(store.list()) == []

    @pytest.mark.parametrize(
        "fault",
        [Answer(503, "Busy"), Answer(429, "Busy"), Reset(), Truncate(), Lose()],
        ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status", "")),
    )
    def test_a_passing_fault_is_not_noticed(self, store: GCSStore, network: Proxy, fault: Fault) -> None:
        network.faults = [fault]
        store.put("k", _pieces())
        network.faults = [fault]
        assert bytes(store.get("k")) == _LARGE

    def test_a_denied_part_leaves_nothing(self, store: GCSStore, network: Proxy) -> None:
        network.faults = [Answer(403, "AccessDenied", target="partNumber=2", nth=None)]
        with pytest.raises(AccessDenied):
            store.put("k", _LARGE)
        assert list(store.list()) == []
        assert list(store.list_uploads()) == []

    def test_a_stream_that_fails_leaves_nothing(self, store: GCSStore) -> None:
        with pytest.raises(ZeroDivisionError):
            store.put("k", _failing())
        assert list(store.list()) == []
        assert list(store.list_uploads()) == []

    def test_an_upload_whose_writer_died_is_listed_and_aborted(self, store: GCSStore, network: Proxy) -> None:
        network.faults = [Answer(403, "AccessDenied", target="partNumber|DELETE", nth=None)]
        with pytest.raises(AccessDenied) as raised:
            store.put("a/k", _pieces())
        assert "an unfinished upload of 'a/k' may remain" in raised.value.__notes__[0]
        network.faults = []
        (upload,) = store.list_uploads("a/")
        assert (upload.key, upload.started.tzinfo is not None) == ("a/k", True)
        assert list(store.list_uploads("b/")) == []
        store.abort_upload(upload)
        store.abort_upload(upload)
        assert list(store.list_uploads()) == []

    def test_a_stream_that_another_store_fails_is_not_taken_for_its_end(
        self, store: GCSStore, network: Proxy
    ) -> None:
        store.put("source", _LARGE)
        with GCSStore(store._client.bucket, endpoint_url=network.url, token="anon", deadline_s=0.5) as hasty:
            hasty._range_limits = RangeLimits(request_bytes=_MIB, window_bytes=2 * _MIB)
            read = hasty.get_ranges("p/source", [ByteRange(start * _MIB, _MIB) for start in range(20)])
            network.faults = [Reset(target="^GET", nth=10, times=1000)]
            with pytest.raises(StoreUnavailable):
                store.put("target", read)
        network.faults = []
        assert [info.key for info in store.list()] == ["source"]


class TestSeaweedFS:
    """A real server of the same requests. It proves that bytes arrive, not preconditions or generations."""

    @pytest.fixture
    def bucket(self, seaweedfs_anonymous: SeaweedFS) -> str:
        return seaweedfs_anonymous.new_bucket()

    @pytest.fixture
    def bulk(self, seaweedfs_anonymous: SeaweedFS, bucket: str) -> Iterator[GCSStore]:
        options = {"endpoint_url": seaweedfs_anonymous.url, "token": "anon", "bulk": "obstore"}
        with GCSStore(bucket, **options) as store:
            yield store

    def test_a_stream_goes_up_in_parts_and_comes_back_by_ranges(self, bulk: GCSStore) -> None:
        info = bulk.put("a b/k+%", _pieces())
        assert info.size_bytes == len(_LARGE)
        assert bytes(bulk.get("a b/k+%")) == _LARGE
        ranges = [ByteRange(19 * _MIB), ByteRange(0, 7), ByteRange(-5), ByteRange(5 * _MIB - 3, 6)]
        read = [bytes(part) for part in bulk.get_ranges("a b/k+%", ranges, version=info.version)]
        assert read == [_LARGE[19 * _MIB :], _LARGE[:7], _LARGE[-5:], _LARGE[5 * _MIB - 3 : 5 * _MIB + 3]]

    def test_a_large_buffer_goes_up_in_parts(self, bulk: GCSStore) -> None:
        bulk.put("k", _LARGE)
        assert bytes(bulk.get("k")) == _LARGE

    def test_a_stream_that_fails_leaves_nothing(
        self, bulk: GCSStore, seaweedfs_anonymous: SeaweedFS, bucket: str
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            bulk.put("k", _failing())
        assert "Uploads" not in seaweedfs_anonymous.hands.list_multipart_uploads(Bucket=bucket)
        assert "Contents" not in seaweedfs_anonymous.hands.list_objects_v2(Bucket=bucket)


@dataclass(frozen=True, slots=True)
class _EveryThird(Answer):
    """Answer so to the first attempt at every chunk, which is followed by a question and another attempt."""

    def meets(self, count: int) -> bool:
        return count % 3 == 1


class TestSessions:
    """Resumable uploads as Google keeps them: they can be asked what they have, and take a chunk twice."""

    @pytest.fixture
    def store(self, fake_gcs_server: FakeGCS, network: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[GCSStore]:
        monkeypatch.setattr(GCSClient, "on_google", True)
        with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=network.url, token="anon", deadline_s=20) as store:
            store._gcsfs.part_bytes = _MIB
            yield store

    @pytest.mark.parametrize("nth", [1, 2, 3])
    @pytest.mark.parametrize("made", [Lose, Reset, Cut, Truncate, lambda **where: Answer(503, "Busy", **where)])
    def test_a_chunk_that_fails_is_taken_up_again(
        self, store: GCSStore, network: Proxy, made: Callable[..., Fault], nth: int
    ) -> None:
        network.faults = [made(target="^PUT", nth=nth)]
        assert store.put("k", _pieces(_SHORT)) == store.stat("k")
        assert bytes(store.get("k")) == _SHORT

    def test_an_upload_that_goes_on_outlives_the_deadline_of_a_request(
        self, fake_gcs_server: FakeGCS, network: Proxy, store: GCSStore
    ) -> None:
        with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=network.url, token="anon", deadline_s=0.6) as hasty:
            hasty._gcsfs.part_bytes = _MIB // 4
            network.faults = [_EveryThird(503, "Busy", target="^PUT .*upload_id", nth=None)]
            began = time.monotonic()
            hasty.put("k", _pieces(_SHORT))
            assert time.monotonic() - began > 0.6  # ten pauses of a tenth of a second or more
            assert bytes(hasty.get("k")) == _SHORT

    def test_an_upload_that_the_store_lost_is_begun_again(self, store: GCSStore, network: Proxy) -> None:
        network.faults = [Answer(410, "gone", target="^PUT", nth=2)]
        store.put("k", _pieces(_SHORT))
        assert bytes(store.get("k")) == _SHORT

    def test_an_upload_that_cannot_be_begun_again_is_not_published(self, store: GCSStore, network: Proxy) -> None:
        store._gcsfs.kept_bytes = 0
        network.faults = [Answer(404, "notFound", target="^PUT", nth=3)]
        with pytest.raises(StoreUnavailable, match="knows the upload no longer; put it again"):
            store.put("k", (_SHORT[start : start + _MIB] for start in range(0, len(_SHORT), _MIB)))
        assert list(store.list()) == []

    def test_an_outage_ends_the_upload(self, fake_gcs_server: FakeGCS, network: Proxy, store: GCSStore) -> None:
        with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=network.url, token="anon", deadline_s=1) as hasty:
            hasty._gcsfs.part_bytes = _MIB
            network.faults = [Reset(target="^PUT", nth=2, times=1000)]
            with pytest.raises(StoreUnavailable, match="no answer"):
                hasty.put("k", _pieces(_SHORT))
            assert list(hasty.list()) == []


@pytest.mark.parametrize("bulk", ["gcsfs", "obstore"])
def test_an_experiment_is_saved_and_resumed(
    gcs_url: str, bulk: str, gcs_options: dict[str, object], gcs_bulk_options: dict[str, object]
) -> None:
    options = gcs_bulk_options if bulk == "obstore" else gcs_options

    def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Linear(1024, 1024))
        return model, torch.optim.AdamW(model.parameters())

    model, optimizer = parts()
    with open_store(gcs_url, **options) as store:
        with CheckpointManagerV2(store) as manager:
            exp_hash, is_new = manager.update_experiment_hash(model, {"lr": 0.1}, ["a", "b"])
            assert is_new
            model(torch.ones(2, 1024)).sum().backward()
            optimizer.step()
            manager.save_model_checkpoint(model, optimizer=optimizer, step=7)
        again, its_optimizer = parts()
        with CheckpointManagerV2(store) as manager:
            assert manager.update_experiment_hash(again, {"lr": 0.1}, ["b", "a"]) == (exp_hash, False)
            manager.resume(again, its_optimizer)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
        assert f"checkpoints/{exp_hash}/model/{exp_hash}_step_000007.pt" in {info.key for info in store.list()}
