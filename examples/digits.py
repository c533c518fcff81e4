"""Train a small network on hand-written digits: what your own training script would look like.

Four commands, each a process of its own, which `train_digits.py` runs one after the other::

    python examples/digits.py prepare  --data train.h5 --held-out held_out.h5
    python examples/digits.py train    --store experiments --data train.h5 --held-out held_out.h5
    python examples/digits.py clean    --data train.h5 --to cleaned.h5
    python examples/digits.py evaluate --store experiments --held-out held_out.h5 --exp-hash HASH --step 100

A `train` that was killed goes on from its newest checkpoint when it is started again.
"""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from ckptstore import CheckpointManagerV2

SEED = 7
BATCH_SIZE, DROPOUT = 64, 0.25
FOLDS, MISLABELLED = 5, 8

say = partial(print, flush=True)  # a killed process takes unwritten lines with it


class DigitNet(nn.Module):
    """Tell which digit an image shows: (N, 1, 8, 8) in, (N, 10) logits out."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(32 * 4 * 4, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        scores: Tensor = self.head(self.features(images).flatten(1))
        return scores


@dataclass(frozen=True, slots=True)
class Digits:
    """Some of the digits: grey values from 0 to 16 (N, 8, 8), labels (N,), and a name for each sample."""

    pixels: np.ndarray
    labels: np.ndarray
    uids: np.ndarray

    @classmethod
    def read(cls, path: str) -> Digits:
        """Return what `write` wrote."""
        with h5py.File(path) as file:
            return cls(file["pixels"][:], file["labels"][:], file["uids"].asstr()[:])

    def write(self, path: str) -> None:
        """Write an HDF5 file."""
        with h5py.File(path, "w") as file:
            file["pixels"], file["labels"] = self.pixels, self.labels
            file.create_dataset("uids", data=self.uids.astype(object), dtype=h5py.string_dtype())

    def take(self, which: np.ndarray) -> Digits:
        """Return the samples at those indices, or where a mask is true."""
        return Digits(self.pixels[which], self.labels[which], self.uids[which])

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return images (N, 1, 8, 8) from 0 to 1, and labels (N,)."""
        return torch.from_numpy(self.pixels).float().div(16).unsqueeze(1), torch.from_numpy(self.labels)


