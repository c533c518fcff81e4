"""GCS behind a faulty network: what a store promises holds, or one clear error comes, soon.

fake-gcs-server, which this is about, looks at preconditions only in uploads of one request, and publishes an upload
of several when it is asked how far that is. Both concern the answers that are sent here in its place. The XML
interface, which obstore speaks, is a program of the tests in front of it.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import pytest

from ckptstore_backends import _gcs_client, _gcs_transfer
from ckptstore_backends._obstore_transfer import ObstoreLimits
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.gcs import GCSStore
from tests.fake_gcs import FakeGCS
from tests.fault_matrix import ENDLESS, FAULTS, JSON_HITS, XML_HITS, Cell, Place, check, row
from tests.proxy import proxy_to

KNOWN: Mapping[Cell, str] = {
    ("409", "create"): "GCS answers a lost race with 412, and with 409 only what no attempt can change",
}


@contextmanager
def _opened(server: FakeGCS, bucket: str, options: dict[str, Any], *, deadline_s: float = 8.0) -> Iterator[Place]:
    prefix = f"faults-{uuid4().hex}"
    with (
        proxy_to(options["endpoint_url"]) as proxy,
        GCSStore(bucket, prefix, **{**options, "deadline_s": deadline_s, "endpoint_url": proxy.url}) as store,
    ):
        store._obstore._large.limits = ObstoreLimits(part_bytes=5 * MIB, stream_part_bytes=5 * MIB)
        store._range_limits = RangeLimits(request_bytes=4 * MIB)
        yield Place(
            store,
            proxy,
            seed=lambda key, data: server.put(bucket, f"{prefix}/{key}", data),
            peek=lambda key: server.get(bucket, f"{prefix}/{key}"),
            uploads=partial(_uploads, options["endpoint_url"], bucket, prefix) if "bulk" in options else list,
        )


def _uploads(url: str, bucket: str, prefix: str) -> list[str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/{bucket}?uploads&prefix={prefix}/") as answer:
        return [key.text or "" for key in ET.fromstring(answer.read()).iterfind("{*}Upload/{*}Key")]


@pytest.fixture(autouse=True)
def _small_parts_and_short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gcs_client, "_STALL_S", 0.8)
    monkeypatch.setattr(_gcs_transfer, "_PART_BYTES", 5 * MIB)


@pytest.fixture
def new_place(fake_gcs_server: FakeGCS, gcs_options: dict[str, Any]) -> Callable[..., AbstractContextManager[Place]]:
    return partial(_opened, fake_gcs_server, fake_gcs_server.new_bucket(), gcs_options)


@pytest.fixture
def new_xml_place(
    fake_gcs_server: FakeGCS, gcs_bulk_options: dict[str, Any]
) -> Callable[..., AbstractContextManager[Place]]:
    return partial(_opened, fake_gcs_server, fake_gcs_server.new_bucket(), gcs_bulk_options)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_happens_once_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, JSON_HITS, fault, endless=False), KNOWN, endless=False)


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_fault_that_happens_every_time_leaves_no_promise_broken(new_place, fault):
    check(fault, row(partial(new_place, deadline_s=2.0), JSON_HITS, fault, endless=True), {}, endless=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_through_obstore_a_fault_that_happens_once_leaves_no_promise_broken(new_xml_place, fault):
    check(fault, row(new_xml_place, XML_HITS, fault, endless=False), {}, endless=False)


@pytest.mark.parametrize("fault", ENDLESS)
def test_through_obstore_a_fault_that_happens_every_time_leaves_no_promise_broken(new_xml_place, fault):
    check(fault, row(partial(new_xml_place, deadline_s=2.0), XML_HITS, fault, endless=True), {}, endless=True)
