from __future__ import annotations

import argparse
import enum
import math
import subprocess
import sys
from collections import OrderedDict, UserDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ckptstore.errors import ConfigTypeError
from ckptstore.hashing import config_digest, dump_yaml, plain_config
from ckptstore.hashing.encoding import encode

texts = st.text(st.characters(exclude_categories=["Cs"]))
awkward = st.sampled_from(
    [
        *("", " ", "~", "=", "<<", "yes", "No", "null", "1e-5", "1_000", "0o17", "017", "1:30", "0x1F", "2024-01-01"),
        *("\x00", "\x7f", "\x85", "\u2028", "\ufeff", "\U0001f600", "\r\n", "a\tb", "a\nb", "a\n\nb\n", "x " * 900),
        *(
            "trailing ",
            " leading",
            "# no comment",
            "- x",
            "a: b",
            "!!int 1",
            "&a",
            "*a",
            "%",
            "...",
            "---",
            "{}",
            "[",
        ),
        *("'", '"', "\\"),
    ]
)
scalars = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | awkward | st.binary(max_size=40),
    st.sampled_from([2**4096, -(2**5000), -0.0, 1e-5, 1e16, 1e300, 5e-324]),
    st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.sampled_from([Path("a/b"), torch.bfloat16, torch.device("cpu")]),
    st.floats(width=32).map(np.float32) | st.integers(-(2**63), 2**63 - 1).map(np.int64),
)
hashables = st.integers() | texts | st.booleans() | st.floats() | st.tuples(st.integers(), texts)
keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | awkward
values = st.recursive(
    scalars | st.sets(hashables, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)
configs = st.dictionaries(keys, values, max_size=5)


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Optimizer:
    name: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    options: dict[str, object] = field(default_factory=dict)


def digest_of(config, **options):
    return config_digest(plain_config(config, **options))


def read_back(config):
    return yaml.safe_load(dump_yaml(plain_config(config)))


@settings(max_examples=400, deadline=None)
@given(configs)
def test_a_config_read_back_from_its_file_has_the_same_digest(config):
    plain = plain_config(config)
    assert encode(yaml.safe_load(dump_yaml(plain))) == encode(plain)
    assert encode(plain_config(plain)) == encode(plain)


def test_the_digest_of_a_config_is_that_of_the_first_release():
    config = {"learning_rate": 1e-5, "text": "1e-5", "layers": (64, 32), "nan": math.nan, "é": "\x85", "on": True}
    assert digest_of({}) == "ee7d0fbed34482574a32d87dc754abd089afe0eab198e737989e34c14c3fe659"
    assert digest_of(config) == "da4460b0bd8313b3e61c4ff0011fc1b7a7df76bd655e7d987b7cadf7b8203f17"
    assert (
        digest_of({"w": np.arange(6, dtype=np.int16).reshape(2, 3)})
        == "ac17e088818f9537621a19b9a770611ff64880587035c780530a9d1908373f2f"
    )


def test_the_file_of_a_config_is_that_of_the_first_release():
    config = {
        "lr": 1e-5,
        "text": "1e-5",
        "on": True,
        "off": "no",
        "sizes": (64, 32),
        "none": None,
        "é": "a\nb",
        1: {},
    }
    assert dump_yaml(plain_config(config)) == (
        "lr: 1.0e-05\ntext: \"1e-5\"\n'on': true\n'off': 'no'\nsizes:\n- 64\n- 32\nnone: null\né: \"a\\nb\"\n1: {}\n"
    )


def test_an_int_of_any_size_is_read_back():
    assert read_back({"a": 10**5000, "b": -(10**5000), "c": 2**4096}) == {
        "a": 10**5000,
        "b": -(10**5000),
        "c": 2**4096,
    }


def test_one_true_one_point_zero_and_the_text_differ():
    assert len({digest_of({"x": value}) for value in (1, 1.0, True, "1", b"1", [1], None, 0.0, -0.0, 0)}) == 10


def test_the_order_of_keys_does_not_count_and_of_lists_does():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})
    assert digest_of({"a": {"b": 1}}) != digest_of({"a": {}, "b": 1})


def test_every_nan_is_one_nan():
    assert (
        digest_of({"x": math.nan}) == digest_of({"x": -np.float32("nan")}) == digest_of({"x": torch.tensor(math.nan)})
    )


