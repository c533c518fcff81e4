"""Compare a `.pt.zst` with plain zstd -3 on checkpoints of networks that were really trained.

A small transformer learns synthetic text for some hundred steps, once in fp32 and once in bf16, with AdamW; its
checkpoint, optimizer state included, is compressed both ways in memory, in turn, with the same number of threads::

    python benchmarks/bench_compression.py [--steps 200] [--repeats 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import time
from collections.abc import Callable

import torch
import zstandard
from torch import nn

from ckptstore import __version__
from ckptstore.archive import plan
from ckptstore.archive.content import PlainContent
from ckptstore.compression.elements import described
from ckptstore.packing import PackedContent, Packing
from ckptstore.store import ByteRange
from ckptstore_backends.memory import MemoryStore

_CONTEXT = 64
_WIDTH = 256


class Transformer(nn.Module):
    """Four layers over bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, _WIDTH)
        self.places = nn.Embedding(_CONTEXT, _WIDTH)
        layer = nn.TransformerEncoderLayer(_WIDTH, 4, 4 * _WIDTH, batch_first=True, dropout=0.0)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.out = nn.Linear(_WIDTH, 256)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next bytes."""
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1]).to(self.out.weight.dtype)
        logits: torch.Tensor = self.out(self.layers(self.bytes(text) + self.places.weight, mask=mask, is_causal=True))
        return logits


def synthetic_text() -> torch.Tensor:
    """Return 300,000 bytes of words whose frequencies follow Zipf's law."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 8))) for _ in range(500)]
    chosen = chance.choices(words, weights=[1 / rank for rank in range(1, 501)], k=60_000)
    return torch.frombuffer(bytearray(" ".join(chosen).encode()), dtype=torch.uint8).long()


def trained(dtype: torch.dtype, steps: int) -> bytes:
    """Return the checkpoint of a network after so many steps."""
    torch.manual_seed(0)
    text, model = synthetic_text(), Transformer().to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    loss = torch.zeros(())
    for _ in range(steps):
        starts = torch.randint(0, len(text) - _CONTEXT - 1, (8,)).tolist()
        batch = torch.stack([text[start : start + _CONTEXT + 1] for start in starts])
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    print(f"{dtype}: loss {loss.item():.3f} after {steps} steps")
    state = {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    return b"".join(plan(state).buffers())


def measured(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each contender, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def compare(data: bytes, threads: int, repeats: int) -> None:
    """Print ratio and speed of both ways, forth and back."""
    store = MemoryStore("bench")
    content = PlainContent(store, store.put("k.pt", data))
    pieces = described(content).pieces
    plain = zstandard.ZstdCompressor(level=3, threads=threads).compress(data)
    packed = b"".join(Packing(content.read, pieces, workers=threads))
    ours = PackedContent(store, store.put("k.pt.zst", packed))
    assert b"".join(ours.read([ByteRange(0)])) == data
    seconds = measured(
        {
            "zstd -3": lambda: zstandard.ZstdCompressor(level=3, threads=threads).compress(data),
            ".pt.zst": lambda: list(Packing(content.read, pieces, workers=threads)),
            "zstd -3 back": lambda: zstandard.ZstdDecompressor().decompress(plain),
            ".pt.zst back": lambda: list(ours.read([ByteRange(0)])),
        },
        repeats,
    )
    for name, size in (("zstd -3", len(plain)), (".pt.zst", len(packed))):
        forth, back = statistics.median(seconds[name]), statistics.median(seconds[f"{name} back"])
        speed = f"{len(data) / forth / 1e6:7.0f} MB/s, back {len(data) / back / 1e6:7.0f} MB/s"
        print(f"  {name:8} ratio {len(data) / size:.3f}  {speed}")
    for name, times in seconds.items():
        print(f"    {name:13}", " ".join(f"{1000 * value:.0f}" for value in times), "ms")


def main() -> None:
    """Train, compress, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    zstd = ".".join(map(str, zstandard.ZSTD_VERSION))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}, Python {platform.python_version()}")
    print(f"ckptstore {__version__}, torch {torch.__version__}, zstd {zstd}, {options.threads} threads")
    for dtype in (torch.float32, torch.bfloat16):
        data = trained(dtype, options.steps)
        print(f"  {len(data) / 1e6:.1f} MB with optimizer state")
        compare(data, options.threads, options.repeats)


if __name__ == "__main__":
    main()
