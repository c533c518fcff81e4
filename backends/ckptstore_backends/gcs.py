"""Objects in a bucket of Google Cloud Storage: gcsfs for control, obstore for bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from ckptstore.objects import Capabilities, ObjectInfo, Upload
from ckptstore.store import Store
from ckptstore_backends._bucket_store import BucketStore
from ckptstore_backends._creating import create
from ckptstore_backends._gcs_answers import FIELDS, info_of
from ckptstore_backends._gcs_bulk import BulkTransfer
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_deletion import delete_objects
from ckptstore_backends._gcs_http import Request
from ckptstore_backends._gcs_objects import stat
from ckptstore_backends._gcs_options import check_place, checked_options, parse_url
from ckptstore_backends._gcs_transfer import GcsfsTransfer
from ckptstore_backends._gcs_xml import abort, uploads
from ckptstore_backends._obstore_process import installed, usable
from ckptstore_backends._transfer import Transfer

__all__ = ["GCSStore"]

_PAGE = "1000"

_LIMITS = ("objects whose keys are outside the key grammar are not listed",)
_LIMITS_OF_GCSFS = (
    "an object of more than 64 MiB, or a stream of more than 16, goes up one chunk after the other",
    "such an upload whose process died can be neither listed nor aborted; the store discards it after a week",
)
_LIMIT_OF_EMULATORS = (
    "such an upload that breaks off is begun again, up to 64 MiB: an emulator cannot say what it has"
)
_LIMITS_OF_OBSTORE = (
    "the time that a write of more than 4 MiB answers is this machine's",
    "in a bucket that keeps old versions, a read of a version goes on after the object was replaced",
)


class GCSStore(BucketStore):
    """A store in a bucket, below a prefix.

    Args:
        bucket: its name.
        prefix: where the keys begin; "" is the whole bucket.
        storage_options: as gcsfs takes them: project, token, endpoint_url, requester_pays, session_kwargs,
            requests_timeout, ... Credentials that are not given are searched for as gcsfs does, but a metadata server
            that cannot be connected to is not waited for. And four more. bulk, "obstore" or "gcsfs", is what moves
            the bytes of objects; left out, it is gcsfs where obstore is not installed or would not get through: with
            endpoint_url or STORAGE_EMULATOR_HOST (emulators lack the XML interface that obstore speaks), with
            session_kwargs, with a client certificate, and with GOOGLE_SERVICE_ACCOUNT in the environment. deadline_s
            (180) is how long a request may go on failing without progress; a third of it is the longest silence.
            atomic_create=False says that the server ignores preconditions: creates are refused then. memory_bytes
            (128 MiB) is how much one transfer may hold beside what it is given and hands out.

    Opening makes no request. A version is a generation. A get, a stat, a put of up to 4 MiB and a create are one
    request each; what is larger moves in parallel parts through obstore. A server that nobody could connect to yet
    is out of reach within seconds, whatever deadline_s says.

    Raises:
        TypeError: an unknown storage option.
        ValueError: options that contradict each other.
        InvalidURL: bucket, prefix or endpoint cannot be understood.
        MissingDependency: gcsfs, google-crc32c, or the obstore that was asked for, is not installed.
    """

    _scheme = "gs"

    def __init__(self, bucket: str, prefix: str = "", **storage_options: Any) -> None:
        bucket, prefix = check_place(bucket, prefix)
        self._client = GCSClient(bucket, prefix, checked_options(storage_options))
        super().__init__(self._client)
        self._gcsfs = GcsfsTransfer(self._client)
        self._obstore = BulkTransfer(self._client, self._gcsfs)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the store at gs://bucket/prefix; options are the storage options of gcsfs, and bulk."""
        return cls(*parse_url(url), **options)

    @property
    def _transfer(self) -> Transfer:
        return self._obstore if self._client.options.bulk == "obstore" and usable() else self._gcsfs

    @property
    def _endpoint(self) -> str | None:
        given: str | None = self._client.options.filesystem.get("endpoint_url")
        return given

    def can_copy_to(self, target: Store) -> bool:
        """Whether the server copies: between stores that were opened with the same options."""
        return isinstance(target, GCSStore) and target._client.reaches_as(self._client)  # noqa: SLF001  # our class

    @property
    def capabilities(self) -> Capabilities:
        """What this store can promise; no request is made."""
        return Capabilities(
            atomic_create=self._client.options.atomic_create,
            durable=True,
            server_side_copy=True,
            transfer=self._transfer.name,
            limits=(*_LIMITS, *self._limits_of_transfer()),
        )

    def _limits_of_transfer(self) -> Iterator[str]:
        if not self._client.options.atomic_create:
            yield "creates are refused, as the option atomic_create=False asked"
        if self._client.options.bulk == "obstore" and not usable():
            yield "bytes move through gcsfs: this process was forked from one that had loaded obstore"
        if self._transfer is self._obstore:
            yield from _LIMITS_OF_OBSTORE
            return
        if not installed():
            yield "bytes move through gcsfs, slower: obstore is not installed (pip install 'ckptstore[gcs]')"
        yield from _LIMITS_OF_GCSFS
        if not self._client.on_google:
            yield _LIMIT_OF_EMULATORS

    def close(self) -> None:
        """Release connections."""
        self._obstore.close()
        self._client.close()

    def _stat(self, key: str) -> ObjectInfo:
        return stat(self._client, key)

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._listing(prefix, fields=f"items({FIELDS}),nextPageToken"):
            for resource in page.get("items", ()):
                if (key := self._own_key(resource["name"])) is not None:
                    yield info_of(key, resource)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        for page in self._listing(prefix, delimiter="/", fields="prefixes,nextPageToken"):
            for full in page.get("prefixes", ()):
                if (folder := self._own_prefix(full)) is not None:
                    yield folder

    def _listing(self, prefix: str, **query: str) -> Iterator[dict[str, Any]]:
        return self._client.pages({"prefix": self._client.prefix + prefix, "maxResults": _PAGE, **query})

    def _create(self, key: str, body: memoryview) -> ObjectInfo:
        return create(self._transfer, key, body, self.url, policy=self._client.retries)

    def _delete(self, keys: Sequence[str]) -> None:
        delete_objects(self._client, list(dict.fromkeys(keys)))

    def _copy(self, key: str, target_key: str, target: Store) -> ObjectInfo:
        if not isinstance(target, GCSStore) or not self.can_copy_to(target):
            return super()._copy(key, target_key, target)
        found = self._stat(key)
        source, destination = self._client.object_path(key), target._client.object_path(target_key)  # noqa: SLF001
        if source == destination:
            return found
        path = f"{source}/rewriteTo/{destination.removeprefix('storage/v1/')}"
        return info_of(target_key, self._rewrite(path, found))

    def _rewrite(self, path: str, found: ObjectInfo) -> dict[str, Any]:
        """Copy on the server, in as many requests as it wants; return the new object."""
        asked = self._client.asked("copy", found.key)
        query = {"ifSourceGenerationMatch": found.version, "fields": f"done,rewriteToken,resource({FIELDS})"}
        answer = self._client.json(Request("POST", path, query), asked)
        while not answer["done"]:
            answer = self._client.json(
                Request("POST", path, {**query, "rewriteToken": answer["rewriteToken"]}), asked
            )
        resource: dict[str, Any] = answer["resource"]
        return resource

    def _list_uploads(self, prefix: str) -> Iterator[Upload]:
        return (upload for upload in self._found_uploads(prefix) if self._own_key(upload.key) is not None)

    def _found_uploads(self, prefix: str) -> Iterator[Upload]:
        # emulators have no XML interface, hence no multipart uploads
        return uploads(self._client, prefix) if self._has_multipart_uploads else iter(())

    def _abort_upload(self, upload: Upload) -> None:
        if self._has_multipart_uploads:
            abort(self._client, upload.key, upload.upload_id)

    @property
    def _has_multipart_uploads(self) -> bool:
        return self._client.on_google or self._client.options.bulk == "obstore"
