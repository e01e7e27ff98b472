#!/usr/bin/env python3
"""Seconds from the command line to a prediction for one video, start-up included: `infer` beside a Python script with
PyAV, Pillow and the same model in PyTorch (`model.py`), of the same weights, in f32, in turns within one run.

    cargo build --release --example infer
    cargo build --release -p mtcae-benches --example machine
    cargo run --release --example init -- --size small --out small
    python benches/peers/pipeline.py hd.mp4 --checkpoint small --program target/release/examples/infer

Needs torch, safetensors, av and Pillow. Ratios are taken round by round, so that what else the machine does falls on both
sides of them; printed are their median, minimum and maximum, and the ratio of the best rounds. Both print probabilities of
the classes; the largest difference is printed. `pipeline.py FILE --checkpoint DIR --worker` is the Python script.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import machine

SIZES = {384: "small", 768: "base", 1024: "large"}


def worker(path: str, checkpoint: str, threads: int) -> None:
    import numpy as np
    import torch
    from safetensors.torch import load_file

    import decode
    import model as peer
    from layers import sin_cos_table

    torch.set_num_threads(threads)
    with open(f"{checkpoint}/config.json") as f:
        config = json.load(f)
    with torch.inference_mode(), torch.device("meta"):
        model = peer.Mtcae(SIZES[config["encoder"]["width"]]).eval()
    model.load_state_dict(load_file(f"{checkpoint}/model.safetensors"), assign=True)
    model.encoder.positions = sin_cos_table(peer.TOKENS, config["encoder"]["width"])
    mean, std = (torch.tensor(config["preprocessing"][k]) for k in ["mean", "std"])
    frames = torch.from_numpy(decode.pyav(path, threads))
    pixels = (frames.float() / 255 - mean) / std
    # (T, H, W, C) to tubes: tokens by time, row and column; in each, channel, time, row and column.
    tubes = pixels.reshape(8, 2, 14, 16, 14, 16, 3).permute(0, 2, 4, 6, 1, 3, 5).reshape(1, peer.TOKENS, peer.TUBE)
    with torch.inference_mode():
        logits = model(tubes)[2]
    print(json.dumps(logits[0].softmax(0).tolist()))


def probabilities(output: str) -> list[float]:
    value = json.loads(output.splitlines()[-1])
    return value if isinstance(value, list) else [entry["probability"] for entry in value["probabilities"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--program", default="target/release/examples/infer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    machine.add_argument(parser)
    parser.add_argument("--worker", action="store_true", help="be the Python script")
    args = parser.parse_args()
    if args.worker:
        return worker(args.file, args.checkpoint, args.threads)

    threads = str(args.threads)
    common = [args.file, "--checkpoint", args.checkpoint, "--threads", threads]
    commands = {
        # The other side looks for no faces beside the model either.
        "ours": [args.program, *common, "--precision", "f32", "--faces", "none", "--format", "json", "--quiet"],
        "Python": [sys.executable, os.path.abspath(__file__), *common, "--worker"],
    }
    print(f"{args.file}, {threads} threads, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    machine.describe(args.program, args.isa, args.threads, ["torch", "av", "pillow"])
    sys.stdout.flush()
    environment = machine.environment(args.isa, args.threads)
    wall, processor, answers = ({name: [] for name in commands} for _ in range(3))
    for turn in range(args.rounds + 1):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            seconds = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            # The first turn brings files into memory.
            if turn > 0:
                wall[name].append(seconds)
                used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                processor[name].append(used)
                print(f"{name}: {seconds:.2f} s, {used:.2f} s of processor time", file=sys.stderr, flush=True)
            answers[name] = probabilities(run.stdout)

    from decode import spread

    apart = max(abs(a - b) for a, b in zip(answers["ours"], answers["Python"], strict=True))
    print(f"probabilities apart by {apart:.1e}")
    print(f"{'':10}{'seconds':>22}{'processor':>22}{'x/ours':>22}{'of the best':>14}")
    for name in commands:
        ratios = [a / b for a, b in zip(wall[name], wall["ours"])]
        best = min(wall[name]) / min(wall["ours"])
        print(f"{name:10}{spread(wall[name], 2):>22}{spread(processor[name], 2):>22}{spread(ratios, 2):>22}{best:>14.2f}")


if __name__ == "__main__":
    main()
