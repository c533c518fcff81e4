"""The doctor: what works is said to work, what does not is named, and nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from threading import Event
from typing import Any
from uuid import uuid4

import pytest

import ckptstore
from ckptstore.__main__ import main
from ckptstore.checkup import doctor as doctor_module
from ckptstore.checkup import examine
from ckptstore.errors import AccessDenied, StoreUnavailable
from ckptstore.objects import Upload
from ckptstore.store import open_store
from ckptstore.testing import Fail, FaultyStore, FlipBit
from ckptstore_backends import _gcs_client
from ckptstore_backends.gcs import GCSStore
from ckptstore_backends.generic import GenericStore
from ckptstore_backends.memory import MemoryStore
from tests.aliases import Disk
from tests.proxy import Answer, Fault, proxy_to

_EVERY_CHECK = ["reach", "write", "read", "ranges", "replace", "list", "create", "large", "abandon", "copy",
                "latency", "clock", "delete"]  # fmt: skip


def _failed(found):
    return [check.name for check in found.checks if not check.ok]


def _only_failure(found):
    [check] = [check for check in found.checks if not check.ok]
    return check


@pytest.fixture
def memory():
    return MemoryStore(f"doctor-{uuid4().hex}")


def test_a_folder_is_well_and_left_as_it_was(tmp_path):
    found = ckptstore.doctor(tmp_path / "store")
    assert [check.name for check in found.checks] == _EVERY_CHECK
    assert found.ok
    assert not (tmp_path / "store").exists() or list((tmp_path / "store").iterdir()) == []
    assert found.speed.up_mb_s and found.speed.down_mb_s and found.speed.put_ms and found.speed.get_ms  # noqa: PT018
    assert 45e6 < found.sent_bytes < 60e6
    assert 20e6 < found.received_bytes < 30e6


def test_the_report_is_a_page_of_80_columns(memory):
    page = str(examine(memory)).splitlines()
    assert max(map(len, page)) <= 80
    assert page[0] == f"{memory.url}  (memory)"
    assert page[2] == "  ok    reach    address and credentials are accepted, listing is allowed"
    assert page[-1] == "all is well: this store keeps what a training run needs"
    assert any("a 5 GiB checkpoint takes about" in line for line in page)
    assert any("objects are seen by this process alone and end with it" in line for line in page)


@pytest.mark.parametrize("server", ["s3", "seaweedfs_s3", "gcs"])
def test_a_bucket_is_well_and_left_as_it_was(server, request):
    url = request.getfixturevalue(f"{server}_url")
    options = request.getfixturevalue(f"{server.removesuffix('_s3')}_options")
    found = ckptstore.doctor(url, **options)
    assert _failed(found) == []
    with ckptstore.open_store(url, **options) as store:
        assert list(store.list()) == []
        assert list(store.list_uploads()) == []


def test_a_missing_bucket_is_one_finding(s3_options):
    found = ckptstore.doctor("s3://no-such-bucket-here/x", **s3_options)
    assert [check.name for check in found.checks] == ["reach"]
    assert "no-such-bucket-here" in found.checks[0].detail
    assert "create the bucket" in found.checks[0].detail


def test_wrong_credentials_are_one_finding_without_the_secret(seaweedfs_s3_url, seaweedfs_options):
    found = ckptstore.doctor(seaweedfs_s3_url, **{**seaweedfs_options, "secret": "WRONG-SECRET"})
    assert _failed(found) == ["reach"]
    assert "secret" in found.checks[0].detail.lower()
    assert "WRONG-SECRET" not in str(found) + json.dumps(found.as_dict())


@pytest.fixture
def _no_google_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
    monkeypatch.setattr(_gcs_client, "_FIRST_CONTACT_S", 0.3)


@pytest.mark.usefixtures("_no_google_settings")
@pytest.mark.parametrize("bulk", ["gcsfs", "obstore"])
@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://storage.invalid", "the name 'storage.invalid' cannot be looked up"),
        ("http://127.0.0.1:9", "no connection to 127.0.0.1:9"),
    ],
)
def test_a_place_that_cannot_be_reached_is_one_finding_within_seconds(endpoint, said, bulk):
    found = ckptstore.doctor("gs://bucket/x", endpoint_url=endpoint, bulk=bulk)
    assert _failed(found) == ["reach"]
    assert said in found.checks[0].detail
    assert "check" in found.checks[0].detail
    with (
        GCSStore("bucket", endpoint_url=endpoint, bulk=bulk) as store,
        pytest.raises(StoreUnavailable, match=said),
    ):
        store.get("k")


@pytest.mark.usefixtures("_no_google_settings")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "went without credentials; set GOOGLE_APPLICATION_CREDENTIALS"),
        ({"token": "ya29.wrong"}, "the store refuses these credentials; set GOOGLE_APPLICATION_CREDENTIALS"),
    ],
    ids=["none", "wrong"],
)
def test_credentials_that_google_refuses_are_one_finding(fake_gcs_server, options, said, monkeypatch):
    monkeypatch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")
    with proxy_to(fake_gcs_server.url) as proxy:
        proxy.faults = [Answer(401, "authError", nth=None)]
        found = ckptstore.doctor("gs://bucket/x", endpoint_url=proxy.url, **options)
        assert len(proxy.requests) == 2  # a listing, and a put: the right to list may be lacking alone
    assert _failed(found) == ["reach"]
    assert said in found.checks[0].detail
    assert "ya29" not in str(found)


def test_a_bucket_of_google_that_may_only_be_read_is_said_to_be_that(fake_gcs_server):
    bucket = fake_gcs_server.new_bucket()
    fake_gcs_server.put(bucket, "x/experiment", b"x")
    with proxy_to(fake_gcs_server.url) as proxy:
        proxy.faults = [Answer(403, "forbidden", target="^(POST|PUT|DELETE) ", nth=None)]
        found = ckptstore.doctor(f"gs://{bucket}/x", endpoint_url=proxy.url, token="anon")
    assert [(check.name, check.ok) for check in found.checks] == [("reach", True), ("write", False), ("read", True)]
    assert found.read_only
    assert "storage.objects.create" in _only_failure(found).hint


@dataclass(frozen=True, slots=True)
class _WithoutPrecondition(Fault):
    """Let a create through as the put of a server that knows no preconditions."""

    def act(self, link):
        start = link.request.start.replace("&ifGenerationMatch=0", "")
        link.answer(link.forward(replace(link.request, start=start)))


def test_a_server_that_ignores_generations_is_found_out_and_can_be_used_without_creates(fake_gcs_server):
    bucket = fake_gcs_server.new_bucket()
    with proxy_to(fake_gcs_server.url) as proxy:
        proxy.faults = [_WithoutPrecondition(nth=None)]
        options: dict[str, Any] = {"endpoint_url": proxy.url, "token": "anon"}
        check = _only_failure(ckptstore.doctor(f"gs://{bucket}/x", **options))
        assert check.name == "create"
        assert "atomic_create=False" in check.hint
        check = _only_failure(ckptstore.doctor(f"gs://{bucket}/x", **options, atomic_create=False))
        assert check.name == "create"
        assert "atomic_create=False" in check.detail + check.hint


def test_a_missing_bucket_of_google_is_one_finding(gcs_options):
    found = ckptstore.doctor("gs://no-such-bucket-here/x", **gcs_options)
    assert [check.name for check in found.checks] == ["reach"]
    assert "create the bucket, or correct its name" in found.checks[0].detail


def test_a_scheme_that_nobody_serves_is_one_finding():
    found = ckptstore.doctor("nosuch://name:SECRET@place/x?sig=SECRET")
    assert _failed(found) == ["open"]
    assert "no backend for 'nosuch'" in str(found)
    assert "SECRET" not in str(found)


def test_an_unknown_option_is_a_mistake_of_the_caller(memory):
    with pytest.raises(TypeError, match="anon"):
        ckptstore.doctor(memory.url, anon=True)


def test_what_a_backend_of_somebody_else_says_is_passed_on_without_its_secrets(memory):
    error = RuntimeError("no route to\nhttps://name:SECRET@host/x?sig=SECRET today")
    check = _only_failure(examine(FaultyStore(memory, [Fail("list", error, nth=None)])))
    assert check.detail == "the backend failed with RuntimeError: no route to https://host/x today"


def test_a_profile_that_is_not_there_is_no_matter_of_rights(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    check = _only_failure(ckptstore.doctor("s3://bucket/x", profile="absent"))
    assert (check.name, check.hint) == ("reach", "")
    assert "no such profile; correct profile= or AWS_PROFILE" in check.detail


def test_read_only_credentials_are_said_to_be_that(memory):
    memory.put("experiment", b"x")
    denied = [Fail("put", AccessDenied("cannot put: AccessDenied"), nth=None)]
    found = examine(FaultyStore(memory, denied))
    assert [(check.name, check.ok) for check in found.checks] == [("reach", True), ("write", False), ("read", True)]
    assert found.read_only
    assert "s3:PutObject" in _only_failure(found).hint
    assert str(found).endswith("read-only: checkpoints here can be loaded, nothing can be saved")
    assert [info.key for info in memory.list()] == ["experiment"]


def test_a_folder_that_may_only_be_read_is_said_to_be_that_in_words_of_a_folder(tmp_path):
    with open_store(tmp_path) as disk:
        disk.put("experiment", b"x")
        denied = [Fail("put", AccessDenied("cannot put: permission denied"), nth=None)]
        found = examine(FaultyStore(disk, denied))
    assert found.read_only
    hint = _only_failure(found).hint
    assert "owner and mode" in hint
    assert "s3:" not in hint


def test_a_store_that_may_not_be_listed_is_still_examined(memory):
    found = examine(FaultyStore(memory, [Fail("list", AccessDenied("cannot list: AccessDenied"), nth=1)]))
    assert _failed(found) == ["reach"]
    assert "listing" in _only_failure(found).hint
    assert found.checks[-1].name == "delete"


@pytest.mark.parametrize(
    ("operation", "names", "hint"),
    [
        ("delete", ["delete", "clean up"], "s3:DeleteObject"),
        ("list_uploads", ["abandon"], "s3:ListBucketMultipartUploads"),
        ("get", ["read", "replace", "create", "copy", "latency"], "s3:GetObject"),
    ],
)
def test_a_missing_right_is_named(memory, operation, names, hint):
    found = examine(FaultyStore(memory, [Fail(operation, AccessDenied("cannot: AccessDenied"), nth=None)]))
    assert _failed(found) == names
    assert hint in next(check.hint for check in found.checks if not check.ok)


def test_a_server_that_ignores_conditions_is_found_out():
    class Careless(MemoryStore):
        def _create(self, key, body):
            return self._put(key, body)

    check = _only_failure(examine(Careless(f"careless-{uuid4().hex}")))
    assert check.name == "create"
    assert "ignores the condition (If-None-Match)" in check.detail
    assert "atomic_create=False" in check.hint


def test_a_server_that_looks_before_it_writes_is_found_out():
    class Racy(MemoryStore):
        """Refuses a second create, but not one that comes at the same time."""

        def _create(self, key, body):
            return self._put(key, body) if "raced" in key else super()._create(key, body)

    assert _failed(examine(Racy(f"racy-{uuid4().hex}"))) == ["create"]


def test_a_store_that_says_it_cannot_create_says_what_to_do(tmp_path):
    check = _only_failure(examine(GenericStore(f"{Disk.protocol}://{tmp_path}/x")))
    assert check.name == "create"
    assert "sole_writer=True" in check.hint


def test_damage_on_the_way_is_found(memory):
    found = examine(FaultyStore(memory, [FlipBit(20 * 1024**2)]))
    assert _failed(found) == ["large"]
    assert "other bytes came back" in _only_failure(found).detail


def test_a_listing_out_of_order_is_found():
    class Unordered(MemoryStore):
        def _list(self, prefix):
            return reversed(list(super()._list(prefix)))

    assert _failed(examine(Unordered(f"unordered-{uuid4().hex}"))) == ["list"]


def test_uploads_that_stay_behind_are_found(memory):
    class Littering(MemoryStore):
        def _list_uploads(self, prefix):
            yield Upload(f"{prefix}abandoned", "1", next(iter(self.list(prefix))).modified)

    check = _only_failure(examine(Littering(f"littering-{uuid4().hex}")))
    assert check.name == "abandon"
    assert "s3:AbortMultipartUpload" in check.hint


def test_a_clock_that_differs_is_found():
    class Late(MemoryStore):
        def _put(self, key, body):
            info = super()._put(key, body)
            return type(info)(info.key, info.size_bytes, info.modified.replace(year=2001), info.version)

    check = _only_failure(examine(Late(f"late-{uuid4().hex}")))
    assert check.name == "clock"
    assert "NTP" in check.hint


@pytest.mark.parametrize(
    "operation", ["put", "get", "get_ranges", "list", "create", "copy", "delete", "list_uploads"]
)
@pytest.mark.parametrize(
    "error", [StoreUnavailable("no answer"), RuntimeError("a mistake")], ids=["outage", "mistake"]
)
def test_nothing_stays_behind_when_a_call_fails(memory, operation, error):
    found = examine(FaultyStore(memory, [Fail(operation, error, nth=1)]))
    assert not found.ok
    assert list(memory.list()) == []


def test_what_cannot_be_removed_is_named(memory):
    found = examine(FaultyStore(memory, [Fail("delete", StoreUnavailable("no answer"), nth=None)]))
    assert _failed(found) == ["delete", "clean up"]
    [folder] = memory.list_prefixes()
    assert folder in found.checks[-1].hint


@pytest.fixture
def silent(monkeypatch):
    answer = Event()

    class Silent(MemoryStore):
        def _get(self, key):
            answer.wait()
            return super()._get(key)

        def _list(self, prefix):
            if not self.url.endswith("-later"):
                answer.wait()
            return super()._list(prefix)

    monkeypatch.setattr(sys.modules[doctor_module.__module__], "_FIRST_ANSWER_S", 0.2)
    monkeypatch.setattr(sys.modules[doctor_module.__module__], "_GRACE_S", 0.2)
    yield Silent
    answer.set()


def test_a_store_that_stops_answering_is_left_behind(silent):
    found = examine(silent(f"silent-{uuid4().hex}-later"), limit_s=0.2)
    assert found.hangs
    assert not found.ok
    assert [(check.name, check.ok) for check in found.checks] == [("reach", True), ("write", True), ("read", False)]
    assert "does not answer" in str(found)


def test_a_store_that_never_answers_is_not_waited_for(silent):
    found = examine(silent(f"silent-{uuid4().hex}"))
    assert [check.name for check in found.checks] == ["reach"]
    assert "no answer after 0 s" in str(found)
    assert "network" in found.checks[0].hint


def test_the_time_is_kept(memory):
    found = examine(memory, limit_s=-1.0)
    assert [check.name for check in found.checks][:2] == ["reach", "write"]
    assert "limit_s" in found.checks[1].detail
    assert list(memory.list()) == []


def test_the_command_ends_with_0_when_all_is_well(tmp_path):
    command = [sys.executable, "-m", "ckptstore", "doctor", str(tmp_path / "x")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0].startswith("file://")


def test_the_command_gives_json_and_takes_options(s3_url, s3_options, capsys):
    options = [f"{name}={json.dumps(value)}" for name, value in s3_options.items()]
    ended = main(["doctor", s3_url, "--json", *(word for option in options for word in ("-o", option))])
    said = json.loads(capsys.readouterr().out)
    assert ended == 0
    assert said["ok"] is True
    assert [check["name"] for check in said["checks"]] == _EVERY_CHECK
    assert said["speed"]["up_mb_s"] > 0


def test_the_command_ends_with_1_when_it_is_not(capsys):
    assert main(["doctor", "nosuch://place"]) == 1
    assert "no backend" in capsys.readouterr().out


def test_the_command_ends_with_2_for_what_it_does_not_understand(memory, capsys):
    assert main(["doctor", memory.url, "-o", "anon=true"]) == 2
    assert "anon" in capsys.readouterr().err
    assert main(["doctor", memory.url, "-o", "nonsense"]) == 2


def test_the_name_stays_a_function_whatever_is_imported():
    program = "import ckptstore.checkup.doctor, ckptstore; print(callable(ckptstore.doctor))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "True\n"
