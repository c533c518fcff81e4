"""The whole life of an experiment, on real hand-written digits, in well under a minute.

    python examples/train_digits.py                                  into ./demo_experiments
    python examples/train_digits.py --store s3://bucket/prefix       into a bucket

The training itself is `digits.py`, which is what your own script would look like. Here it is run, killed,
started again and changed, each time as a new process; only the store connects them.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ckptstore import CheckpointManagerV2, Store, open_store
from ckptstore.keys import parse_key

DIGITS = Path(__file__).with_name("digits.py")
MARK = "made_by_train_digits.txt"
REFERENCE, EXPERIMENTS = "uninterrupted", "experiments"
BATCHES = 23  # in an epoch: 1,437 training images, 64 at a time

say = partial(print, flush=True)


class Story:
    """The acts, in order; `hashes` are the experiments so far, oldest first."""

    def __init__(self, store: str, work: Path, epochs: int, save_every: int) -> None:
        self.reference, self.experiments = f"{store}/{REFERENCE}", f"{store}/{EXPERIMENTS}"
        self.data, self.cleaned, self.held_out = work / "train.h5", work / "cleaned.h5", work / "held_out.h5"
        self.schedule = ("--epochs", epochs, "--save-every", save_every)
        self.epochs, self.last_step, self.save_every = epochs, epochs * BATCHES, save_every
        self.act, self.hashes = 0, list[str]()

    def title(self, text: str, *lines: str) -> None:
        """Begin an act."""
        self.act += 1
        say(f"\n{self.act}. {text}\n" + "".join(f"   {line}\n" for line in lines))

    def digits(self, command: str, *options: object, killed: bool = False) -> None:
        """Run digits.py in a new process, and stop unless it ends as it should."""
        arguments = [sys.executable, str(DIGITS), command, *map(str, options)]
        code = subprocess.run(arguments, check=False).returncode
        expected = -signal.SIGKILL if killed else 0
        if code != expected:
            raise SystemExit(f"digits.py {command} ended with {code} instead of {expected}")

    def train(self, store: str, data: Path, *options: object, killed: bool = False) -> None:
        """Train on the data, as the first experiment does unless the options say otherwise."""
        options = ("--store", store, "--data", data, "--held-out", self.held_out, *self.schedule, *options)
        self.digits("train", *options, killed=killed)

    def note_experiment(self) -> str:
        """Return the hash of the experiment that the last act made."""
        with CheckpointManagerV2(self.experiments) as manager:
            (new,) = set(manager.list_experiment_hashes()) - set(self.hashes)
        self.hashes.append(new)
        return new

    def train_without_a_break(self) -> None:
        """Act: the weights to compare with."""
        self.title("Train without a break", "The reference: what the weights should be in the end.")
        self.digits("prepare", "--data", self.data, "--held-out", self.held_out)
        self.train(self.reference, self.data)

    def kill_half_way(self) -> None:
        """Act: a process dies between two checkpoints."""
        step = self.last_step // 2
        step += step % self.save_every == 0  # between two checkpoints
        lost = step % self.save_every
        self.title(
            "Train the same again, in another place, and kill it half way",
            f"SIGKILL before step {step + 1}: no handler runs, and {lost} steps since the last",
            "checkpoint are lost. Same model, configuration and samples: the same hash.",
        )
        self.train(self.experiments, self.data, "--die-at", step, killed=True)
        say("  killed")
        self.note_experiment()

    def resume(self) -> None:
        """Act: a new process goes on, and ends where the reference ended."""
        self.title(
            "Start it again",
            "The same command in a new process. resume() brings back weights, optimizer,",
            "schedule and random numbers from the newest sound checkpoint.",
        )
        self.train(self.experiments, self.data)
        expected, found = (self.final_state(store) for store in (self.reference, self.experiments))
        same = same_bits(expected, found)
        say(f"\n  final weights and optimizer, bit for bit as without the break: {'yes' if same else 'NO'}")
        if not same:
            raise SystemExit("the resumed run ended with other weights than the uninterrupted one")

    def final_state(self, store: str) -> list[Any]:
        """Return model and optimizer from the last checkpoint of the first experiment."""
        with CheckpointManagerV2(store) as manager:
            state = manager.load_checkpoint(step=self.last_step, exp_hash=self.hashes[0])
        return [state["model_state_dict"], state["optimizer_state_dict"]]

    def change_learning_rate(self) -> None:
        """Act: another configuration is another experiment."""
        self.title(
            "Change the learning rate: 0.01 becomes 0.002",
            "A new hash, so a new folder: nothing is overwritten. Training goes on from",
            "the weights above, and the record names that experiment as the parent.",
        )
        self.train(self.experiments, self.data, "--learning-rate", 0.002, "--weights-of", self.hashes[-1])
        self.note_experiment()

    def discard_mislabelled(self) -> None:
        """Act: other data is another experiment, with its own backup."""
        self.title(
            "Discard the samples that look mislabelled",
            "Each image is judged by a model that never saw it. These are the ones it is",
            "surest to be another digit:",
        )
        self.digits("clean", "--data", self.data, "--to", self.cleaned, "--epochs", min(6, self.epochs))
        say("  Fewer samples: a new hash, and the data that is left is backed up under it.\n")
        self.train(self.experiments, self.cleaned, "--learning-rate", 0.002, "--weights-of", self.hashes[-1])
        self.note_experiment()

    def load_best(self) -> None:
        """Act: the best checkpoint of all works in a fresh process."""
        score, exp_hash, step = max(self.scores())
        self.title(
            "Load the best checkpoint in a fresh process",
            f"By the accuracy in its metadata: {score:.3%} at step {step} of {exp_hash}.",
        )
        choice = ("--store", self.experiments, "--exp-hash", exp_hash, "--step", step)
        self.digits("evaluate", *choice, "--held-out", self.held_out)

    def scores(self) -> list[tuple[float, str, int]]:
        """Return (accuracy, experiment, step) of every checkpoint."""
        with CheckpointManagerV2(self.experiments) as manager:
            return [
                (manager.load_checkpoint(step=step, exp_hash=exp_hash)["metadata"]["accuracy"], exp_hash, step)
                for exp_hash in self.hashes
                for step in manager.get_checkpoint_info(exp_hash)["steps"]
            ]

    def show_what_is_there(self) -> None:
        """Act: the tree of keys, and what made each experiment another one."""
        self.title("What is in the store now", self.experiments)
        with CheckpointManagerV2(self.experiments) as manager:
            show_tree(manager.store)
            say("\n  What changed from one experiment to the next:\n")
            for old, new in pairwise(self.hashes):
                show_change(manager, old, new)


def same_bits(left: object, right: object) -> bool:
    """Whether two states are equal, each tensor bit for bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same_kind = (left.dtype, left.shape) == (right.dtype, right.shape)
        return same_kind and left.numpy().tobytes() == right.numpy().tobytes()
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_bits(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_bits, left, right))
    return left == right


