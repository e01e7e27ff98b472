#!/usr/bin/env python3
"""Milliseconds to bring frames to 224×224 and to cut a clip into tubes, ours beside Pillow, PyTorch and numpy: the same
frames, the same number of threads, in turns within one run.

    cargo build --release -p mtcae-benches --example pixels
    python benches/peers/pixels.py [--program target/release/examples/pixels] [--threads 2] [--rounds 9]

Needs Pillow, PyTorch and numpy. The frames are noise over a gradient, in memory before the clock starts. Pillow and numpy
work on one thread; the ratios are taken round by round, so that what else the machine does falls on both sides of them.
Printed are the median, the least and the greatest of the rounds, the ratio of the best rounds, and by how much the
results differ at most (levels of 255, or of the normalised values).

- bilinear: a triangle filter as wide as the reduction, 8 bits to 8 bits (Pillow's BILINEAR, PyTorch's antialias=True)
- area: means of 8 bits as (value − 127.5)/128 in float32 (PyTorch's adaptive average, as facenet-pytorch calls it; Pillow's
  BOX weighs pixels at the borders of a window and rounds to 8 bits)
- tubes: 16×224×224 to (1568, 1536), normalised, in the order (C, t, h, w) of a Conv3d kernel
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import machine
import numpy as np

SIDE = 224
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
WORK = [
    ("bilinear", 640, 360, 16),
    ("bilinear", 1920, 1080, 16),
    ("area", 640, 360, 16),
    ("area", 1920, 1080, 16),
    ("tubes", 224, 224, 16),
]


def frames(width: int, height: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 200, width)[None, None, :, None] * np.linspace(0.5, 1, height)[None, :, None, None]
    return (slope + rng.integers(0, 56, (count, height, width, 3))).astype(np.uint8)


def pillow(what: str, clip: np.ndarray) -> np.ndarray:
    from PIL import Image

    kind = Image.Resampling.BILINEAR if what == "bilinear" else Image.Resampling.BOX
    small = np.stack([np.asarray(Image.fromarray(f).resize((SIDE, SIDE), kind)) for f in clip])
    return small if what == "bilinear" else (small - np.float32(127.5)) * np.float32(1 / 128)


def torch(what: str, clip: np.ndarray) -> np.ndarray:
    from torch import from_numpy, no_grad
    from torch.nn.functional import interpolate

    with no_grad():
        planes = from_numpy(clip).permute(0, 3, 1, 2)
        if what == "bilinear":
            small = interpolate(planes, (SIDE, SIDE), mode="bilinear", antialias=True)
        elif what == "area":
            small = (interpolate(planes.float(), (SIDE, SIDE), mode="area") - 127.5) * 0.0078125
        else:
            t, h, w = len(clip) // 2, SIDE // 16, SIDE // 16
            values = from_numpy(clip) / 255.0
            values = ((values - from_numpy(MEAN)) / from_numpy(STD)).view(t, 2, h, 16, w, 16, 3)
            return values.permute(0, 2, 4, 6, 1, 3, 5).reshape(t * h * w, -1).numpy()
        return small.permute(0, 2, 3, 1).contiguous().numpy()


def numpy(what: str, clip: np.ndarray) -> np.ndarray:
    t, h, w = len(clip) // 2, SIDE // 16, SIDE // 16
    values = (clip / np.float32(255) - MEAN) / STD
    return values.reshape(t, 2, h, 16, w, 16, 3).transpose(0, 2, 4, 6, 1, 3, 5).reshape(t * h * w, -1)


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", default="target/release/examples/pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    machine.add_argument(parser)
    args = parser.parse_args()
    os.environ.update(machine.environment(args.isa, args.threads))
    import torch as library

    library.set_num_threads(args.threads)
    ours = subprocess.Popen([args.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(f"pictures, {args.threads} threads, {args.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    machine.describe(args.program, args.isa, args.threads, ["pillow", "torch", "numpy"])
    print("| what | engine | milliseconds for all frames | over ours | best rounds | max difference |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        raw, result = Path(folder) / "frames.rgb", Path(folder) / "result"
        for what, width, height, count in WORK:
            clip = frames(width, height, count)
            raw.write_bytes(clip.tobytes())
            peers = {"PyTorch": torch} | ({"numpy": numpy} if what == "tubes" else {"Pillow": pillow})
            times = {name: [] for name in ["ours", *peers]}
            results = {}
            for turn in range(args.rounds + 1):
                ours.stdin.write(f"{what} {raw} {width} {height} {count} {result}\n")
                ours.stdin.flush()
                seconds = {"ours": float(ours.stdout.readline())}
                for name, peer in peers.items():
                    start = time.perf_counter()
                    results[name] = peer(what, clip)
                    seconds[name] = time.perf_counter() - start
                if turn:
                    for name, value in seconds.items():
                        times[name].append(value)
            mine = np.fromfile(result, np.uint8 if what == "bilinear" else np.float32)
            label = f"{what}, {count} of {width}×{height}"
            for name, values in times.items():
                row = f"| {label} | {name} | {spread([1e3 * v for v in values], 1)} |"
                if name != "ours":
                    ratios = [a / b for a, b in zip(values, times["ours"])]
                    difference = np.abs(results[name].ravel().astype(np.float64) - mine).max()
                    row += f" {spread(ratios, 2)} | {min(values) / min(times['ours']):.2f} | {difference:.2g} |"
                else:
                    row += "  |  |  |"
                print(row, flush=True)
    ours.stdin.close()
    ours.wait()


if __name__ == "__main__":
    main()
