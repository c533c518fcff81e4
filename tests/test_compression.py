"""Old checkpoints are compressed: every load reads them as before, and nothing is lost on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
import zstandard
from sklearn.datasets import load_digits
from torch import nn

from ckptstore import CheckpointManagerV2, compress, decompress, keys
from ckptstore.archive import plan
from ckptstore.errors import AccessDenied, CheckpointNotFound, InvalidName, KeyNotFound, StoreFull, UnknownExperiment
from ckptstore.experiment import Experiment
from ckptstore.loading import read_checkpoint
from ckptstore.store import Store
from ckptstore.testing import CutPut, Fail, Fault, FaultyStore, FlipBit, Killed
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.models import same


class Kept:
    """An experiment of four checkpoints, 1 to 4, and what they were."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manager = CheckpointManagerV2(store)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 32).bfloat16())
        self.exp_hash, _ = self.manager.update_experiment_hash(self.model, {"lr": 0.1})
        for step in range(1, 5):
            self.save(step)
        self.states = {step: self.manager.load_checkpoint(step=step) for step in range(1, 5)}
        self.files = {step: bytes(store.get(self.key(step))) for step in range(1, 5)}

    def save(self, step: int) -> None:
        with torch.no_grad():
            self.model.get_parameter("0.weight").add_(0.01)
        self.manager.save_model_checkpoint(self.model, step=step)

    def key(self, step: int) -> str:
        return keys.checkpoint_key(self.exp_hash, step)

    def forms(self, store: Store | None = None) -> dict[int, str]:
        """Which endings each step has."""
        found: dict[int, str] = {}
        for info in (store or self.store).list(keys.model_prefix(self.exp_hash)):
            parsed = keys.parse_key(info.key)
            if parsed and parsed.step is not None:
                found[parsed.step] = found.get(parsed.step, "") + info.key.partition(".")[2] + " "
        return {step: endings.strip() for step, endings in found.items()}

    def check_loads(self, store: Store | None = None, steps: Iterable[int] = (1, 2, 3, 4)) -> None:
        manager = CheckpointManagerV2(store or self.store)
        for step in steps:
            assert same(manager.load_checkpoint(step=step, exp_hash=self.exp_hash), self.states[step])


@pytest.fixture
def kept(any_store):
    return Kept(any_store)


@pytest.fixture
def on_disk(tmp_path):
    return Kept(LocalStore(tmp_path))


OLD = {1: "pt.zst", 2: "pt.zst", 3: "pt.zst", 4: "pt"}


def test_every_way_of_loading_reads_a_compressed_checkpoint(every_store):
    kept = Kept(every_store)
    report = compress(kept.store)
    assert [(one.step, one.action) for one in report.outcomes] == [
        (1, "changed"), (2, "changed"), (3, "changed"), (4, "kept"),
    ]  # fmt: skip
    assert report.ok
    assert 0 < report.after_bytes < report.before_bytes == sum(len(kept.files[step]) for step in (1, 2, 3))
    assert kept.forms() == OLD
    kept.check_loads()
    kept.store.delete([kept.key(4)])
    assert same(kept.manager.load_latest_checkpoint(), kept.states[3])
    resumed = kept.manager.resume(kept.model) or {}
    assert same(resumed["model_state_dict"], kept.states[3]["model_state_dict"])
    view = kept.manager.open_checkpoint(2)
    assert same(dict(view.items()), dict(kept.states[2]["model_state_dict"]))
    assert view.header["step"] == 2
    info = kept.manager.get_checkpoint_info()
    assert info["steps"] == [1, 2, 3]
    assert info["model_checkpoints"][0] == f"{kept.exp_hash}_step_000001.pt.zst"


def test_decompressing_gives_the_identical_bytes(kept):
    compress(kept.store)
    report = decompress(kept.store, steps=[1, 3])
    assert [(one.step, one.action) for one in report.outcomes] == [(1, "changed"), (3, "changed")]
    assert kept.forms() == {1: "pt", 2: "pt.zst", 3: "pt", 4: "pt"}
    decompress(kept.store)
    assert {step: bytes(kept.store.get(kept.key(step))) for step in kept.files} == kept.files
    assert set(kept.forms().values()) == {"pt"}


