"""Named models and optimizers."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ckptstore import GLOBAL_LEDGER, ledgers
from ckptstore.errors import LedgerError


@pytest.fixture(autouse=True)
def _empty_ledger() -> Iterator[None]:
    ledgers.clear()
    yield
    ledgers.clear()


def test_a_registered_model_comes_back_by_name_and_as_the_only_one():
    model = nn.Linear(2, 2)
    ledgers.register_model("mine", model)
    assert ledgers.get_model("mine") is model
    assert ledgers.get_model() is model
    assert GLOBAL_LEDGER.get_model() is model
    assert ledgers.list_models() == ["mine"]


def test_without_a_name_several_are_an_error_that_lists_them():
    ledgers.register_model("b", nn.Linear(1, 1))
    ledgers.register_model("a", nn.Linear(1, 1))
    with pytest.raises(LedgerError, match=r"which model\? .*registered: a, b"):
        ledgers.get_model()


def test_an_empty_ledger_says_so():
    with pytest.raises(LedgerError, match="none is registered"):
        ledgers.get_optimizer()


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    ledgers.register_model("mine", nn.Linear(1, 1))
    with pytest.raises(LedgerError, match=r"no model 'yours' .*registered: mine"):
        ledgers.get_model("yours")
    with pytest.raises(LedgerError, match="no model 'yours'"):
        ledgers.unregister_model("yours")


def test_registering_again_replaces():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    ledgers.register_model("mine", first)
    ledgers.register_model("mine", second)
    assert ledgers.get_model("mine") is second


def test_a_weak_entry_does_not_keep_its_model_alive():
    model = nn.Linear(1, 1)
    ledgers.register_model("mine", model, weak=True)
    assert ledgers.get_model("mine") is model
    del model
    gc.collect()
    with pytest.raises(LedgerError, match="weak=True and is gone"):
        ledgers.get_model("mine")


def test_optimizers_have_the_same_calls():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    ledgers.register_optimizer("sgd", optimizer)
    assert ledgers.get_optimizer("sgd") is optimizer
    assert ledgers.list_optimizers() == ["sgd"]
    ledgers.unregister_optimizer("sgd")
    assert ledgers.list_optimizers() == []


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_is_a_non_empty_str(name):
    with pytest.raises(LedgerError, match="non-empty str"):
        ledgers.register_model(name, nn.Linear(1, 1))


def test_many_threads_may_register_and_list_at_once():
    model = nn.Linear(1, 1)
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for i in range(200):
                ledgers.register_model(f"{number}-{i}", model)
                ledgers.list_models()
                ledgers.unregister_model(f"{number}-{i}")
        except Exception as error:  # noqa: BLE001  # reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ledgers.list_models() == []
