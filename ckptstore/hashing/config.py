"""A config's digest, and the YAML text from which the same digest can be taken again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from ckptstore.hashing.encoding import digest

# Other YAML readers take 1e-5, 0o17 or 1_000 for numbers where PyYAML sees text: such text is quoted.
_LIKE_A_NUMBER = re.compile(r"[-+.]?\d[\d_.:]*(?:[eE][-+]?\d+)?|0[xob][\da-fA-F_]+")
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_DECIMAL_BITS = 4096  # Python refuses to print or read a decimal of more than 4300 digits; hexadecimal has no limit


def config_digest(plain: Mapping[str, Any]) -> str:
    """Return the SHA-256, 64 hex digits, of a config in its plain form.

    The order of keys does not count, the order of lists does. 1, 1.0, True and "1" differ, -0.0 and 0.0 too; every
    NaN is equal to every other.

    Raises:
        TypeError: the config is not plain; see `plain_config`.
    """
    return digest(plain)


def dump_yaml(plain: Mapping[str, Any]) -> str:
    """Return plain data as YAML, from which `yaml.safe_load` gives back the same data, type by type and bit by bit.

    Block style, unsorted, unicode as it is, without aliases. Bytes are ``!!binary``.

    Raises:
        yaml.YAMLError: the data is not plain; see `plain_config`.
    """
    text: str = yaml.dump(
        dict(plain),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=float("inf"),
    )
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # the signature is PyYAML's
        return True


def _represent_str(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    quoted = _UNPRINTABLE.search(value) or _LIKE_A_NUMBER.fullmatch(value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if quoted else None)


def _represent_int(dumper: _Dumper, value: int) -> yaml.ScalarNode:
    text = str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)
    return dumper.represent_scalar("tag:yaml.org,2002:int", text)


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(int, _represent_int)
