#!/usr/bin/env python3
"""Milliseconds from a video file to sixteen frames of 224×224, ours beside decord and PyAV: the same file, the same
frames, the same number of threads, in turns within one run.

    cargo build --release -p mtcae-video --example clip
    cargo build --release -p mtcae-benches --example machine
    python benches/peers/hd.py hd.mp4
    python benches/peers/decode.py hd.mp4 --program target/release/examples/clip

Needs av, decord and Pillow. Each measurement opens the file anew. Ratios are taken round by round, so that what else the
machine does falls on both sides of them; printed are their median, minimum and maximum, and the ratio of the best rounds.
Frames are compared with ours: mean and largest difference in levels. PyAV with Pillow resizes as we do; decord's scaler
has another filter and other rounding.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np

import machine

COUNT, SIZE = 16, 224


def decord(path: str, threads: int) -> np.ndarray:
    import decord

    reader = decord.VideoReader(path, num_threads=threads, width=SIZE, height=SIZE)
    return reader.get_batch([i * len(reader) // COUNT for i in range(COUNT)]).asnumpy()


def pyav(path: str, threads: int) -> np.ndarray:
    """As one writes it with PyAV: decode everything, convert and resize what is sampled."""
    import av
    from PIL import Image

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        wanted = {i * stream.frames // COUNT for i in range(COUNT)}
        frames = [f.to_image().resize((SIZE, SIZE), Image.BILINEAR) for i, f in enumerate(container.decode(stream)) if i in wanted]
    return np.stack([np.asarray(f) for f in frames])


class Ours:
    def __init__(self, program: str, path: str, threads: int):
        self.output = tempfile.NamedTemporaryFile(suffix=".rgb")
        environment = machine.environment(None, threads)
        command = [program, path, str(threads), self.output.name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for line in self.process.stdout:
            if line.startswith("ready"):
                break
            print(line, end="")
        else:
            raise RuntimeError(f"{program} did not start: exit code {self.process.wait()}")
        self.frames = np.fromfile(self.output.name, dtype=np.uint8).reshape(COUNT, SIZE, SIZE, 3)

    def seconds(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def spread(values: list[float], digits: int) -> str:
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file")
    parser.add_argument("--program", default="target/release/examples/clip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()

    ours = Ours(args.program, args.file, args.threads)
    peers = {"decord": decord, "PyAV + Pillow": pyav}
    # The first turn warms caches and gives the frames.
    frames = {name: peer(args.file, args.threads) for name, peer in peers.items()}
    times = {name: [] for name in ["ours", *peers]}
    for _ in range(args.rounds):
        times["ours"].append(ours.seconds())
        for name, peer in peers.items():
            start = time.perf_counter()
            peer(args.file, args.threads)
            times[name].append(time.perf_counter() - start)
    ours.close()

    print(f"{args.file}, {args.threads} threads, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    machine.describe(args.program, None, args.threads, ["decord", "av", "pillow"])
    print(f"{'':16}{'ms':>26}{'x/ours':>22}{'of the best':>14}{'mean diff':>12}{'max diff':>10}")
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times["ours"])]
        best = min(seconds) / min(times["ours"])
        difference = np.abs(frames.get(name, ours.frames).astype(int) - ours.frames)
        print(f"{name:16}{spread([1e3 * s for s in seconds], 0):>26}{spread(ratios, 2):>22}{best:>14.2f}", end="")
        print(f"{difference.mean():>12.2f}{difference.max():>10}")


if __name__ == "__main__":
    main()