def show_tree(store: Store) -> None:
    """Print every key with its size, indented by folder."""
    shown: list[str] = []
    for info in store.list():
        *folders, name = info.key.split("/")
        for depth, folder in enumerate(folders):
            if folders[: depth + 1] != shown[: depth + 1]:
                say(f"  {'  ' * depth}{folder}/")
        shown = folders
        say(f"  {'  ' * len(folders)}{name:<44}{info.size_bytes / 1000:9.1f} kB")


def show_change(manager: CheckpointManagerV2, old: str, new: str) -> None:
    """Print which components differ between two experiments, and how."""
    before, after = manager.provenance(old), manager.provenance(new)
    say(f"  {old} -> {new}  (recorded parent: {after['parent']})")
    for name, digest in before["components"].items():
        same = digest == after["components"][name]
        say(f"    {name:7} {'the same' if same else 'changed'}")
        if not same and name == "config":
            old_config, new_config = manager.load_config(old), manager.load_config(new)
            for key, value in new_config.items():
                if old_config[key] != value:
                    say(f"            {key}: {old_config[key]} -> {value}")
        if not same and name == "data":
            say(f"            samples: {before['sample_count']} -> {after['sample_count']}")
    say()


def clear(store: Store) -> None:
    """Delete what an earlier run left; touch nothing in a place that holds anything else.

    Raises:
        SystemExit: the place is in use, and nothing was deleted.
    """
    keys = [info.key for info in store.list()]
    foreign = [key for key in keys if not is_ours(key)]
    if foreign or (keys and MARK not in keys):
        raise SystemExit(
            f"{store.url} is in use: it holds {(foreign or keys)[0]!r}; choose an empty place with --store"
        )
    store.delete(keys)
    store.put(MARK, b"The demo of ckptstore made all that is here, and will delete it when it runs again.\n")


def is_ours(key: str) -> bool:
    """Whether this demo could have written the key."""
    root, _, rest = key.partition("/")
    return key == MARK or (root in {REFERENCE, EXPERIMENTS} and parse_key(rest) is not None)


def main() -> None:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", default="demo_experiments", help="an empty folder, or s3://bucket/prefix")
    parser.add_argument("--epochs", type=int, default=12, help="for each experiment")
    parser.add_argument("--save-every", type=int, default=40, metavar="STEPS")
    args, began = parser.parse_args(), time.monotonic()
    say(f"The life of an experiment, kept in {args.store}")
    if args.store.startswith("memory:"):
        raise SystemExit("memory:// ends with its process, and this story needs several; choose a folder or a bucket")
    with open_store(args.store) as store:
        clear(store)
    with tempfile.TemporaryDirectory() as work:
        story = Story(args.store.rstrip("/"), Path(work), args.epochs, args.save_every)
        story.train_without_a_break()
        story.kill_half_way()
        story.resume()
        story.change_learning_rate()
        story.discard_mislabelled()
        story.load_best()
        story.show_what_is_there()
    say(f"Done in {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
