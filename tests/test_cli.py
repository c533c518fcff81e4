"""The command line as somebody uses it: the store is found, hashes may be short, errors are one line, no secrets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ckptstore import open_store
from ckptstore.__main__ import main
from ckptstore.cli import amounts
from ckptstore.cli.addresses import Address, parse_address
from ckptstore.cli.app import COMMANDS
from ckptstore.cli.drawing import DrawnProgress
from tests.experiments import flip, make_old, new_experiment, put_checkpoint

_COMMAND = [sys.executable, "-m", "ckptstore"]


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CKPTSTORE_STORE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    with open_store(folder) as store:
        return folder, [new_experiment(store, config=number, steps=(1, 2, 3, 4, 5)) for number in (1, 2)]


@pytest.fixture
def runs(made):
    """A store in ./runs, and the hashes of its two experiments."""
    folder, hashes = made
    shutil.copytree(folder, "runs")
    return hashes


@pytest.fixture
def said(capsys):
    """Run a command line; return its exit code, its output and its errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


# -- finding the store ------------------------------------------------------------------------------------


def test_the_store_is_a_word_an_option_a_variable_or_the_folder_one_is_in(runs, said, monkeypatch):
    ways: list[list[str]] = [["ls", "runs"], ["ls", "-s", "runs"], ["ls", Path("runs").absolute().as_uri()], ["ls"]]
    outputs = [said(*words, "--json") for words in ways]
    assert {code for code, _, _ in outputs} == {0}
    assert len({out for _, out, _ in outputs}) == 1
    monkeypatch.setenv("CKPTSTORE_STORE", "runs")
    assert said("ls", "--json") == outputs[0]
    (Path("runs") / "elsewhere").mkdir()
    monkeypatch.chdir("runs")
    monkeypatch.delenv("CKPTSTORE_STORE")
    assert said("ls", "--json") == outputs[0]
    assert sorted(one["exp_hash"] for one in json.loads(outputs[0][1])["experiments"]) == sorted(runs)


def test_a_word_goes_before_the_variable_and_contradicts_the_option(runs, said, monkeypatch):
    monkeypatch.setenv("CKPTSTORE_STORE", "/nowhere")
    assert said("ls", "runs")[0] == 0
    assert said("ls", "runs", "-s", "other")[::2] == (
        2, "ckptstore: the store was given twice, as a word and with --store\n"
    )  # fmt: skip


def test_several_stores_nearby_are_listed_rather_than_guessed_among(runs, said):
    with open_store("more/deeper") as store:
        new_experiment(store, steps=())
    code, out, err = said("ls")
    assert (code, out) == (2, "")
    assert err == "ckptstore: no store was given, and 2 folders here hold experiments: more/deeper, runs; name one\n"


def test_without_a_store_it_says_how_to_name_one(said):
    code, _, err = said("log")
    assert code == 2
    assert "PATH, s3://bucket/prefix, gs://bucket/prefix" in err
    assert "CKPTSTORE_STORE" in err


def test_an_empty_store_says_what_to_do_next(said):
    Path("empty").mkdir()
    for command in ("ls", "log"):
        code, out, _ = said(command, "empty")
        assert code == 0
        assert "no experiments yet" in out
        assert "update_experiment_hash" in out


def test_a_mistyped_folder_is_no_empty_store(said):
    assert said("ls", "./rnus")[::2] == (
        3, "ckptstore: there is no folder './rnus' here; `ckptstore ls s3://bucket/prefix` looks elsewhere\n"
    )  # fmt: skip


# -- hashes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("abcd", Address("abcd")),
        ("ABCD1234@7", Address("abcd1234", 7)),
        ("0123456789abcdef@latest", Address("0123456789abcdef", "latest")),
        ("abc", None),
        ("0123456789abcdef0", None),
        ("runs", None),
        ("abcd@x", None),
        ("abcd@-1", None),
    ],
)
def test_an_address_is_4_to_16_hex_digits_and_a_step(word, address):
    assert parse_address(word) == address


