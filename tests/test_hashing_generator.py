from __future__ import annotations

import pytest
from torch import nn

from ckptstore.errors import ConfigTypeError, UnsupportedUID
from ckptstore.hashing import (
    ExperimentHashGenerator,
    SampleSet,
    combine,
    config_digest,
    describe_model,
    plain_config,
    sample_digest,
)
from tests.hashing_models import TwoLayers

CONFIG = {"lr": 0.1, "seed": 1}


def test_a_hash_combines_the_digests_of_what_was_given():
    generator = ExperimentHashGenerator()
    model, uids = nn.Linear(2, 2), ["a", "b"]
    made = generator.generate_hash(model=model, config=CONFIG, active_data_uids=uids)
    digests = describe_model(model).digest, config_digest(CONFIG), sample_digest(uids)[0]
    assert made == combine(*digests) == generator.get_last_hash()
    assert generator.get_component_hashes() == dict(zip(("model", "config", "data"), digests, strict=True)) | {
        "combined": made
    }


def test_before_the_first_hash_everything_has_changed():
    generator = ExperimentHashGenerator()
    assert generator.get_last_hash() is None
    assert generator.get_component_hashes() == {"model": None, "config": None, "data": None, "combined": None}
    assert generator.has_changed(config=CONFIG, active_data_uids=[]) == (True, {"config", "data"})
    assert generator.has_changed() == (False, set())


def test_a_component_not_given_is_absent_from_the_hash_and_not_compared():
    generator = ExperimentHashGenerator()
    made = generator.generate_hash(config=CONFIG)
    assert made == combine(None, config_digest(CONFIG), None)
    assert generator.get_component_hashes()["model"] is None
    assert generator.has_changed(config=dict(CONFIG)) == (False, set())
    assert generator.has_changed(model=nn.ReLU(), config=CONFIG) == (True, {"model"})
    assert generator.generate_hash() == combine(None, None, None)


def test_what_changed_is_named_and_nothing_is_remembered():
    generator = ExperimentHashGenerator()
    made = generator.generate_hash(nn.Linear(2, 2), CONFIG, SampleSet(["a"]))
    for _ in range(2):
        assert generator.has_changed(nn.Linear(2, 99), {**CONFIG, "lr": 0.2}, ["a"]) == (True, {"model", "config"})
        assert generator.has_changed(nn.Linear(2, 2), CONFIG, ["a", "a"]) == (True, {"data"})
    assert generator.has_changed(nn.Linear(2, 2), CONFIG, iter(["a"])) == (False, set())
    assert generator.get_last_hash() == made


def test_component_hashes_are_a_copy():
    generator = ExperimentHashGenerator()
    made = generator.generate_hash(config=CONFIG)
    generator.get_component_hashes()["combined"] = "x"
    assert generator.get_last_hash() == made


def test_a_refused_component_leaves_the_last_hash():
    generator = ExperimentHashGenerator()
    made = generator.generate_hash(config=CONFIG)
    with pytest.raises(UnsupportedUID):
        generator.generate_hash(config={}, active_data_uids="abc")
    with pytest.raises(ConfigTypeError):
        generator.has_changed(config={"fn": print})
    assert generator.get_last_hash() == made


def test_ignored_keys_do_not_count():
    generator = ExperimentHashGenerator(ignore=iter(["seed"]))
    generator.generate_hash(config=CONFIG)
    assert generator.has_changed(config={"lr": 0.1, "seed": 2}) == (False, set())
    assert generator.get_component_hashes()["config"] == config_digest(plain_config({"lr": 0.1}))


def test_a_bare_text_to_ignore_is_refused_at_once():
    with pytest.raises(ConfigTypeError, match="ignore='seed' is one text"):
        ExperimentHashGenerator(ignore="seed")


def test_source_can_be_left_out():
    with_source, without = ExperimentHashGenerator(), ExperimentHashGenerator(forward_source=False)
    assert with_source.generate_hash(TwoLayers()) != without.generate_hash(TwoLayers())
    assert without.get_component_hashes()["model"] == describe_model(TwoLayers(), forward_source=False).digest
