"""What the commands print, literally, in 80 columns, of a store whose every number is fixed."""

from __future__ import annotations

import json

import pytest

from ckptstore import open_store
from ckptstore.__main__ import main
from tests.golden_store import NOW, ROOT, SLOWER, WIDER, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    with open_store(folder / "runs") as store:
        fill(store)
    return folder


@pytest.fixture
def page(filled, tmp_path, monkeypatch, capsys):
    """Run a command in the folder and return what it prints, the folder's own name replaced."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CKPTSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ckptstore.cli.amounts.current_time", lambda: NOW)
    monkeypatch.chdir(filled)

    def run(*words: str) -> str:
        assert main(words) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return str(said.out).replace(filled.as_uri(), "file:///home/me")

    return run


def _page(text: str) -> str:
    return text.removeprefix("\n")


def test_ls(page):
    assert page("ls") == _page(f"""
file:///home/me/runs: 3 experiments, 15.8 kB

experiment        created  saved  checkpoints     size  best
{ROOT}      3 d    2 d  3, to 300    7.08 kB  accuracy 0.8 @200
{SLOWER}     24 h   19 h  3, to 300    7.10 kB  accuracy 0.8 @200
{WIDER}      5 h      -  -            1.58 kB  -
""")


def test_ls_of_one_experiment(page):
    listed = page("ls", "e707").splitlines()
    assert listed[2].startswith("object                                   kind")
    assert [line.rpartition("  ")[0].rstrip() for line in listed[3:]] == [
        f"hp/{WIDER}_config.yaml          config             194 bytes",
        f"hp/{WIDER}_provenance.yaml      provenance         960 bytes",
        f"model/{WIDER}_architecture.pkl  architecture       125 bytes",
        f"model/{WIDER}_architecture.txt  architecture text  304 bytes",
    ]


def test_log(page):
    assert page("log", "runs") == _page(f"""
file:///home/me/runs

experiment          created  checkpoints  best
{ROOT}        3 d  3, to 300    accuracy 0.8 @200
├ {SLOWER}     24 h  3, to 300    accuracy 0.8 @200
│   optimizer.lr 0.01 -> 0.002; samples 1,200 -> 1,198
└ {WIDER}      5 h  -            -
    0 Linear out_features 3 -> 5, 2 Linear in_features 3 -> 5
""")


def test_show(page):
    assert page("show", SLOWER[:4], "--metric", "loss") == _page(f"""
{SLOWER} in file:///home/me/runs

  created      2026-05-31 12:00:00 UTC, 24 h ago
               ckptstore 0.1.0, torch 2.13.0, python 3.11.7, commit c0ffeec0ffee
  parent       {ROOT}
               optimizer.lr 0.01 -> 0.002; samples 1,200 -> 1,198
  model        Sequential, 23 parameters
  config       optimizer.name adamw, optimizer.lr 0.002, epochs 3
  samples      1,198
  checkpoints  3, steps 100 to 300, 1 run
               the last saved 19 h ago: loss 0.5, accuracy 0.75
  best         loss 0.4 at step 200
  size         7.10 kB in 7 objects: checkpoints 5.51 kB, config 1.16 kB, model
               429 bytes
""")


def test_show_of_a_checkpoint(page):
    assert page("show", f"{SLOWER}@200") == _page(f"""
{SLOWER}@200 in file:///home/me/runs
checkpoints/{SLOWER}/model/{SLOWER}_step_000200.pt

  saved     2026-05-31 15:20:00 UTC, 20 h ago
  size      1.84 kB
  metadata  loss 0.4, accuracy 0.8
  run       0123456789abcdef0123456789abcdef
  digest    367bc120d450f964d35b64f97203c22067b60052c82be4ac3951c33980abb8c1
""")


def test_diff_of_experiments(page):
    assert page("diff", "8dba", "e707", "-s", "runs") == _page(f"""
{ROOT} -> {WIDER}