def test_a_hash_may_be_shortened_while_it_is_unique(runs, said):
    assert json.loads(said("show", runs[0][:4], "--json")[1])["exp_hash"] == runs[0]
    assert json.loads(said("show", f"{runs[1][:6].upper()}@3", "--json")[1])["step"] == 3
    assert json.loads(said("show", f"{runs[1]}@latest", "--json")[1])["step"] == 5


def test_an_unknown_hash_lists_what_there_is(runs, said):
    code, out, err = said("show", "ffff")
    assert (code, out) == (3, "")
    assert "begins with ffff; there are" in err
    assert runs[0] in err
    assert runs[1] in err
    assert "steps: 1, 2, 3, 4, 5" in said("show", f"{runs[0]}@9")[2]


def test_an_ambiguous_hash_lists_its_candidates(runs, said):
    source = Path("runs/checkpoints")
    twin = runs[0][:8] + "00000000"
    (source / runs[0]).rename(source / "aside")
    (source / "aside").rename(source / runs[0])
    (source / twin).mkdir()
    (source / twin / "x").write_text("")
    code, _, err = said("why", runs[0][:8], runs[1])
    assert code == 3
    assert "begins 2 hashes" in err
    assert twin in err
    assert "give more digits" in err
    assert said("show", runs[0])[0] == 0


