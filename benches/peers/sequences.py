"""LSTM, post-norm encoder layer and attention in windows beside PyTorch, on two threads.

    cargo build --release -p mtcae-nn --example layers
    RAYON_NUM_THREADS=2 CANDLE_NUM_THREADS=2 python benches/peers/sequences.py [--seconds S] [--rounds N]

Prints the median of N rounds, ours and PyTorch's in turn, of a forward and of a forward with its backward. On a machine
that others use as well, RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1 CPU_TIME=1 gives what the CPU took.
"""

import argparse
import os
import statistics
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/examples/layers"


class WindowAttention(nn.Module):
    """As one writes it for speed: one fused attention with bias and mask in one tensor, which is kept."""

    def __init__(self, grid, window, shift, width=256, heads=4):
        super().__init__()
        self.grid, self.window, self.shift, self.heads = grid, window, shift, heads
        length = window[0] * window[1] * window[2]
        positions = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.table = nn.Parameter(torch.randn(positions, heads) * 0.02)
        coords = torch.cartesian_prod(*map(torch.arange, window))
        offset = coords[:, None] - coords[None] + torch.tensor(window) - 1
        index = (offset[..., 0] * (2 * window[1] - 1) + offset[..., 1]) * (2 * window[2] - 1) + offset[..., 2]
        self.register_buffer("index", index.flatten())
        region = torch.zeros(1, *grid, 1)
        cuts = [[slice(0, -w), slice(-w, -s), slice(-s, None)] if s else [slice(None)] for w, s in zip(window, shift)]
        for n, part in enumerate((a, b, c) for a in cuts[0] for b in cuts[1] for c in cuts[2]):
            region[(0, *part, 0)] = n
        region = self.cut(region).view(-1, length)
        self.register_buffer("mask", torch.where(region[:, None] == region[:, :, None], 0.0, -100.0))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def cut(self, x: Tensor) -> Tensor:
        n = [g // s for g, s in zip(self.grid, self.window)]
        x = x.view(x.shape[0], n[0], self.window[0], n[1], self.window[1], n[2], self.window[2], -1)
        return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3).flatten(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, width = x.shape[0], x.shape[2]
        x = x.view(batch, *self.grid, width)
        if any(self.shift):
            x = torch.roll(x, [-s for s in self.shift], (1, 2, 3))
        q, k, v = self.qkv(self.cut(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        length = q.shape[2]
        bias = self.table[self.index].view(length, length, -1).permute(2, 0, 1)
        bias = bias[None] + self.mask[:, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.repeat(batch, 1, 1, 1))
        out = self.proj(out.transpose(1, 2).flatten(2))
        n = [g // s for g, s in zip(self.grid, self.window)]
        out = out.view(batch, *n, *self.window, width).permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, *self.grid, width)
        if any(self.shift):
            out = torch.roll(out, list(self.shift), (1, 2, 3))
        return out.flatten(1, 3)


def lstm(inputs: int, layers: int, both: bool) -> nn.Module:
    return nn.LSTM(inputs, 256, layers, batch_first=True, bidirectional=both)


CASES = {
    "lstm-16": (lambda: lstm(512, 1, False), (8, 16, 512)),
    "lstm-16-alone": (lambda: lstm(512, 1, False), (1, 16, 512)),
    "lstm-64-both": (lambda: lstm(512, 2, True), (8, 64, 512)),
    "lstm-1568": (lambda: lstm(1024, 1, False), (1, 1568, 1024)),
    "encoder-layer": (lambda: nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True), (8, 64, 512)),
    "window-volume": (lambda: WindowAttention((8, 14, 14), (8, 7, 7), (0, 3, 3)), (1, 1568, 256)),
    "window-plane": (lambda: WindowAttention((8, 14, 14), (1, 7, 7), (0, 3, 3)), (1, 1568, 256)),
}


def median(seconds: float, run) -> float:
    """Milliseconds of a run: the median, or with CPU_TIME set what the CPU took for it."""
    run()
    times, begin, before = [], time.perf_counter(), time.process_time()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        at = time.perf_counter()
        run()
        times.append(time.perf_counter() - at)
    if "CPU_TIME" in os.environ:
        return 1e3 * (time.process_time() - before) / len(times)
    return 1e3 * statistics.median(times)


def first(out) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def peers(seconds: float) -> dict[str, tuple[float, float]]:
    found = {}
    for name, (build, shape) in CASES.items():
        module, x = build(), torch.randn(*shape)
        module.eval()
        with torch.inference_mode():
            forward = median(seconds, lambda: module(x))
        module.train()
        x.requires_grad_()

        def step() -> None:
            module.zero_grad()
            x.grad = None
            first(module(x)).sum().backward()

        found[name] = (forward, median(seconds, step))
    return found


def ours(seconds: float) -> dict[str, tuple[float, float]]:
    out = subprocess.run([PROGRAM, str(seconds)], check=True, capture_output=True, text=True).stdout
    return {name: (float(a), float(b)) for name, a, b in (line.split() for line in out.splitlines())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("RAYON_NUM_THREADS", "2")))
    rounds = [(ours(args.seconds), peers(args.seconds)) for _ in range(args.rounds)]
    print(f"{'':16}{'forward ms':>12}{'PyTorch':>10}{'ratio':>8}{'training ms':>14}{'PyTorch':>10}{'ratio':>8}")
    for name in CASES:
        line = f"{name:16}"
        for i, width in ((0, 12), (1, 14)):
            a, b = (statistics.median(r[side][name][i] for r in rounds) for side in (0, 1))
            line += f"{a:{width}.2f}{b:10.2f}{b / a:8.2f}"
        print(line)
