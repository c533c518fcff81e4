"""The contract of Store as one pytest class, for every backend to join."""

from __future__ import annotations

from ckptstore.testing.addressing import AddressingTests
from ckptstore.testing.creating import CreatingTests
from ckptstore.testing.listing import ListingTests
from ckptstore.testing.reading import ReadingTests
from ckptstore.testing.sharing import SharingTests
from ckptstore.testing.writing import WritingTests

__all__ = ["StoreTests"]


class StoreTests(ReadingTests, WritingTests, CreatingTests, ListingTests, AddressingTests, SharingTests):
    """The whole contract of `ckptstore.store.Store`.

    A backend joins by a subclass in its own tests::

        class TestFolderStore(StoreTests):
            @pytest.fixture
            def store(self, tmp_path):
                return FolderStore(tmp_path)

            def seed(self, store, key, data):
                store.path(key).parent.mkdir(parents=True, exist_ok=True)
                store.path(key).write_bytes(data)

            def peek(self, store, key):
                return store.path(key).read_bytes() if store.path(key).is_file() else None

    The ``store`` fixture returns a store that is empty, and is the test's own. See `Medium` for the optional
    hooks: `opener` when opening takes options, `seed_many` for speed, `secrets`, and `deviations`, the only
    way to differ.
    """