@pytest.mark.parametrize("word", ["abc", "0123456789abcdef01", "abcd@x", "rnus@3"])
def test_what_is_almost_a_hash_is_not_taken_for_a_folder(runs, said, word):
    code, _, err = said("show", word)
    assert code == 2
    assert "no hash" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show"], "a hash of 4 to 16 hex digits expected"),
        (["cat"], "cat takes"),
        (["mirror"], "a source and a target"),
        (["import"], "the old folder and a store"),
        (["show", "runs"], "a hash of 4 to 16 hex digits expected"),
        (["diff", "abcd"], "2 hashes of 4 to 16 hex digits expected"),
        (["show", "abcd", "abcd"], "takes 1"),
        (["diff", "abcd", "abcd@1"], "cannot be compared"),
        (["diff", "abcd", "abcd", "--deep"], "two checkpoints"),
        (["why", "abcd@1", "abcd@2"], "not of checkpoints"),
        (["verify", "runs", "abcd@1"], "not single checkpoints"),
        (["prune", "runs"], "say what to keep"),
        (["prune", "runs", "--latest", "1", "--experiments-latest", "2"], "cannot be joined with --latest"),
        (["import", "runs", "new", "--config", "absent.yaml"], "--config: there is no file 'absent.yaml'"),
        (["import", "runs", "new", "--config", "runs"], "--config: 'runs' cannot be read"),
        (["prune", "runs", "--within", "3 fortnights"], "no time"),
        (["prune", "runs", "--best", "regularity"], "write regularity:min or regularity:max"),
        (["prune", "runs", "--pin", "x"], "no step"),
        (["prune", "runs", "--latest", "many"], "--latest"),
        (["mirror", "a", "b", "c"], "a source and a target"),
        (["mirror", "runs", "b", "--exp", "x"], "--exp takes a hash"),
        (["mirror", "runs", "runs"], "both are"),
        (["mirror", "runs", "b", "--on-conflict", "me"], "me"),
        (["ls", "runs", "--metric", "regularity"], "is not known"),
        (["ls", "s3:/bucket"], "neither a path nor a url"),
        (["ls", "runs", "-o", "anon=true"], "anon"),
        (["export", "runs"], "export takes"),
        (["lss"], "no such command"),
        (["ls", "--jsno"], "no such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(runs, said, words, message):
    words = [runs[0] if word == "abcd" else word.replace("abcd@", f"{runs[0]}@") for word in words]
    code, out, err = said(*words)
    assert (code, out) == (2, "")
    assert message in err.lower()
    assert err.count("\n") == 1


def test_a_wrong_command_line_is_one_json_document_when_asked(said):
    for words in (["lss"], ["ls", "--jsno"], ["mirror", "a", "b", "--on-conflict", "me"], ["prune", "--latest", "0"]):
        code, out, err = said(*words, "--json")
        assert code == 2
        assert json.loads(out)["error"]["exit_code"] == 2
        assert "Value error" not in err


def test_a_folder_above_stores_names_them(runs, said):
    Path("above/more").mkdir(parents=True)
    Path("runs").rename("above/more/runs")
    code, out, _ = said("ls", "above")
    Path("above/more/runs").rename("runs")
    assert code == 0
    assert out.endswith(f"no experiments here, but in {Path('above/more/runs').absolute()}\n")


def test_a_bucket_above_a_store_names_it(said, s3_store, s3_bucket, s3_options):
    s3_store.put(f"checkpoints/{'ab' * 8}/hp/{'ab' * 8}_config.yaml", b"")
    options = [word for name, value in s3_options.items() for word in ("-o", f"{name}={json.dumps(value)}")]
    assert f"but in s3://{s3_bucket}/some/prefix" in said("ls", f"s3://{s3_bucket}/some", *options)[1]


def test_doctor_leaves_no_folder_that_was_not_there(said, tmp_path):
    assert said("doctor", str(tmp_path / "new" / "store"))[0] == 0
    assert not (tmp_path / "new").exists()


def test_what_was_only_listed_is_not_called_sound(runs, said):
    assert "sound" not in said("verify", "runs")[1]
    assert "all is sound" in said("verify", "runs", "--deep")[1]


def test_cat_of_a_mistyped_name_says_what_there_is(runs, said):
    assert runs[0] in said("cat", "runs", f"{'0' * 16}_config.yaml")[2]
    assert "no nothing in" in said("cat", "runs", "nothing")[2]


def test_a_mistyped_command_is_put_right(said):
    assert "ls" in said("lss")[2]
    assert "mirror" in said("miror")[2]


# -- errors and exit codes --------------------------------------------------------------------------------


def test_a_missing_bucket_is_exit_code_3_and_a_dead_server_4(said, s3_options):
    options = [word for name, value in s3_options.items() for word in ("-o", f"{name}={json.dumps(value)}")]
    code, out, err = said("ls", "s3://no-such-bucket-here/x", *options)
    assert (code, out) == (3, "")
    assert "no-such-bucket-here" in err
    code, _, err = said("ls", "s3://bucket/x", "-o", "endpoint_url=http://127.0.0.1:9", "-o", "key=a", "-o",
                        "secret=TOP-SECRET", "-o", 'config_kwargs={"retries": {"max_attempts": 0}}')  # fmt: skip
    assert code == 4
    assert "TOP-SECRET" not in err


def test_secrets_are_in_no_output(said, capsys):
    for words in (
        ["ls", "s3://KEY:TOP-SECRET@bucket/x?sig=TOP-SECRET"],
        ["mirror", "nosuch://name:TOP-SECRET@place/x", "b"],
        ["ls", "memory://x", "-o", "TOP-SECRET"],
        ["ls", "memory://x", "-o", "password=TOP-SECRET", "--debug"],
        ["doctor", "nosuch://name:TOP-SECRET@place/x?sig=TOP-SECRET"],
    ):
        code, out, err = said(*words)
        assert code != 0
        assert "TOP-SECRET" not in out + err, words


def test_an_error_is_a_document_with_json_and_a_traceback_with_debug(runs, said):
    code, out, err = said("show", "ffff", "--json", "--debug")
    assert json.loads(out)["error"]["type"] == "UnknownExperiment"
    assert json.loads(out)["error"]["exit_code"] == code == 3
    assert "Traceback" in err
    assert "Traceback" not in said("show", "ffff")[2]


def test_problems_that_were_found_are_exit_code_1(runs, said):
    with open_store("runs") as store:
        flip(store, f"checkpoints/{runs[0]}/model/{runs[0]}_step_000003.pt", 900)
    code, out, _ = said("verify", "--deep")
    assert code == 1
    assert f"PROBLEM damaged: checkpoints/{runs[0]}/model/{runs[0]}_step_000003.pt" in out
    assert said("verify", runs[1], "--deep")[0] == 0


def test_a_damaged_store_is_repaired_from_its_mirror(runs, said):
    assert said("mirror", "runs", "copy")[0] == 0
    with open_store("runs") as store:
        flip(store, f"checkpoints/{runs[0]}/model/{runs[0]}_step_000003.pt", 900)
    code, out, _ = said("verify", "runs", "--deep", "--repair-from", "copy")
    assert code == 0
    assert "(repaired)" in out
    assert said("diff", "runs", f"{runs[0]}@3", f"{runs[0]}@3", "--other", "copy")[1].endswith(
        "the same content, down to the last byte\n"
    )


def test_a_conflict_stops_a_mirror_with_exit_code_1_and_a_report(runs, said):
    assert said("mirror", "runs", "copy")[0] == 0
    with open_store("copy") as copy, open_store("runs") as store:
        key = f"checkpoints/{runs[0]}/model/{runs[0]}_step_00000{{}}.pt"
        copy.put(key.format(2), store.get(key.format(1)))
    code, out, _ = said("mirror", "runs", "copy", "--json")
    assert code == 1
    assert [one["key"] for one in json.loads(out)["conflicts"]] == [key.format(2)]
    assert "--on-conflict" in said("mirror", "runs", "copy")[1]
    assert said("mirror", "runs", "copy", "--on-conflict", "source")[0] == 0


def test_mirror_takes_its_source_from_where_one_is(runs, said):
    code, out, _ = said("mirror", "copy", "--exp", runs[0][:5], "--latest", "2")
    assert code == 0
    assert json.loads(said("ls", "copy", runs[0], "--json")[1])["exp_hash"] == runs[0]
    steps = [one["step"] for one in json.loads(said("ls", "copy", runs[0], "--json")[1])["objects"] if one["step"]]
    assert steps == [4, 5]
    assert "the target holds all that was asked for" in out


# -- what is deleted --------------------------------------------------------------------------------------


def test_prune_shows_what_would_go_and_does_it_only_with_yes(runs, said):
    with open_store("runs") as store:
        make_old(store, timedelta(days=2))
    words = ["prune", "runs", runs[0], "--latest", "1", "--best", "loss:min:1"]
    code, out, _ = said(*words)
    assert code == 0
    assert f"{runs[0]}: 2 of 5 checkpoints would go" in out
    assert "--yes does it" in out
    assert len(list(Path(f"runs/checkpoints/{runs[0]}/model").glob("*.pt"))) == 5
    code, out, _ = said(*words, "--yes")
    assert code == 0
    assert "2 checkpoints" in out
    assert len(list(Path(f"runs/checkpoints/{runs[0]}/model").glob("*.pt"))) == 3
    assert len(list(Path(f"runs/checkpoints/{runs[1]}/model").glob("*.pt"))) == 5


def test_experiments_where_everything_stays_take_one_line(runs, said):
    _, out, _ = said("prune", "runs", "--latest", "1")
    assert out.count("\n") == 6
    assert f"{runs[0]}: all 5 checkpoints stay: written within 24 h\n" in out
    assert "  stays     3" in said("prune", "runs", "--latest", "1", "--all")[1]


def test_a_mirror_says_what_the_target_holds_and_what_not(runs, said):
    assert said("mirror", "runs", "copy")[1].endswith("\nthe target holds all that was asked for\n")
    assert said("mirror", "runs", "copy")[1].endswith("\nnothing to do: the target holds all that was asked for\n")
    key = f"checkpoints/{runs[0]}/model/{runs[0]}_step_00000{{}}.pt"
    with open_store("copy") as copy, open_store("runs") as store:
        copy.put(key.format(2), store.get(key.format(1)))
        store.delete([key.format(3)])
    out = said("mirror", "runs", "copy", "--on-conflict", "target", "--delete")[1]
    assert out.endswith("\nthe target holds all that was asked for, but 1 object, left as it has it\n")


def test_a_dry_run_of_compress_does_not_know_sizes(runs, said):
    found = json.loads(said("compress", "runs", "-n", "--json")[1])
    assert found["after_bytes"] is None
    assert {(one["action"], one["after_bytes"] is None) for one in found["outcomes"]} == {
        ("would change", True),
        ("kept", False),
    }


def test_whole_experiments_are_pruned_by_age(runs, said):
    with open_store("runs") as store:
        make_old(store, timedelta(days=40))
    code, out, _ = said("prune", "--experiments-within", "30d", "--experiments-latest", "1")
    assert code == 0
    assert "would go: nothing was deleted; --yes does it" in out
    assert said("prune", "--experiments-within", "30d", "--experiments-latest", "1", "-y")[0] == 0
    assert len(json.loads(said("ls", "--json")[1])["experiments"]) == 1


def test_gc_removes_what_a_crash_left_only_with_yes(runs, said):
    with open_store("runs") as store:
        key = f"checkpoints/{runs[0]}/model/{runs[0]}_step_000001.pt"
        assert said("compress", "--step", "1")[0] == 0
        assert said("decompress", "-n")[0] == 0
        store.put(key + ".twin-not-ours", b"x")
    code, out, _ = said("gc", "--older-than", "1h")
    assert code == 0
    assert "no crash has left anything here" in out


def test_compress_and_back(runs, said):
    code, out, _ = said("compress", runs[0], "--json")
    assert code == 0
    assert {one["action"] for one in json.loads(out)["outcomes"]} <= {"changed", "kept"}
    assert said("show", f"{runs[0]}@1")[0] == 0
    code, out, _ = said("decompress", runs[0])
    assert code == 0
    assert said("verify", "--deep")[0] == 0


# -- cat, export, import ----------------------------------------------------------------------------------


def test_cat_prints_a_companion_as_it_is(runs, said):
    name = f"{runs[0]}_config.yaml"
    whole = Path(f"runs/checkpoints/{runs[0]}/hp/{name}").read_text()
    assert said("cat", f"checkpoints/{runs[0]}/hp/{name}")[:2] == (0, whole)
    assert said("cat", "runs", name)[:2] == (0, whole)
    assert json.loads(said("cat", name, "--json")[1])["text"] == whole
    assert said("cat", "checkpoints/nothing")[0] == 3
    assert "cat takes" in said("cat", "a", "b", "c")[2]


def test_cat_copies_other_files_byte_for_byte(runs):
    ended = subprocess.run([*_COMMAND, "cat", "runs", f"{runs[0]}_architecture.pkl"], capture_output=True, check=True)
    assert ended.stdout == Path(f"runs/checkpoints/{runs[0]}/model/{runs[0]}_architecture.pkl").read_bytes()


def test_export_writes_a_file_and_replaces_none_unasked(runs, said):
    import torch

    code, out, _ = said("export", "runs", f"{runs[0]}@2", "out.pt", "--to", "pt")
    assert code == 0
    assert "out.pt: 9 tensors" in out
    assert len(torch.load("out.pt", weights_only=True)) == 9
    code, _, err = said("export", "runs", f"{runs[0]}@2", "out.pt", "--to", "pt")
    assert code == 1
    assert "exists" in err
    assert said("export", "runs", runs[0], f"{Path.cwd().as_uri()}/folder/")[0] == 0
    assert Path(f"folder/{runs[0]}_step_000005.safetensors").exists()


def test_import_lists_what_it_does_not_understand(said):
    import torch

    Path("old").mkdir()
    torch.save({"w": torch.zeros(3)}, "old/checkpoint_10.pt")
    Path("old/notes.bin").write_bytes(b"x")
    code, out, _ = said("import", "old", "new", "-n")
    assert code == 0
    assert "not understood, left alone: notes.bin" in out
    assert "1 would be imported (a dry run" in out
    assert not Path("new").exists()
    Path("config.yaml").write_text("lr: 1\n")
    code, out, _ = said("import", "old", "new", "--config", "config.yaml", "--json")
    assert code == 0
    assert json.loads(out)["outcomes"][0]["action"] == "imported"
    assert json.loads(said("show", json.loads(out)["experiments"][0][:6], "--json")[1])["config"] == {"lr": 1}


# -- buckets ----------------------------------------------------------------------------------------------


def test_everything_works_on_a_bucket_as_in_a_folder(runs, said, s3_url, s3_options):
    options = [word for name, value in s3_options.items() for word in ("-o", f"{name}={json.dumps(value)}")]
    others = ["-O" if word == "-o" else word for word in options]
    assert said("mirror", "runs", s3_url, *others)[0] == 0
    assert json.loads(said("ls", s3_url, "--json", *options)[1])["experiments"] == [
        {**one, "saved_at": one["saved_at"]} for one in json.loads(said("ls", "runs", "--json")[1])["experiments"]
    ]
    assert said("verify", s3_url, "--deep", *options)[0] == 0
    assert said("diff", s3_url, f"{runs[0]}@1", f"{runs[1]}@1", "--deep", *options)[0] == 0
    assert said("log", s3_url, *options)[0] == 0
    assert said("mirror", s3_url, f"{s3_url}-copy", *options)[0] == 0
    assert said("export", s3_url, runs[0], f"{s3_url}-out/", *options)[0] == 0
    assert said("prune", s3_url, "--latest", "1", *options)[0] == 0


# -- help, versions, ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_terminal_and_one_page(said, name):
    code, out, err = said(*filter(None, [name, "--help"]))
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) <= 48
    assert out.startswith(f"Usage: ckptstore {name}".rstrip())
    if name:
        assert all(option in out for option in ("--json", "--store", "--option", "--debug"))


