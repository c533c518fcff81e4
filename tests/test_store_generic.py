"""The contract of Store on filesystems that are known only by their class: renaming, whole objects, SFTP."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.error import HTTPError
from uuid import uuid4

import pytest

from ckptstore.errors import ObjectChanged, UnsupportedOperation
from ckptstore.objects import ByteRange
from ckptstore.testing import StoreTests
from ckptstore.testing.addressing import AddressingTests
from ckptstore.testing.medium import Medium
from ckptstore.testing.reading import ReadingTests
from ckptstore.testing.sharing import SharingTests
from ckptstore.testing.writing import WritingTests
from ckptstore_backends.generic import GenericStore
from tests.aliases import Heap, open_alias
from tests.sftp import PASSWORD, sftp_options

_FOLDERS_STAY = "an empty folder stays, and is in the way of a key of its name"
_COARSE_CLOCK = "SFTP tells size and whole seconds; a replacement of one size within a second goes unnoticed"
_HOST = "the address of an SFTP file holds its host; the path keeps it among its options"


class ByClassAlone(StoreTests):
    """Creates look first and then put: between processes they rest on the user's word, so none is raced for."""

    options: Mapping[str, Any]

    def test_one_of_racing_processes_wins(self, store):
        with GenericStore(store.url, **{**self.options, "sole_writer": False}) as nobody_gave_a_word:
            assert not nobody_gave_a_word.capabilities.atomic_create
            with pytest.raises(UnsupportedOperation, match="capabilities"):
                nobody_gave_a_word.put("k", b"x", overwrite=False)
        assert self.peek(store, "k") is None


class InFolder(ByClassAlone):
    folder: Path

    def seed(self, store, key, data):
        place = self.folder / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def peek(self, store, key):
        return (self.folder / key).read_bytes() if (self.folder / key).is_file() else None

    def opener(self, store):
        return partial(open_alias, store.url, **self.options)


class TestRenaming(InFolder):
    deviations: ClassVar = {
        "test_a_folder_ends_with_its_last_object": _FOLDERS_STAY,
    }

    @pytest.fixture
    def store(self, tmp_path):
        self.folder, self.options = tmp_path / "root", {"sole_writer": True}
        with GenericStore(f"disk://{self.folder}", **self.options) as store:
            yield store


class TestSftp(InFolder):
    deviations: ClassVar = {
        "test_a_folder_ends_with_its_last_object": _FOLDERS_STAY,
        "test_every_replacement_is_another_version": _COARSE_CLOCK,
        "test_path_says_where_an_object_lies_or_would_lie": _HOST,
    }

    @pytest.fixture
    def store(self, sftp, tmp_path_factory):
        port, served = sftp
        self.folder = served / uuid4().hex
        self.options = sftp_options(port) | {"sole_writer": True}
        with GenericStore(f"sftp://127.0.0.1/{self.folder.name}", **self.options) as store:
            yield store

    def secrets(self, store):
        return (PASSWORD,)

    def test_a_pinned_version_is_that_version_or_an_error(self, store):
        old = store.put("k", b"one")
        store.put("k", b"three")  # of another size: versions of one size need another second
        with pytest.raises(ObjectChanged, match="k"):
            list(store.get_ranges("k", [ByteRange(0)], version=old.version))


class InHeap(Medium):
    """Every process has a memory of its own."""

    scheme: ClassVar[str]

    @pytest.fixture
    def store(self):
        with GenericStore(f"{self.scheme}://{uuid4().hex}", sole_writer=True) as store:
            yield store
            store.delete([info.key for info in store.list()])

    def seed(self, store, key, data):
        Heap().pipe_file(self._place(store, key), data)

    def peek(self, store, key):
        found = Heap.store.get(self._place(store, key))
        return None if found is None else found.getvalue()

    def _place(self, store, key):
        return f"{store.url.removeprefix(f'{self.scheme}:/')}/{key}"


class TestWholeObjects(InHeap, ByClassAlone):
    scheme = "heap"
    options = MappingProxyType({})

    @pytest.mark.xfail(run=False, reason="each process has a memory of its own")
    def test_a_listing_shows_what_another_process_wrote(self, store):
        """There is nothing that another process could show."""

    @pytest.mark.xfail(run=False, reason="each process has a memory of its own")
    def test_processes_may_replace_one_object_at_once(self, store):
        """There is nothing to replace."""


class TestWholeObjectsManyAtATime(InHeap, ReadingTests, WritingTests):
    scheme = "swarm"


class TestAClientWithALoopOfItsOwn(Medium):
    """What an asynchronous client may get wrong: loops, sessions and sockets in threads and forks.

    Not that a reader sees one version: an ETag is the same again when an object is put back to what it was, and what
    was read in between goes unnoticed, as `capabilities` say.
    """

    @pytest.fixture
    def store(self, s3_server, s3_bucket, s3_options):
        self.server, self.options = s3_server, s3_options | {"sole_writer": True}
        with GenericStore(f"cloud://{s3_bucket}/some/prefix", **self.options) as store:
            yield store

    def seed(self, store, key, data):
        self.server.request("PUT", f"{store.url[8:]}/{key}", data)

    def peek(self, store, key):
        try:
            return self.server.request("GET", f"{store.url[8:]}/{key}")
        except HTTPError as error:
            error.close()
            return None

    def secrets(self, store):
        return str(self.options["key"]), str(self.options["secret"])

    test_get_returns_what_is_stored = ReadingTests.test_get_returns_what_is_stored
    test_an_absent_object_is_not_found = ReadingTests.test_an_absent_object_is_not_found
    test_a_replaced_object_is_never_read_as_a_mix = ReadingTests.test_a_replaced_object_is_never_read_as_a_mix
    test_parts_of_odd_sizes_are_joined_without_a_seam = WritingTests.test_parts_of_odd_sizes_are_joined_without_a_seam
    test_threads_may_share_one_store = SharingTests.test_threads_may_share_one_store
    test_a_store_works_on_both_sides_of_a_fork = SharingTests.test_a_store_works_on_both_sides_of_a_fork
    test_a_store_first_used_by_a_thread_works_after_a_fork = (
        SharingTests.test_a_store_first_used_by_a_thread_works_after_a_fork
    )
    test_racing_replacements_leave_one_of_them_whole = SharingTests.test_racing_replacements_leave_one_of_them_whole
    test_nothing_it_says_holds_a_secret = AddressingTests.test_nothing_it_says_holds_a_secret
