"""The S3 store keeps the whole contract of Store, on a simulated S3, through either of its engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from urllib.error import HTTPError

import pytest

from ckptstore.store import Store, open_store
from ckptstore.testing import StoreTests
from tests.servers import S3Server


class TestS3Store(StoreTests):
    through: Mapping[str, object] = MappingProxyType({})

    @pytest.fixture
    def store(self, s3_url: str, s3_server: S3Server, s3_options: dict[str, object]) -> Iterator[Store]:
        self.server, self.options = s3_server, {**s3_options, **self.through}
        with open_store(s3_url, **self.options) as store:
            yield store

    def seed(self, store: Store, key: str, data: bytes) -> None:
        self.server.request("PUT", f"{store.url[5:]}/{key}", data)

    def seed_many(self, store: Store, objects: Mapping[str, bytes]) -> None:
        bucket, _, prefix = store.url[5:].partition("/")
        self.server.put_objects(bucket, {f"{prefix}/{key}": data for key, data in objects.items()})

    def peek(self, store: Store, key: str) -> bytes | None:
        try:
            return self.server.request("GET", f"{store.url[5:]}/{key}")
        except HTTPError as error:
            error.close()
            return None

    def opener(self, store: Store) -> Callable[[], Store]:
        return partial(open_store, store.url, **self.options)

    def secrets(self, store: Store) -> tuple[str, ...]:
        return str(self.options["key"]), str(self.options["secret"])


class TestS3StoreThroughS3fs(TestS3Store):
    through = MappingProxyType({"s3_additional_kwargs": {"StorageClass": "STANDARD"}})  # which obstore cannot give