def test_alone_it_shows_its_help(said):
    code, out, _ = said()
    assert code == 0
    assert out == said("-h")[1]
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_the_version_is_printed(said):
    from ckptstore import __version__

    assert said("--version")[:2] == (0, f"ckptstore {__version__}\n")


def test_help_loads_neither_torch_nor_a_cloud_client():
    program = (
        "import sys; from ckptstore.__main__ import main; main(['ls', '--help'])\n"
        "sys.exit(', '.join({'torch', 'numpy', 'yaml', 'fsspec', 'h5py'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).stderr.strip() == b""


def test_a_listing_whose_headers_are_known_loads_no_torch(runs, said):
    assert said("ls", "runs")[0] == 0
    program = (
        "import sys; from ckptstore.__main__ import main\n"
        f"for words in (['ls'], ['log'], ['show', '{runs[0]}'], ['diff', '{runs[0]}', '{runs[1]}']): main(words)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_without_the_extra_it_says_what_to_install():
    program = "import sys; sys.modules['typer'] = None; from ckptstore.__main__ import main; sys.exit(main(['ls']))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pip install 'ckptstore[cli]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_whoever_stops_reading_ends_it_quietly(runs):
    ended = subprocess.run(
        f"{sys.executable} -m ckptstore ls runs {runs[0]} | true; echo ${{PIPESTATUS[0]}}", shell=True,
        executable="/bin/bash", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.strip() in {"141", "0"}
    assert ended.stderr == ""


def test_an_interruption_is_quiet_and_exit_code_130(monkeypatch, said, runs):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("ckptstore.cli.selection.list_hashes", interrupted)
    code, out, err = said("show", runs[0])
    assert (code, out, err) == (130, "", "")


def test_completion_is_offered_for_every_shell(monkeypatch, capsys):
    monkeypatch.setenv("_CKPTSTORE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "ckptstore dec")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert capsys.readouterr().out.strip() == "decompress"


def test_hashes_and_steps_of_a_folder_are_completed(runs, monkeypatch, capsys):
    monkeypatch.setenv("_CKPTSTORE_COMPLETE", "complete_bash")
    asked = {
        f"ckptstore show {runs[0][:2]}": [runs[0]],
        f"ckptstore show runs {runs[0]}@": [f"{runs[0]}@{step}" for step in range(1, 6)],
        "ckptstore ls ru": ["runs/"],
    }
    for words, offered in asked.items():
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit, match="0"):
            main([])
        assert capsys.readouterr().out.split() == offered


def test_the_page_on_the_command_line_is_current():
    from ckptstore.cli.reference import reference

    assert Path(__file__).parent.parent.joinpath("docs", "cli.md").read_text() == reference(), "make docs"


# -- small parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.00 kB"), (999_499, "999 kB"), (999_600, "1.00 MB"),
     (12_345_678, "12.3 MB"), (5 * 10**15, "5.00 PB")],
)  # fmt: skip
def test_sizes_have_three_digits(size_bytes, text):
    assert amounts.size_text(size_bytes) == text


def test_ages_are_short(monkeypatch):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(amounts, "current_time", lambda: now)
    ages = {timedelta(seconds=5): "5 s", timedelta(minutes=3): "3 min", timedelta(hours=47): "47 h",
            timedelta(days=20): "20 d", timedelta(days=3000): "8 y", timedelta(seconds=-5): "now",
            timedelta(days=-1): "future"}  # fmt: skip
    assert {age: amounts.age_text(now - age) for age in ages} == ages
    assert amounts.age_text(None) == "-"


def test_progress_is_drawn_with_bytes_and_rate_and_taken_away_again(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with DrawnProgress(always=True, after_s=0) as progress:
        progress.describe("a/very/long/key/of/an/object/that/is/copied.pt")
        progress.expect(size_bytes=4_000_000, objects=2)
        while progress.bar is None:  # drawn by a timer of its own
            pass
        progress.advance(size_bytes=1_000_000, objects=1)
    drawn = capfd.readouterr()
    assert drawn.out == ""
    assert "1.0/4.0 MB" in drawn.err
    assert "is/copied.pt" in drawn.err


def test_progress_is_quiet_where_nobody_watches(capfd):
    with DrawnProgress(after_s=0) as progress:
        progress.expect(size_bytes=10)
        progress.advance(size_bytes=10)
    assert capfd.readouterr() == ("", "")


def test_stored_text_cannot_steer_the_terminal(said):
    with open_store("runs") as store:
        put_checkpoint(store, "f" * 16, 5, {"note": "\x1b[31mred\x9b2J", "loss": 1.0})
    for words in (["show", "ffff"], ["show", "ffff@5"], ["cat", "ffff"], ["diff", "ffff@5", "ffff@5"]):
        out = said(*words)[1]
        assert "\x1b" not in out
        assert "\x9b" not in out
    assert r"\x1b[31mred" in said("show", "ffff")[1]


def test_what_is_unsound_is_shown_as_such(runs, said):
    with open_store("runs") as store:
        flip(store, f"checkpoints/{runs[0]}/model/{runs[0]}_step_000005.pt", -400)
        store.delete([f"checkpoints/{runs[1]}/hp/{runs[1]}_provenance.yaml"])
    code, out, _ = said("show", runs[0])
    assert code == 0
    assert "problem      step 5 is damaged" in out
    assert "loss 0.2 at step 4" in out
    assert said("show", f"{runs[0]}@5")[0] == 1
    assert "its record is missing; `ckptstore verify" in said("show", runs[1])[1]
    assert f"{runs[1]}: its record is missing" in said("ls")[1]
    assert said("diff", *runs)[0] == 3
    assert "its record is missing; `ckptstore verify --repair-from STORE` brings it back" in said("why", *runs)[2]


def test_an_empty_checkpoint_is_called_empty_and_one_without_an_end_truncated(runs, said):
    key = f"checkpoints/{runs[0]}/model/{runs[0]}_step_00000{{}}.pt"
    with open_store("runs") as store:
        store.put(key.format(4), b"")
        store.put(key.format(5), bytes(store.get(key.format(5)))[:-300])
    out = said("show", runs[0])[1]
    assert "step 4 is damaged: it is empty" in out
    assert "step 5: it has no index of ckptstore at its end: truncated, or" in out
    assert "foreign" not in out
    assert "metadata" not in said("show", f"{runs[0]}@4")[1]


def test_no_line_of_a_table_ends_in_blanks(runs, said):
    for words in (["ls"], ["show", runs[0]], ["verify"], ["prune", "--latest", "1", "--all"], ["compress", "-n"]):
        assert [line for line in said(*words)[1].splitlines() if line != line.rstrip()] == []
