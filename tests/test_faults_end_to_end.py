"""Behind a faulty network, racing creators have one winner, and a manager loads nothing but what was saved."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from ckptstore import CheckpointManagerV2
from ckptstore.errors import CorruptCheckpoint, KeyExists
from ckptstore.notices import CkptStoreWarning
from ckptstore.store import Store, open_store
from tests.models import Net, same
from tests.proxy import Answer, Cut, Fault, FlipAnswer, Lose, Proxy, Reset, proxy_to

_RACERS = 4


@dataclass(frozen=True, slots=True)
class Network:
    """A proxy, and the place behind it."""

    proxy: Proxy
    url: str
    options: dict[str, Any]


@pytest.fixture(params=["seaweedfs", "gcs"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    options = request.getfixturevalue(f"{request.param}_options")
    url = request.getfixturevalue("seaweedfs_s3_url" if request.param == "seaweedfs" else "gcs_url")
    with proxy_to(options["endpoint_url"]) as proxy:
        yield Network(proxy, url, {**options, "endpoint_url": proxy.url})


@pytest.fixture
def store(network: Network) -> Iterator[Store]:
    with open_store(network.url, **network.options) as store:
        yield store


@pytest.mark.parametrize(
    "fault",
    [
        Lose(target="^(PUT|POST) ", nth=1),
        Lose(target="^(PUT|POST) ", nth=2, times=_RACERS),
        Reset(target="^(PUT|POST) ", nth=1),
        Cut(100, target="^(PUT|POST) ", nth=2),
        Answer(503, "SlowDown", target="^(PUT|POST) ", nth=1, times=2),
        Lose(target="^(GET|HEAD) ", nth=1, times=2),
    ],
    ids=["first answer lost", "later answers lost", "reset", "cut", "slow down", "look-up lost"],
)
def test_racing_creators_behind_a_faulty_network_have_one_winner(network: Network, fault: Fault):
    with ExitStack() as stack:
        stores = [stack.enter_context(open_store(network.url, **network.options)) for _ in range(_RACERS)]
        pool = stack.enter_context(ThreadPoolExecutor(_RACERS))
        for key in ("race/one", "race/two"):
            network.proxy.faults = [fault]
            won = [
                racer for racer in pool.map(_created, stores, [key] * _RACERS, range(_RACERS)) if racer is not None
            ]
            assert len(won) == 1
            assert bytes(stores[0].get(key)) == bytes(won) * 1000


def _created(store: Store, key: str, racer: int) -> int | None:
    try:
        store.put(key, bytes([racer]) * 1000, overwrite=False)
    except KeyExists:
        return None
    return racer


@pytest.mark.parametrize("network", ["seaweedfs"], indirect=True)
def test_a_bit_flipped_on_the_way_down_is_found_and_the_checkpoint_before_is_loaded(network: Network, store: Store):
    with CheckpointManagerV2(store) as manager:
        older, newer = Net(), Net()
        manager.update_experiment_hash(model=older)
        manager.save_model_checkpoint(older, step=1)
        newest = manager.save_model_checkpoint(newer, step=2)
        size_bytes = store.stat(f"checkpoints/{manager.exp_hash}/model/{newest.name}").size_bytes
        network.proxy.faults = [FlipAnswer(size_bytes // 3, target=r"^GET .*_step_000002", nth=None)]
        model = Net()
        with pytest.warns(CkptStoreWarning, match=r"checkpoint skipped: .*_step_000002"):
            loaded = manager.load_latest_checkpoint(model)
        assert loaded is not None
        assert loaded["step"] == 1
        assert same(dict(model.state_dict()), dict(older.state_dict()))
        with pytest.raises(CorruptCheckpoint, match="_step_000002"):
            manager.load_checkpoint(model, step=2)
        assert same(dict(model.state_dict()), dict(older.state_dict()))
        network.proxy.faults = []
        manager.load_checkpoint(model, step=2)
        assert same(dict(model.state_dict()), dict(newer.state_dict()))


@pytest.mark.parametrize("network", ["gcs"], indirect=True)
def test_a_store_that_tells_checksums_notices_the_bit_itself_and_asks_again(network: Network, store: Store):
    data = bytes(range(256)) * 100
    store.put("k", data)
    network.proxy.faults = [FlipAnswer(1000, target="^GET .*alt=media")]
    assert bytes(store.get("k")) == data
    assert len(network.proxy.requests) == 2


def test_a_training_run_survives_a_network_that_fails_at_every_third_request(network: Network, store: Store):
    broken = [Reset(nth=nth) for nth in range(1, 60, 9)]
    lost = [Lose(nth=nth) for nth in range(4, 60, 9)]
    slow = [Answer(503, "SlowDown", nth=nth) for nth in range(7, 60, 9)]
    with CheckpointManagerV2(store) as manager:
        model = Net()
        network.proxy.faults = [*broken, *lost, *slow]
        manager.update_experiment_hash(model=model, config={"lr": 0.1})
        for step in range(3):
            with torch.no_grad():
                model.head.bias.add_(1)
            manager.save_model_checkpoint(model, step=step)
        again = Net()
        loaded = manager.load_latest_checkpoint(again)
        assert loaded is not None
        assert loaded["step"] == 2
        assert same(dict(again.state_dict()), dict(model.state_dict()))
        assert manager.get_checkpoint_info()["steps"] == [0, 1, 2]
