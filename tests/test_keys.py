"""The key layout, literally, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptstore import keys
from ckptstore.errors import InvalidName, InvalidStep
from ckptstore.keys import Kind, ParsedKey, parse_key
from ckptstore.objects import check_key

H = "0123456789abcdef"
HASHES = st.text(alphabet="0123456789abcdef", min_size=16, max_size=16)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")

GOLDEN = [
    (
        keys.checkpoint_key(H, 100),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_step_000100.pt",
        ParsedKey(H, Kind.CHECKPOINT, step=100),
    ),
    (
        keys.checkpoint_key(H, 0),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_step_000000.pt",
        ParsedKey(H, Kind.CHECKPOINT, step=0),
    ),
    (
        keys.checkpoint_key(H, 999_999),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_step_999999.pt",
        ParsedKey(H, Kind.CHECKPOINT, step=999_999),
    ),
    (
        keys.checkpoint_key(H, 1_000_000),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_step_1000000.pt",
        ParsedKey(H, Kind.CHECKPOINT, step=1_000_000),
    ),
    (
        keys.compressed_checkpoint_key(H, 7),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_step_000007.pt.zst",
        ParsedKey(H, Kind.COMPRESSED_CHECKPOINT, step=7),
    ),
    (
        keys.architecture_key(H),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_architecture.pkl",
        ParsedKey(H, Kind.ARCHITECTURE),
    ),
    (
        keys.architecture_text_key(H),
        "checkpoints/0123456789abcdef/model/0123456789abcdef_architecture.txt",
        ParsedKey(H, Kind.ARCHITECTURE_TEXT),
    ),
    (
        keys.config_key(H),
        "checkpoints/0123456789abcdef/hp/0123456789abcdef_config.yaml",
        ParsedKey(H, Kind.CONFIG, name="config"),
    ),
    (
        keys.config_key(H, "optimizer.v1-b_2"),
        "checkpoints/0123456789abcdef/hp/0123456789abcdef_optimizer.v1-b_2.yaml",
        ParsedKey(H, Kind.CONFIG, name="optimizer.v1-b_2"),
    ),
    (
        keys.provenance_key(H),
        "checkpoints/0123456789abcdef/hp/0123456789abcdef_provenance.yaml",
        ParsedKey(H, Kind.PROVENANCE, name="provenance"),
    ),
    (
        keys.backup_key(H),
        "checkpoints/0123456789abcdef/data/0123456789abcdef_data.h5",
        ParsedKey(H, Kind.BACKUP, name="data"),
    ),
    (
        keys.uids_key(H),
        "checkpoints/0123456789abcdef/data/0123456789abcdef_uids.h5",
        ParsedKey(H, Kind.BACKUP, name="uids"),
    ),
    (
        keys.backup_digest_key(keys.backup_key(H, "run-2")),
        "checkpoints/0123456789abcdef/data/0123456789abcdef_run-2.h5.sha256",
        ParsedKey(H, Kind.BACKUP_DIGEST, name="run-2"),
    ),
]


@pytest.mark.parametrize(("built", "literal", "parsed"), GOLDEN)
def test_each_key_is_exactly_this_and_is_taken_apart_again(built, literal, parsed):
    assert built == literal
    assert parse_key(literal) == parsed
    assert check_key(literal) == literal


def test_folders_are_exactly_these():
    assert keys.CHECKPOINTS == "checkpoints/"
    assert (keys.DATA, keys.LOGS) == ("data/", "logs/")
    assert keys.experiment_prefix(H) == "checkpoints/0123456789abcdef/"
    assert keys.model_prefix(H) == "checkpoints/0123456789abcdef/model/"
    assert keys.config_prefix(H) == "checkpoints/0123456789abcdef/hp/"
    assert keys.backup_prefix(H) == "checkpoints/0123456789abcdef/data/"


@given(HASHES, st.integers(0, 10**12))
def test_a_checkpoint_key_gives_its_step_back(exp_hash, step):
    assert parse_key(keys.checkpoint_key(exp_hash, step)) == ParsedKey(exp_hash, Kind.CHECKPOINT, step=step)
    compressed = parse_key(keys.compressed_checkpoint_key(exp_hash, step))
    assert compressed == ParsedKey(exp_hash, Kind.COMPRESSED_CHECKPOINT, step=step)


@given(HASHES, NAMES)
def test_a_named_key_gives_its_name_back(exp_hash, name):
    if name not in {keys.PROVENANCE, keys.UIDS}:
        assert parse_key(keys.config_key(exp_hash, name)) == ParsedKey(exp_hash, Kind.CONFIG, name=name)
        assert parse_key(keys.backup_key(exp_hash, name)) == ParsedKey(exp_hash, Kind.BACKUP, name=name)
        check_key(keys.backup_digest_key(keys.backup_key(exp_hash, name)))


@given(st.text() | st.from_regex(r"checkpoints/[0-9a-f]{16}/(model|hp|data)/[0-9a-f]{16}_.{0,30}"))
def test_what_parses_is_what_would_be_built(text):
    found = parse_key(text)
    if found is None:
        return
    built = {
        Kind.CHECKPOINT: lambda: keys.checkpoint_key(found.exp_hash, found.step or 0),
        Kind.COMPRESSED_CHECKPOINT: lambda: keys.compressed_checkpoint_key(found.exp_hash, found.step or 0),
        Kind.ARCHITECTURE: lambda: keys.architecture_key(found.exp_hash),
        Kind.ARCHITECTURE_TEXT: lambda: keys.architecture_text_key(found.exp_hash),
        Kind.CONFIG: lambda: keys.config_key(found.exp_hash, found.name or ""),
        Kind.PROVENANCE: lambda: keys.provenance_key(found.exp_hash),
        Kind.BACKUP: lambda: keys.backup_key(found.exp_hash, found.name or ""),
        Kind.BACKUP_DIGEST: lambda: keys.backup_digest_key(keys.backup_key(found.exp_hash, found.name or "")),
    }
    assert built[found.kind]() == text


@pytest.mark.parametrize(
    "key",
    [
        "",
        "data/x.h5",
        "logs/run.log",
        "checkpoints/",
        f"checkpoints/{H}",
        f"checkpoints/{H}/model/{H}_step_00100.pt",  # five digits
        f"checkpoints/{H}/model/{H}_step_0000100.pt",  # a zero too many
        f"checkpoints/{H}/model/{H}_step_-00001.pt",
        f"checkpoints/{H}/model/{H}_step_{chr(0x0661) * 6}.pt",  # digits, but not ours
        f"checkpoints/{H}/model/{H}_step_000100.pt.tmp",
        f"checkpoints/{H}/model/{H}_step_000100.pth",
        f"checkpoints/{H}/model/{'f' * 16}_step_000100.pt",  # of another experiment
        f"checkpoints/{H.upper()}/model/{H.upper()}_step_000100.pt",
        f"checkpoints/{H}0/model/{H}0_step_000100.pt",
        f"checkpoints/{H}/{H}_step_000100.pt",
        f"checkpoints/{H}/model/deeper/{H}_step_000100.pt",
        f"checkpoints/{H}/model/{H}_architecture.json",
        f"checkpoints/{H}/hp/{H}_.yaml",
        f"checkpoints/{H}/hp/{H}_-x.yaml",
        f"checkpoints/{H}/hp/{H}_config.yml",
        f"checkpoints/{H}/hp/{H}_config.yaml\n",
        f"checkpoints/{H}/hp/{H}_{'x' * 129}.yaml",
        f"checkpoints/{H}/data/{H}_data.hdf5",
        f"x/checkpoints/{H}/data/{H}_data.h5",
        f"checkpoints/{H}/model/.DS_Store",
    ],
)
def test_a_foreign_name_is_none_of_ours(key):
    assert parse_key(key) is None


@pytest.mark.parametrize("step", [-1, 1.0, "1", None, True, False])
def test_a_step_that_is_no_count_is_refused(step):
    with pytest.raises(InvalidStep, match="step"):
        keys.checkpoint_key(H, step)


@pytest.mark.parametrize("exp_hash", ["", "abc", H.upper(), H + "0", "g" * 16, H + "\n", None, 7, "../" + H[3:]])
def test_a_hash_that_is_none_is_refused(exp_hash):
    with pytest.raises(InvalidName, match="16 lower-case hex digits"):
        keys.experiment_prefix(exp_hash)


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "_x", "a/b", "a b", "é", "a\n", "x" * 129, None, 7, "../x"])
def test_a_name_outside_its_grammar_is_refused(name):
    with pytest.raises(InvalidName, match="config name"):
        keys.config_key(H, name)
    with pytest.raises(InvalidName, match="backup name"):
        keys.backup_key(H, name)


def test_reserved_names_are_refused():
    with pytest.raises(InvalidName, match="reserved"):
        keys.config_key(H, "provenance")
    with pytest.raises(InvalidName, match="reserved"):
        keys.backup_key(H, "uids")
    assert keys.config_key(H, "uids").endswith("_uids.yaml")
    assert keys.backup_key(H, "provenance").endswith("_provenance.h5")


@pytest.mark.parametrize(
    ("prefix", "exp_hash"),
    [
        (f"checkpoints/{H}/", H),
        (f"checkpoints/{H}", None),
        (f"{H}/", None),
        ("checkpoints/", None),
        ("checkpoints/lost+found/", None),
        (f"checkpoints/{H.upper()}/", None),
        (f"checkpoints/{H}/model/", None),
    ],
)
def test_the_hash_of_a_folder_is_known_only_for_experiments(prefix, exp_hash):
    assert keys.hash_of_prefix(prefix) == exp_hash


def test_a_key_lies_in_the_folder_of_an_experiment_whether_it_is_ours_or_not():
    assert keys.hash_of_key(keys.config_key(H)) == H
    assert keys.hash_of_key(f"checkpoints/{H}/notes.txt") == H
    assert keys.hash_of_key(f"checkpoints/{H}") == H
    assert keys.hash_of_key(f"checkpoints/{H}x/notes.txt") is None
    assert keys.hash_of_key(f"data/{H}/notes.txt") is None


def test_the_file_name_is_the_last_segment():
    assert keys.file_name(keys.config_key(H)) == f"{H}_config.yaml"
    assert keys.file_name("top") == "top"
