from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptstore.hashing import config_digest, dump_yaml, plain_config

texts = st.text(st.characters(exclude_categories=["Cs"]))
awkward = st.sampled_from(
    ["", " ", "~", "=", "<<", "yes", "No", "null", "1e-5", "1_000", "0o17", "017", "1:30", "\x85", "\u2028", "\ufeff"]
    + ["a\tb", "trailing ", " leading", "a\nb", "a\n\nb\n", "# no comment", "- x", "a: b", "!!int 1", "&a", "*a", "%"]
    + ["x" * 3000, "\x00", "\x7f", "\U0001f600", "2024-01-01", "...", "---", "{}", "[", "'", '"', "\\", "\r\n", "0x1F"]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | awkward | st.binary(max_size=40)
    | st.sampled_from([2**4096, -(2**5000), -0.0, 1e-5, 1e16, 1e300, 5e-324])
)
keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | awkward
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))
configs = st.dictionaries(keys, values, max_size=5)


@settings(max_examples=3000, deadline=None)
@given(configs)
def test_a_config_read_back_from_its_file_has_the_same_digest(config):
    plain = plain_config(config)
    assert config_digest(yaml.safe_load(dump_yaml(plain))) == config_digest(plain)
    assert plain_config(plain) == plain or "nan" in repr(plain)