def _trained(dtype: torch.dtype) -> dict[str, object]:
    torch.manual_seed(0)
    digits = load_digits()
    inputs, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)).to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(40):
        batch = slice(step * 64 % 1600, step * 64 % 1600 + 64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[batch].to(dtype)).float(), labels[batch]).backward()
        optimizer.step()
    return {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_trained_network_gets_smaller_than_zstd_makes_it(dtype):
    store = MemoryStore(f"trained-{dtype}")
    exp_hash = "0123456789abcdef"
    data = b"".join(plan(_trained(dtype)).buffers())
    for step in (1, 2):
        store.put(keys.checkpoint_key(exp_hash, step), data)
    compress(store)
    ours = store.stat(keys.compressed_checkpoint_key(exp_hash, 1)).size_bytes
    assert ours < 0.97 * len(zstandard.ZstdCompressor(level=3).compress(data))


def test_the_newest_stay_and_after_a_rollback_also_those_saved_last(on_disk):
    on_disk.save(2)
    for _ in range(2):
        report = compress(on_disk.store)
        assert on_disk.forms() == {1: "pt.zst", 2: "pt", 3: "pt.zst", 4: "pt"}
        assert {one.step for one in report.outcomes if one.reason == "among the newest"} == {2, 4}
    decompress(on_disk.store)
    compress(on_disk.store, keep_latest=2)
    assert on_disk.forms() == {1: "pt.zst", 2: "pt", 3: "pt", 4: "pt"}
    with pytest.raises(ValueError, match="never compressed"):
        compress(on_disk.store, keep_latest=0)
    with pytest.raises(ValueError, match="from -7 to 22"):
        compress(on_disk.store, level=23)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(on_disk):
    report = compress(on_disk.store.url, steps=[1, 4], dry_run=True)
    assert [(one.step, one.action) for one in report.outcomes] == [(1, "changed"), (4, "kept")]
    assert report.as_dict()["outcomes"][0]["key"] == on_disk.key(1)
    assert set(on_disk.forms().values()) == {"pt"}


def test_what_is_not_there_is_said_before_anything_is_done(on_disk):
    with pytest.raises(UnknownExperiment, match="nothing was done"):
        compress(on_disk.store, experiments=[on_disk.exp_hash, "0" * 16])
    with pytest.raises(CheckpointNotFound, match="step 7, 9"):
        compress(on_disk.store, steps=[1, 7, 9])
    with pytest.raises(InvalidName):
        decompress(on_disk.store, experiments=["abc"])
    assert set(on_disk.forms().values()) == {"pt"}


def test_files_of_torch_save_are_compressed_too(on_disk):
    torch.save(on_disk.states[1], on_disk.store.path(on_disk.key(1)))
    torch.save(on_disk.states[2], on_disk.store.path(on_disk.key(2)), _use_new_zipfile_serialization=False)
    assert compress(on_disk.store).ok
    assert on_disk.forms() == OLD
    on_disk.check_loads()


def test_what_is_no_checkpoint_or_damaged_stays_as_it_is_and_the_others_go_on(on_disk):
    damaged = bytearray(on_disk.files[2])
    damaged[1000] ^= 1
    on_disk.store.put(on_disk.key(1), b"no checkpoint at all")
    on_disk.store.put(on_disk.key(2), damaged)
    report = compress(on_disk.store, keep_latest=1, steps=[1, 2, 3])
    assert [(one.step, one.action) for one in report.failed] == [(1, "failed"), (2, "failed")]
    assert "it is no checkpoint" in report.outcomes[0].reason
    assert "does not match its CRC32" in report.outcomes[1].reason
    assert on_disk.forms() == {1: "pt", 2: "pt", 3: "pt", 4: "pt"} | ({3: "pt.zst"} if report.changed else {})
    assert bytes(on_disk.store.get(on_disk.key(2))) == damaged
    assert not report.ok


def test_a_step_saved_again_is_loaded_from_its_pt_and_compressed_anew(on_disk):
    compress(on_disk.store)
    on_disk.save(1)
    again = on_disk.manager.load_checkpoint(step=1)
    assert not same(again["model_state_dict"], on_disk.states[1]["model_state_dict"])
    assert on_disk.forms()[1] == "pt pt.zst"
    on_disk.save(5)
    left = decompress(on_disk.store, steps=[1]).outcomes[0]
    assert (left.action, left.reason.partition(";")[0]) == ("kept", "its .pt was saved after the .pt.zst")
    assert compress(on_disk.store).ok
    assert on_disk.forms()[1] == "pt.zst"
    assert same(on_disk.manager.load_checkpoint(step=1), again)


@dataclass(frozen=True, slots=True)
class KilledAfter(Fault):
    """The process is gone after a call, whichever it is: before the next one."""

    def after(self) -> None:
        """Kill it."""
        raise Killed


@pytest.mark.parametrize("when", ["between", "half way"])
@pytest.mark.parametrize("work", [compress, decompress])
def test_a_kill_at_any_step_loses_nothing_and_the_next_run_finishes(work, when):
    origin = Kept(MemoryStore(f"killed {work.__name__} {when}"))
    if work is decompress:
        compress(origin.store)
    objects = {info.key: bytes(origin.store.get(info.key)) for info in origin.store.list()}
    for number in itertools.count(1):
        store = MemoryStore(f"killed {work.__name__} {when} {number}")
        for key, data in objects.items():
            store.put(key, data)
        fault = CutPut(5_000, Killed(), nth=number) if when == "half way" else KilledAfter(nth=number)
        try:
            assert work(FaultyStore(store, [fault]), steps=[1, 2]).ok
        except Killed:
            origin.check_loads(store, [1, 2])
        else:
            break
        assert work(store, steps=[1, 2]).ok
        assert [origin.forms(store)[step] for step in (1, 2)] == ["pt.zst" if work is compress else "pt"] * 2
        origin.check_loads(store, [1, 2])
    assert number == 3 if when == "half way" else number > 12


def test_a_full_disk_ends_the_work_and_loses_nothing(on_disk):
    full = FaultyStore(on_disk.store, [CutPut(3_000, StoreFull("no space"), nth=2)])
    report = compress(full)
    assert [one.action for one in report.outcomes] == ["changed", "failed", "kept", "kept"]
    assert report.outcomes[1].reason == "no space"
    assert report.outcomes[2].reason == "not reached after the error before"
    assert on_disk.forms() == {1: "pt.zst", 2: "pt", 3: "pt", 4: "pt"}
    on_disk.check_loads()


def test_rights_lost_half_way_lose_nothing(on_disk):
    key = on_disk.key(1)
    report = compress(FaultyStore(on_disk.store, [Fail("delete", AccessDenied("read only"), key=key)]))
    assert (report.outcomes[0].action, report.outcomes[0].reason) == ("failed", "read only")
    assert on_disk.forms()[1] == "pt pt.zst"
    on_disk.check_loads()
    assert [one.action for one in compress(on_disk.store).outcomes][:1] == ["finished"]
    assert on_disk.forms() == OLD


@pytest.mark.parametrize("work", [compress, decompress])
def test_what_was_stored_wrong_is_never_taken_for_the_original(on_disk, work):
    if work is decompress:
        compress(on_disk.store)
    written = on_disk.key(1) + (".zst" if work is compress else "")
    report = work(FaultyStore(on_disk.store, [FlipBit(2_000, key=written)]), steps=[1])
    assert [one.action for one in report.outcomes] == ["failed"]
    assert on_disk.forms()[1] == ("pt" if work is compress else "pt.zst")
    on_disk.check_loads()


def test_a_checkpoint_replaced_while_it_is_compressed_stays(on_disk, tmp_path):
    class Replacing(LocalStore):
        def _put(self, key, body):
            info = super()._put(key, body)
            if key.endswith("1.pt.zst"):
                on_disk.save(1)
            return info

    report = compress(Replacing(tmp_path), steps=[1])
    assert "was replaced meanwhile" in report.outcomes[0].reason
    assert not same(on_disk.manager.load_checkpoint(step=1), on_disk.states[1])
    assert compress(on_disk.store, steps=[2]).ok


def test_a_checkpoint_gone_while_it_is_compressed_is_no_loss(on_disk):
    gone = Fail("get_ranges", KeyNotFound("gone"), key=on_disk.key(1))
    report = compress(FaultyStore(on_disk.store, [gone]), steps=[1, 2])
    assert [one.action for one in report.outcomes] == ["failed", "changed"]


def test_who_listed_a_checkpoint_before_it_was_compressed_reads_it_all_the_same(kept):
    experiment = Experiment(kept.store, kept.exp_hash)
    before = experiment.checkpoints()
    compress(kept.store)
    assert [same(read_checkpoint(experiment, record), kept.states[record.step]) for record in before] == [True] * 4
    between = experiment.checkpoints()
    decompress(kept.store)
    assert [same(read_checkpoint(experiment, record), kept.states[record.step]) for record in between] == [True] * 4
    view = kept.manager.open_checkpoint(2)
    for switch in (compress, decompress):
        switch(kept.store)
        assert same(dict(view.items()), dict(kept.states[2]["model_state_dict"]))
    kept.store.delete([kept.key(1), kept.key(2)])
    with pytest.raises(KeyNotFound):
        read_checkpoint(experiment, before[0])


def test_progress_ends_where_it_expected_to(on_disk):
    for work in (compress, decompress):
        watched = Watched()
        assert work(on_disk.store, progress=watched).ok
        assert watched.done == watched.expected
        assert watched.done[1] == 3


class Watched:
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.expected, self.done = [0, 0], [0, 0]

    def expect(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        self.expected = [self.expected[0] + size_bytes, self.expected[1] + objects]

    def advance(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        self.done = [self.done[0] + size_bytes, self.done[1] + objects]

    def describe(self, what: str) -> None:
        assert what