architecture: 2 modules differ
  ~  0  Linear(in_features=4, out_features=3, bias=True) ->
        Linear(in_features=4, out_features=5, bias=True)
  ~  2  Linear(in_features=3, out_features=2, bias=True) ->
        Linear(in_features=5, out_features=2, bias=True)
config: the same
samples: the same
""")
    assert page("diff", "8dba", "378f") == _page(f"""
{ROOT} -> {SLOWER}

architecture: the same
config: 1 value differs
  ~  optimizer.lr  0.01 -> 0.002
samples: 1,200 -> 1,198
  which ones is not known: record_uids=True keeps them
""")


def test_why(page):
    assert page("why", "8dba", "378f") == (
        f"{SLOWER} differs from {ROOT} in the config (optimizer.lr 0.01 -> 0.002) "
        "and in the samples (1,200 -> 1,198).\n"
    )


def test_diff_of_checkpoints(page):
    assert page("diff", "8dba@100", "8dba@latest") == _page(f"""
{ROOT}@100 -> {ROOT}@300

header: 5 values differ
  ~  step               100 -> 300
  ~  timestamp          2026-05-29T13:40:00+00:00 -> 2026-05-29T17:00:00+00:00
  ~  metadata.loss      0.9 -> 0.5
  ~  metadata.accuracy  0.55 -> 0.75
  ~  optimizer[0].lr    0.01 -> 0.003333
tensors: 1 changed, 3 of the same CRC32
     tensor  what            size
  ~  2.bias  float32 [2]  8 bytes
""")
    assert page("diff", "8dba@100", "8dba@300", "--deep").endswith("""
tensors: 1 changed, 3 equal
     tensor  what         max change  mean
  ~  2.bias  float32 [2]         200   200
""")
    assert page("diff", "8dba@100", "8dba@100").endswith("\n\nthe same content, down to the last byte\n")


def test_cat_of_a_checkpoint(page):
    said = page("cat", "8dba@100")
    assert said.startswith(f"checkpoints/{ROOT}/model/{ROOT}_step_000100.pt\n\n  step")
    assert "  metadata.loss        0.9\n" in said
    assert said.endswith("""
4 tensors, 23 elements
tensor    dtype    shape       size  crc32
0.weight  float32  [3, 4]  48 bytes  3e667d78
0.bias    float32  [3]     12 bytes  30c8bc70
2.weight  float32  [2, 3]  24 bytes  91e79017
2.bias    float32  [2]      8 bytes  136d57e1
""")


def test_nothing_printed_is_wider_than_the_terminal(page):
    for words in (["ls"], ["log"], ["show", "378f"], ["diff", "8dba", "e707"], ["prune", "--latest", "1"],
                  ["verify"], ["compress", "-n"], ["gc"]):  # fmt: skip
        body = page(*words).splitlines()[1:]
        assert max(map(len, body)) <= 80, words


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["ls"], {"store", "experiments"}),
        (["ls", "378f"], {"exp_hash", "objects"}),
        (["log"], {"store", "experiments"}),
        (["show", "378f"], {"exp_hash", "best", "change", "config", "record", "sizes", "checkpoints", "steps"}),
        (["show", "378f@100"], {"step", "key", "metadata", "condition"}),
        (["diff", "8dba", "378f"], {"old", "new", "components", "modules", "configs", "samples"}),
        (["diff", "8dba@100", "378f@100"], {"old", "new", "tensors", "header"}),
        (["why", "8dba", "378f"], {"old", "new", "why"}),
        (["cat", "378f"], {"key", "header", "tensors"}),
        (["prune", "--every", "100"], {"dry_run", "verdicts"}),
        (["verify", "--deep"], {"ok", "experiments"}),
        (["gc"], {"dry_run", "items"}),
        (["compress", "-n"], {"dry_run", "outcomes"}),
        (["decompress", "-n"], {"dry_run", "outcomes"}),
        (["mirror", "runs", "elsewhere", "-n"], {"dry_run", "transferred"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_json_is_one_document(page, words, names):
    assert names <= set(json.loads(page(*words, "--json")))