def test_keys_of_every_kind_are_kept_apart():
    kept = plain_config({"1": 0, 1: 1, None: 2, 1.5: 3, Colour.RED: 4, False: 5, np.int64(7): 6})
    assert kept == {"1": 0, 1: 1, None: 2, 1.5: 3, "red": 4, False: 5, 7: 6}
    assert encode(yaml.safe_load(dump_yaml(kept))) == encode(kept)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset(["b", "a"]), ["a", "b"]),
        (np.float32(0.5), 0.5),
        (np.int8(3), 3),
        (np.bool_(1), True),
        (np.str_("a"), "a"),
        (np.float64(2), 2.0),
        (np.array(3), 3),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.array(["a", "b"]), ["a", "b"]),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.tensor(True), True),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Path("a") / "b", "a/b"),
        (PurePosixPath("/x"), "/x"),
        (datetime(2024, 1, 2, 3, tzinfo=UTC), "2024-01-02T03:00:00+00:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=2), 120.0),
        (torch.float16, "torch.float16"),
        (torch.device("cuda", 1), "cuda:1"),
        (torch.Size([2, 3]), [2, 3]),
        (Optimizer(), {"name": "adam", "betas": [0.9, 0.999], "options": {}}),
        (argparse.Namespace(a=argparse.Namespace(b=1)), {"a": {"b": 1}}),
        (SimpleNamespace(a=1), {"a": 1}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (UserDict(a=1), {"a": 1}),
        (bytearray(b"a"), b"a"),
        (type("Text", (str,), {})("t"), "t"),
        (type("Number", (int,), {})(5), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_reduced_to_its_plain_form(value, plain):
    reduced = plain_config({"x": value})["x"]
    assert encode(reduced) == encode(plain)
    assert type(reduced) is type(plain)


def test_arrays_and_tensors_are_a_mapping_of_dtype_shape_and_bytes():
    expected = {"array": "int16", "shape": [2, 2], "bytes": b"\x01\x00\x02\x00\x03\x00\x04\x00"}
    array = np.array([[1, 2], [3, 4]], np.int16)
    for same in (array, np.asfortranarray(array), array.astype(">i2"), torch.tensor(array), torch.tensor(array.T).T):
        assert plain_config({"x": same})["x"] == expected


def test_tensors_of_every_width_are_kept_bit_by_bit():
    assert plain_config({"x": torch.tensor([1.0], dtype=torch.bfloat16)})["x"]["bytes"] == b"\x80\x3f"
    assert plain_config({"x": torch.tensor([1 + 2j]).conj()})["x"]["array"] == "complex64"
    assert plain_config({"x": torch.zeros(0, 3, requires_grad=True)})["x"] == {
        "array": "float32",
        "shape": [0, 3],
        "bytes": b"",
    }


def test_a_config_is_any_of_mapping_dataclass_and_namespace():
    as_dict = {"name": "adam", "betas": (0.9, 0.999), "options": {}}
    assert plain_config(Optimizer()) == plain_config(as_dict) == plain_config(argparse.Namespace(**as_dict))


def test_a_plain_form_shares_no_container_with_its_config():
    config: dict[str, Any] = {"a": [1], "b": {"c": 1}}
    plain = plain_config(config)
    config["a"].append(2)
    config["b"]["c"] = 2
    assert plain == {"a": [1], "b": {"c": 1}}


def test_omegaconf_is_resolved():
    config = OmegaConf.create({"lr": 0.1, "opt": {"lr": "${lr}"}, "sizes": [1, "${lr}"]})
    assert plain_config(config) == {"lr": 0.1, "opt": {"lr": 0.1}, "sizes": [1, 0.1]}
    assert plain_config({"inner": config.opt}) == {"inner": {"lr": 0.1}}


def test_a_value_missing_in_omegaconf_is_named():
    with pytest.raises(ConfigTypeError, match=r"config\['opt'\]\['lr'\] cannot be read: MissingMandatoryValue"):
        plain_config(OmegaConf.create({"opt": {"lr": "???"}}))


@pytest.mark.parametrize(
    "value",
    [
        print,
        lambda: None,
        sys,
        Optimizer,
        object(),
        1j,
        np.complex64(1),
        np.longdouble(1),
        np.array([object()]),
        iter([]),
        torch.zeros(2, device="meta"),
        torch.zeros(2, 2).to_sparse(),
        torch.nn.Linear(1, 1),
        "\ud800",
        range(3),
        ...,
    ],
    ids=lambda value: type(value).__name__,  # a repr may hold an address, and workers must agree
)
def test_what_has_no_plain_form_is_refused_with_its_path(value):
    with pytest.raises(ConfigTypeError, match=r"^config\['optimizer'\]\[1\]\['fn'\] "):
        plain_config({"optimizer": [0, {"fn": value}]})


def test_an_open_file_is_refused_with_its_path(tmp_path):
    with (tmp_path / "log").open("w") as log, pytest.raises(ConfigTypeError, match=r"config\['log'\] is a _io\.Text"):
        plain_config({"log": log})


@pytest.mark.parametrize(
    "key", [(1, 2), b"a", frozenset(), Path("a"), date(2024, 1, 1), 2**5000], ids=lambda key: type(key)
)
def test_a_key_that_yaml_could_not_give_back_is_refused(key):
    with pytest.raises(ConfigTypeError, match=r"config\['a'\] has an? (int )?key"):
        plain_config({"a": {key: 1}})


@pytest.mark.parametrize("pair", [(Colour.RED, "red"), (Colour.ONE, True), (Colour.ONE, 1.0)])
def test_two_keys_that_become_one_are_refused(pair):
    with pytest.raises(ConfigTypeError, match=r"config\[.*\] is there twice"):
        plain_config(dict.fromkeys(pair))


def test_a_container_that_holds_itself_is_refused():
    config: dict[str, Any] = {"a": {"b": []}}
    config["a"]["b"].append(config["a"])
    with pytest.raises(ConfigTypeError, match=r"config\['a'\]\['b'\]\[0\] holds itself"):
        plain_config(config)


def test_a_container_may_be_there_twice():
    shared = [1]
    assert read_back({"a": shared, "b": shared}) == {"a": [1], "b": [1]}
    assert "&" not in dump_yaml(plain_config({"a": shared, "b": shared}))


def nested(levels):
    config: dict[str, object] = {}
    for _ in range(levels - 1):
        config = {"a": config}
    return config


def test_nesting_has_a_limit_below_that_of_yaml_readers():
    assert read_back(nested(100)) == nested(100)
    with pytest.raises(ConfigTypeError, match="nested more than 100 levels deep"):
        plain_config(nested(101))


@pytest.mark.parametrize("config", [None, [1], "lr: 1", 5, Optimizer, {1, 2}])
def test_a_config_that_is_no_mapping_is_refused(config):
    with pytest.raises(ConfigTypeError, match="give a mapping, a dataclass or a Namespace"):
        plain_config(config)


def test_ignored_paths_are_left_out_whatever_they_hold():
    config: dict[object, Any] = {
        "seed": 1,
        "logging": {"level": print, "to": "x", "seed": 2},
        "a.b": 3,
        5: 4,
        "runs": [{"level": 6}],
    }
    plain = plain_config(config, ignore=["logging.level", "a.b", "5", "level", "not.there"])
    assert plain == {"seed": 1, "logging": {"to": "x", "seed": 2}, "runs": [{"level": 6}]}
    assert plain_config(config, ignore={"logging", "runs"}) == {"seed": 1, "a.b": 3, 5: 4}


@pytest.mark.parametrize("ignore", ["seed", b"seed", [1]])
def test_ignore_is_a_list_of_texts(ignore):
    with pytest.raises(ConfigTypeError, match="ignore="):
        plain_config({"seed": 1}, ignore=ignore)


def test_sets_of_text_hash_alike_whatever_the_seed_of_pythons_hash():
    script = (
        "from ckptstore.hashing import *; import sys\n"
        "print(config_digest(plain_config({'tags': {'a', 'b', 'c', ('d', 1)}})), sample_digest({'x', 'y', 'z'})[0],"
        " 'torch' in sys.modules)"
    )
    seeds = [{"PYTHONHASHSEED": str(seed)} for seed in (0, 1, 4711)]
    said = {
        subprocess.run([sys.executable, "-c", script], env=seed, capture_output=True, check=True).stdout
        for seed in seeds
    }
    assert said == {
        (
            b"f2e9e8737706b37140f30ce1ac0cc7b90c8f98fb239b9fa927435cd55f7c0c6d "
            b"8545f2ed0bb5801a3e9265d6c52b59d4a74c67c2c8ad351de9d2ae7b63067bb8 False\n"
        )
    }
