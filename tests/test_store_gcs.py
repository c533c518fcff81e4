"""The GCS store keeps the whole contract of Store on fake-gcs-server, whatever moves the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pytest

from ckptstore.store import Store, open_store
from ckptstore.testing import StoreTests
from ckptstore.testing.addressing import AddressingTests
from ckptstore.testing.medium import Medium
from ckptstore.testing.reading import ReadingTests
from ckptstore.testing.sharing import SharingTests
from ckptstore.testing.writing import WritingTests
from tests.fake_gcs import FakeGCS


class _OnFakeGCS(Medium):
    server: FakeGCS
    options: dict[str, object]

    def seed(self, store: Store, key: str, data: bytes) -> None:
        bucket, _, prefix = store.url[5:].partition("/")
        self.server.put(bucket, f"{prefix}/{key}", data)

    def seed_many(self, store: Store, objects: Mapping[str, bytes]) -> None:
        bucket, _, prefix = store.url[5:].partition("/")
        self.server.put_many(bucket, {f"{prefix}/{key}": data for key, data in objects.items()})

    def peek(self, store: Store, key: str) -> bytes | None:
        bucket, _, prefix = store.url[5:].partition("/")
        return self.server.get(bucket, f"{prefix}/{key}")

    def opener(self, store: Store) -> Callable[[], Store]:
        return partial(open_store, store.url, **self.options)


class TestGCSStoreThroughGcsfs(_OnFakeGCS, StoreTests):
    @pytest.fixture
    def store(self, gcs_store: Store, fake_gcs_server: FakeGCS, gcs_options: dict[str, object]) -> Store:
        self.server, self.options = fake_gcs_server, gcs_options
        return gcs_store


class TestGCSStoreThroughObstore(_OnFakeGCS, ReadingTests, WritingTests, AddressingTests, SharingTests):
    """What moves bytes; creates and listings are the same through either.

    XML uploads meet an interface in front of fake-gcs-server.
    """

    @pytest.fixture
    def store(self, gcs_url: str, fake_gcs_server: FakeGCS, gcs_bulk_options: dict[str, object]) -> Iterator[Store]:
        self.server, self.options = fake_gcs_server, gcs_bulk_options
        with open_store(gcs_url, **gcs_bulk_options) as store:
            yield store
