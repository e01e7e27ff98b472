#!/usr/bin/env python3
"""Seconds of a residual network on this machine's CPU, ours beside PyTorch eager (float32): one clip's forward, and a
training step of one clip (forward, cross-entropy of a linear layer on the mean of F, backward, AdamW; BatchNorm on its
running statistics), in turns within one run.

    cargo build --release -p mtcae-cli -p mtcae-benches --examples
    python benches/peers/resnet.py
    python benches/peers/resnet.py --size r3d18 --rounds 15

Needs torch. Ours are the programs `forward` and `train_step`, processes of their own that wait on their standard input
while PyTorch runs. Ratios (PyTorch's time over ours) are taken round by round, so that what else the machine does falls
on both sides of them; printed are medians, the ratio of both sides' best rounds, and that of their processor time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 7
VOLUMES = dict(over="volumes", frames=16, stem_width=64)
FRAMES = dict(over="frames", frames=16, stem_width=64, stem_frames=1, stem_pool=True, width=64, groups=1)
SIZES = {
    "resnext50": dict(**VOLUMES, image_size=224, stem_frames=7, stem_pool=True, block="bottleneck", depths=(3, 4, 6, 3),
                      width=128, expansion=2, groups=32),
    "r3d18": dict(**VOLUMES, image_size=112, stem_frames=3, stem_pool=False, block="basic", depths=(2, 2, 2, 2),
                  width=64, expansion=1, groups=1),
    "resnet18": dict(**FRAMES, image_size=224, block="basic", depths=(2, 2, 2, 2), expansion=1),
    "resnet50": dict(**FRAMES, image_size=224, block="bottleneck", depths=(3, 4, 6, 3), expansion=4),
}


class Ours:
    """A program that answers each line by its wall seconds and processor seconds."""

    def __init__(self, command: list[str], threads: int):
        environment = machine.environment(None, threads)
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(command, env=environment, **pipes)
        if self.process.stdout.readline().split()[:1] != ["ready"]:
            sys.exit(f"{command[0]} did not start")

    def __call__(self) -> tuple[float, float]:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, processor, *_ = self.process.stdout.readline().split()
        return float(wall), float(processor)


def pytorch(size: str, pixels: int | None):
    import torch
    from torch.nn import functional as F

    sys.path.insert(0, str(ROOT / "fixtures"))
    from reference.resnet import ResNet, ResNetConfig

    fields = SIZES[size] | ({"image_size": pixels} if pixels else {})
    config = ResNetConfig(**fields)
    model = ResNet(config).eval()
    head = torch.nn.Linear(model.width, CLASSES)
    side = config.image_size
    x, classes = torch.randn(1, config.frames, 3, side, side), torch.zeros(1, dtype=torch.long)
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-3, fused=True)

    def forward() -> None:
        with torch.inference_mode():
            head(model(x).mean(1))

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(head(model(x).mean(1)), classes).backward()
        optimiser.step()

    def timed(work):
        def run() -> tuple[float, float]:
            wall, processor = time.perf_counter(), time.process_time()
            work()
            return time.perf_counter() - wall, time.process_time() - processor

        return run

    return x.numpy(), timed(forward), timed(step)


def compare(what: str, ours, theirs, rounds: int) -> None:
    took = {"ours": [], "PyTorch": []}
    for turn in range(rounds + 1):
        sides = [("ours", ours), ("PyTorch", theirs)]
        for name, side in sides if turn % 2 else sides[::-1]:
            seconds = side()
            if turn:  # the first warms up
                took[name].append(seconds)
    walls = {name: [wall for wall, _ in all_of] for name, all_of in took.items()}
    processor = {name: statistics.median(p for _, p in all_of) for name, all_of in took.items()}
    ratios = [theirs / ours for ours, theirs in zip(walls["ours"], walls["PyTorch"])]
    for name, all_of in walls.items():
        print(f"{what}, {name}: median {statistics.median(all_of):.3f} s, best {min(all_of):.3f} s, "
              f"processor {processor[name]:.3f} s")
    print(f"{what}: PyTorch over ours {statistics.median(ratios):.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f}), "
          f"best rounds {min(walls['PyTorch']) / min(walls['ours']):.2f}, "
          f"processor {processor['PyTorch'] / processor['ours']:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="resnext50")
    parser.add_argument("--pixels", type=int, help="height and width of a frame, in place of the size's own")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mtcae", default=str(ROOT / "target/release/mtcae"))
    parser.add_argument("--forward", default=str(ROOT / "target/release/examples/forward"))
    parser.add_argument("--train-step", default=str(ROOT / "target/release/examples/train_step"))
    args = parser.parse_args()
    threads = str(args.threads)
    os.environ["OMP_NUM_THREADS"] = threads
    import torch

    torch.set_num_threads(args.threads)
    machine.describe(args.forward, None, args.threads, ["torch"])
    clip, forward, step = pytorch(args.size, args.pixels)
    pixels = ["--image-size", str(args.pixels)] if args.pixels else []
    with tempfile.TemporaryDirectory() as folder:
        model, given, answer = (f"{folder}/{name}" for name in ("model", "clip.f32", "answer.f32"))
        clip.tofile(given)
        init = [args.mtcae, "init", "--family", "resnet", "--size", args.size, "--structure", "single-task"]
        subprocess.run([*init, *pixels, "--out", model], check=True, stdout=subprocess.DEVNULL)
        compare("forward", Ours([args.forward, model, "f32", given, answer], args.threads), forward, args.rounds)
        name = "-".join(["resnet", args.size, *pixels[1:]])
        compare("training step", Ours([args.train_step, name, "1"], args.threads), step, args.rounds)


if __name__ == "__main__":
    main()
