"""Objects in an S3 bucket, or in any store that speaks S3: control through s3fs, bytes through obstore."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from ckptstore.errors import AccessDenied, StoreError
from ckptstore.objects import Capabilities, ObjectInfo, Upload
from ckptstore.store import Store
from ckptstore_backends._bucket_store import BucketStore
from ckptstore_backends._creating import create
from ckptstore_backends._obstore_client import ObstoreClient
from ckptstore_backends._obstore_process import installed as obstore_installed
from ckptstore_backends._obstore_process import usable as obstore_usable
from ckptstore_backends._obstore_transfer import ObstoreLimits, ObstoreTransfer
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import Span, split
from ckptstore_backends._s3_answers import info_of_found, info_of_written, quoted
from ckptstore_backends._s3_client import S3Client
from ckptstore_backends._s3_mapping import unmapped
from ckptstore_backends._s3_obstore import S3Service
from ckptstore_backends._s3_options import check_place, checked_options, parse_url
from ckptstore_backends._s3_orphans import watched_upload
from ckptstore_backends._s3_transfer import S3fsTransfer
from ckptstore_backends._s3_upload import MultipartUpload
from ckptstore_backends._transfer import Transfer, UploadGone

__all__ = ["S3Store"]

_DELETES = 1000  # what one DeleteObjects takes
_ATTEMPTS = 8  # to create, when nobody answers or others are in the way

_LIMITS = (
    "a version is an ETag: an object rewritten with the same bytes keeps its version",
    "objects whose keys are outside the key grammar are not listed",
)


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """How an object is copied on the server.

    Attributes:
        single_bytes: up to here in one request; S3 takes 5 GiB.
        part_bytes: beyond, in parts of this size; a copied part may have up to 5 GiB.
        in_flight: how many parts may be under way.
    """

    single_bytes: int = 5 * 1024 * MIB
    part_bytes: int = 1024 * MIB
    in_flight: int = 4


class S3Store(BucketStore):
    """A store in a bucket, below a prefix.

    Args:
        bucket: its name, or the ARN of an access point.
        prefix: where the keys begin; "" is the whole bucket.
        storage_options: as s3fs takes them: key, secret, token, profile, anon, endpoint_url, client_kwargs,
            config_kwargs, s3_additional_kwargs, requester_pays, max_concurrency (parts in flight), ... What is
            not given comes from the environment and the profile files, as botocore finds it. And three of this
            store: deadline_s (180) is how long one request may go on failing or be silent, a part of 16 MiB being
            one; atomic_create=False says that the server ignores If-None-Match, so that creates are refused;
            memory_bytes (128 MiB) is how much one transfer may hold beside what it is given and hands out.

    Opening makes no request. A get, a stat, a put of up to 16 MiB and a create are one request each; larger
    objects move in parallel parts, through obstore where it is installed and can do what the options ask for, else
    through s3fs; `capabilities` says which. After a fork it is s3fs.

    What may pass is tried again with growing, jittered pauses: no answer or half of one, 429, 5xx, a body that was
    damaged on its way, a conflict with another writer. AWS_MAX_ATTEMPTS or config_kwargs={"retries": ...} say how
    often; otherwise deadline_s says how long, but a server that nobody could connect to yet is out of reach within
    seconds. A third of deadline_s is the longest silence, and a body must be sent within it: on a line slower than
    1 MiB/s, give a larger deadline_s or a smaller max_concurrency.

    Raises:
        TypeError: an unknown storage option, or an unknown name in client_kwargs, config_kwargs or
            s3_additional_kwargs.
        ValueError: options that contradict each other, or a value that cannot be.
        InvalidURL: bucket, prefix or endpoint cannot be understood.
        MissingDependency: s3fs is not installed.
    """

    _scheme = "s3"

    def __init__(self, bucket: str, prefix: str = "", **storage_options: Any) -> None:
        bucket, prefix = check_place(bucket, prefix)
        options = checked_options(storage_options)
        self._client = S3Client(bucket, prefix, options)
        super().__init__(self._client)
        self._atomic_create = bool(options.get("atomic_create", True))
        self._only_s3fs = unmapped(bucket, options)
        self._has_obstore = obstore_installed()
        self._s3fs = S3fsTransfer(self._client)
        service = S3Service(self._client)
        limits = ObstoreLimits(in_flight=self._s3fs.limits.in_flight, memory_bytes=self._client.memory_bytes)
        self._obstore = ObstoreTransfer(
            ObstoreClient(self._client.url, service),
            limits,
            self._client.policy,
            partial(watched_upload, self._client),
        )
        self._copy_limits = CopyLimits()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the store at s3://bucket/prefix; options are the storage options of s3fs."""
        return cls(*parse_url(url), **options)

    @property
    def _transfer(self) -> Transfer:
        return self._s3fs if self._why_s3fs else self._obstore

    @property
    def _why_s3fs(self) -> str:
        """Say what keeps obstore from moving the bytes, "" when nothing does."""
        if self._only_s3fs:
            return f"slower than obstore, which cannot do: {', '.join(self._only_s3fs)}"
        if not self._has_obstore:
            return "slower than obstore, which is not installed (pip install 'ckptstore[s3]')"
        return "" if obstore_usable() else "this process was forked from one that had loaded obstore"

    @property
    def _endpoint(self) -> str | None:
        options = self._client.options
        return options.get("endpoint_url") or (options.get("client_kwargs") or {}).get("endpoint_url")

    def can_copy_to(self, target: Store) -> bool:
        """Whether the server copies: between stores that were opened with the same options."""
        return isinstance(target, S3Store) and target._client.reaches_as(self._client)  # noqa: SLF001  # our class

    @property
    def capabilities(self) -> Capabilities:
        """What this store can promise; no request is made."""
        return Capabilities(
            atomic_create=self._atomic_create,
            durable=True,
            server_side_copy=True,
            transfer=self._transfer.name,
            limits=(*_LIMITS, *self._limits_of_transfer()),
        )

    def _limits_of_transfer(self) -> Iterator[str]:
        if not self._atomic_create:
            yield "creates are refused, as the option atomic_create=False asked"
        if self._why_s3fs:
            yield f"bytes move through s3fs: {self._why_s3fs}"
        else:
            yield "the time that a write answers is this machine's"
            yield "a stream of unknown length may have 293 GiB: its parts are alike (a known one may have 5 TiB)"

    def close(self) -> None:
        """Release connections."""
        self._obstore.close()
        self._client.close()

    def _stat(self, key: str) -> ObjectInfo:
        return self._transfer.head(key).info

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._listing(prefix):
            for entry in page.get("Contents", ()):
                if (key := self._own_key(entry["Key"])) is not None:
                    yield info_of_found(key, entry)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        for page in self._listing(prefix, Delimiter="/"):
            for entry in page.get("CommonPrefixes", ()):
                if (folder := self._own_prefix(entry["Prefix"])) is not None:
                    yield folder

    def _listing(self, prefix: str, **params: Any) -> Iterator[dict[str, Any]]:
        tokens = {"NextContinuationToken": "ContinuationToken"}
        return self._client.pages("list_objects_v2", tokens, Prefix=self._client.prefix + prefix, **params)

    def _create(self, key: str, body: memoryview) -> ObjectInfo:
        return create(self._transfer, key, body, self.url, policy=replace(self._client.policy, attempts=_ATTEMPTS))

    def _delete(self, keys: Sequence[str]) -> None:
        unique = list(dict.fromkeys(keys))
        batches = (unique[start : start + _DELETES] for start in range(0, len(unique), _DELETES))
        failures = [failure for batch in batches for failure in self._delete_batch(batch)]
        if failures:
            kind = AccessDenied if failures[0]["Code"] == "AccessDenied" else StoreError
            key = failures[0]["Key"].removeprefix(self._client.prefix)
            raise kind(
                f"cannot delete {key!r} and {len(failures) - 1} others in {self.url}: {failures[0]['Code']}; "
                "the rest are gone"
            )

    def _delete_batch(self, keys: Iterable[str]) -> Sequence[Mapping[str, str]]:
        objects = [{"Key": self._client.full_key(key)} for key in keys]
        answer = self._client.call("delete_objects", Delete={"Objects": objects, "Quiet": True})
        failures: Sequence[Mapping[str, str]] = answer.get("Errors", ())
        return failures

    def _copy(self, key: str, target_key: str, target: Store) -> ObjectInfo:
        if not isinstance(target, S3Store) or not self.can_copy_to(target):
            return super()._copy(key, target_key, target)
        found = self._stat(key)
        return target._copy_from(self._client.address(key), found, target_key)  # noqa: SLF001  # our class

    def _copy_from(self, source: tuple[str, str], found: ObjectInfo, target_key: str) -> ObjectInfo:
        if source == self._client.address(target_key):
            return found  # S3 refuses to copy an object onto itself
        params = {
            "CopySource": {"Bucket": source[0], "Key": source[1]},
            "CopySourceIfMatch": quoted(found.version),
        }
        if found.size_bytes > self._copy_limits.single_bytes:
            answer = self._copy_parts(params, found.size_bytes, target_key)
        else:
            answer = self._client.call("copy_object", key=target_key, **params)
        return info_of_written(target_key, found.size_bytes, answer)

    def _copy_parts(self, params: Mapping[str, Any], size_bytes: int, target_key: str) -> Mapping[str, Any]:
        with MultipartUpload(self._client, target_key) as upload:
            for span in split(Span(0, size_bytes), self._copy_limits.part_bytes):
                upload.make_room(self._copy_limits.in_flight)
                upload.add("upload_part_copy", CopySourceRange=f"bytes={span.start}-{span.stop - 1}", **params)
            return upload.finish()

    def _list_uploads(self, prefix: str) -> Iterator[Upload]:
        tokens = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
        for page in self._client.pages("list_multipart_uploads", tokens, Prefix=self._client.prefix + prefix):
            for entry in page.get("Uploads", ()):
                if (key := self._own_key(entry["Key"])) is not None:
                    yield Upload(key, entry["UploadId"], entry["Initiated"])

    def _abort_upload(self, upload: Upload) -> None:
        try:
            self._client.call("abort_multipart_upload", key=upload.key, UploadId=upload.upload_id)
        except UploadGone:
            return
