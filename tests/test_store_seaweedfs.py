"""The S3 store keeps the whole contract of Store on a real S3 server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import pytest

from ckptstore.store import Store, open_store
from ckptstore.testing import StoreTests
from tests.seaweedfs import SeaweedFS


class TestS3StoreOnSeaweedFS(StoreTests):
    deviations: ClassVar = {
        "test_keys_are_ordered_by_their_utf8_bytes": "SeaweedFS lists 'a/b' before 'a b': it walks a tree of folders",
        "test_folders_are_ordered_by_their_utf8_bytes": "SeaweedFS lists 'a/' before 'a b/', as above",
        "test_a_folder_ends_with_its_last_object": "SeaweedFS shows an empty folder for some seconds more",
        "test_puts_and_deletes_in_one_folder_do_not_disturb_each_other": "the same",
    }

    @pytest.fixture
    def store(self, seaweedfs_store: Store, seaweedfs: SeaweedFS, seaweedfs_options: dict[str, object]) -> Store:
        self.server, self.options = seaweedfs, seaweedfs_options
        self.bucket, _, self.prefix = seaweedfs_store.url[5:].partition("/")
        return seaweedfs_store

    def seed(self, store: Store, key: str, data: bytes) -> None:
        self.server.put(self.bucket, f"{self.prefix}/{key}", data)

    def seed_many(self, store: Store, objects: Mapping[str, bytes]) -> None:
        self.server.put_many(self.bucket, {f"{self.prefix}/{key}": data for key, data in objects.items()})

    def peek(self, store: Store, key: str) -> bytes | None:
        return self.server.get(self.bucket, f"{self.prefix}/{key}")

    def opener(self, store: Store) -> Callable[[], Store]:
        return partial(open_store, store.url, **self.options)

    def secrets(self, store: Store) -> tuple[str, ...]:
        return str(self.options["key"]), str(self.options["secret"])