class Training:
    """A model on its way: everything that has to come back after a crash is in model, optimizer and schedule."""

    def __init__(self, data: Digits, learning_rate: float, epochs: int) -> None:
        self.config: dict[str, Any] = {"learning_rate": learning_rate, "epochs": epochs, "batch_size": BATCH_SIZE}
        self.config |= {"optimizer": "AdamW", "schedule": "cosine", "dropout": DROPOUT, "seed": SEED}
        self.images, self.labels = data.tensors()
        self.steps_per_epoch = -(-len(self.labels) // BATCH_SIZE)
        self.total_steps = epochs * self.steps_per_epoch
        self.model = DigitNet(DROPOUT)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.total_steps)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step; the order is shuffled by the epoch's number, so any step can be the next."""
        epoch, position = divmod(step, self.steps_per_epoch)
        shuffle = torch.Generator().manual_seed(SEED + epoch)
        order = torch.randperm(len(self.labels), generator=shuffle)
        chosen = order[position * BATCH_SIZE : (position + 1) * BATCH_SIZE]
        return self.images[chosen], self.labels[chosen]

    def take_step(self, step: int) -> Tensor:
        """Learn from one batch and return its loss; dropout draws from torch's RNG, which checkpoints keep."""
        images, labels = self.batch(step)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model.train()(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def save(self, manager: CheckpointManagerV2, step: int, scores: dict[str, Any]) -> None:
        """Keep everything as it is after that many steps."""
        manager.save_model_checkpoint(
            self.model, step=step, optimizer=self.optimizer, scheduler=self.schedule, metadata=scores
        )
        say(f"  step {step:4d}  saved  loss {scores['loss']:.4f}  held-out accuracy {scores['accuracy']:7.2%}")


def make_reproducible() -> None:
    """Let the same computation give the same bits: the same sums in the same order, on any number of cores."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(SEED)


@torch.no_grad()
def probabilities(model: nn.Module, data: Digits) -> Tensor:
    """Return how likely the model finds each digit: (N, 10)."""
    answer: Tensor = model.eval()(data.tensors()[0]).softmax(dim=1)
    return answer


def accuracy(model: nn.Module, data: Digits) -> float:
    """Return the share of samples that the model gets right."""
    right = probabilities(model, data).argmax(dim=1) == data.tensors()[1]
    return right.float().mean().item()


def train(args: argparse.Namespace) -> None:
    """Train, saving a checkpoint every few steps; go on from the newest one where there is one."""
    data, held_out = Digits.read(args.data), Digits.read(args.held_out)
    make_reproducible()
    training = Training(data, args.learning_rate, args.epochs)
    model = training.model
    with CheckpointManagerV2(args.store, data_h5_path=args.data) as manager:
        if args.weights_of:
            manager.load_latest_checkpoint(model=model, load_optimizer=False, exp_hash=args.weights_of)
        exp_hash, is_new = manager.update_experiment_hash(model, training.config, data.uids.tolist())
        say(f"  experiment {exp_hash} ({'new' if is_new else 'known'}), {len(data.uids)} samples")
        resumed = None if is_new else manager.resume(model, training.optimizer, scheduler=training.schedule)
        for step in range(resumed["step"] if resumed else 0, training.total_steps):
            if step == args.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            loss = training.take_step(step)
            if (step + 1) % args.save_every == 0 or step + 1 == training.total_steps:
                training.save(manager, step + 1, {"loss": loss, "accuracy": accuracy(model, held_out)})


def evaluate(args: argparse.Namespace) -> None:
    """Load a checkpoint into a fresh model; fail unless it is as accurate as it was when it was saved."""
    with CheckpointManagerV2(args.store) as manager:
        model = DigitNet(manager.load_config(args.exp_hash)["dropout"])
        saved = manager.load_checkpoint(step=args.step, exp_hash=args.exp_hash, model=model)
    then, now = saved["metadata"]["accuracy"], accuracy(model, Digits.read(args.held_out))
    say(f"  held-out accuracy when it was saved {then:.3%}, of the loaded model {now:.3%}")
    if now != then:
        raise SystemExit("the loaded model is another one than was saved")


def clean(args: argparse.Namespace) -> None:
    """Write the data again without the samples whose labels look most wrong.

    Every sample is judged by a model that never saw it (cross-validation), as in Northcutt, Jiang and Chuang,
    "Confident Learning" (2021): suspect is what such a model is surest to be another digit.
    """
    data = Digits.read(args.data)
    opinion = cross_validate(data, args.epochs)
    guess = opinion.argmax(axis=1)
    doubt = np.where(guess == data.labels, 0, opinion.max(axis=1))
    suspects = np.argsort(-doubt)[:MISLABELLED]
    for row in suspects.reshape(-1, 4):
        show(data.take(row), guess[row])
    data.take(np.setdiff1d(np.arange(len(data.labels)), suspects)).write(args.to)
    say("  discarded: " + ", ".join(uid.removeprefix("digit-") for uid in data.uids[suspects]))


def cross_validate(data: Digits, epochs: int) -> np.ndarray:
    """Return (N, 10) probabilities, each row from a model trained on the folds that the sample is not in."""
    opinion = np.empty((len(data.labels), 10))
    fold_of = np.arange(len(data.labels)) % FOLDS
    for fold in range(FOLDS):
        make_reproducible()
        training = Training(data.take(fold_of != fold), learning_rate=0.01, epochs=epochs)
        for step in range(training.total_steps):
            training.take_step(step)
        opinion[fold_of == fold] = probabilities(training.model, data.take(fold_of == fold)).numpy()
    return opinion


def show(data: Digits, guess: np.ndarray) -> None:
    """Draw digits side by side."""
    shades = np.array(list(" ..::--==++**##%@"))
    for line in range(8):
        drawn = ("".join(np.repeat(shades[image[line]], 2)) for image in data.pixels)
        say("  " + "   ".join(drawn).rstrip())
    captions = [f"called {label}, a {seen}?" for label, seen in zip(data.labels, guess, strict=True)]
    say("  " + "   ".join(f"{caption:16}" for caption in captions).rstrip() + "\n")


def prepare(args: argparse.Namespace) -> None:
    """Split scikit-learn's 1,797 real digits into a training set and a held-out set."""
    from sklearn.datasets import load_digits

    source = load_digits()
    uids = np.array([f"digit-{number:04d}" for number in range(len(source.target))], dtype=object)
    everything = Digits(source.images.astype(np.uint8), source.target.astype(np.int64), uids)
    held_out, training = np.split(np.random.default_rng(SEED).permutation(len(uids)), [360])
    everything.take(training).write(args.data)
    everything.take(held_out).write(args.held_out)
    say(f"  {len(training)} images of 8 x 8 to train on, {len(held_out)} held out to judge by")


def parse_arguments() -> argparse.Namespace:
    """Return the command to run, as `run`, and its options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for run, options in (
        (prepare, ("--data", "--held-out")),
        (train, ("--store", "--data", "--held-out")),
        (clean, ("--data", "--to")),
        (evaluate, ("--store", "--held-out", "--exp-hash", "--step")),
    ):
        command = commands.add_parser(run.__name__, help=(run.__doc__ or "").partition("\n")[0])
        command.set_defaults(run=run)
        for name in options:
            command.add_argument(name, required=True, type=int if name == "--step" else str)
    commands.choices["clean"].add_argument("--epochs", type=int, default=6, help="for each fold")
    training = commands.choices["train"]
    training.add_argument("--learning-rate", type=float, default=0.01)
    training.add_argument("--epochs", type=int, default=12)
    training.add_argument("--save-every", type=int, default=40, metavar="STEPS")
    training.add_argument("--weights-of", metavar="HASH", help="start from the newest weights of that experiment")
    training.add_argument("--die-at", type=int, metavar="STEP", help="kill this process there, as a power cut would")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    arguments.run(arguments)
