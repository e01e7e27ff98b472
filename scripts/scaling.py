#!/usr/bin/env python3
"""A model of a training step by N ranks: fitted to what scripts/scaling.sh has measured in a
folder, held against it, and taken further to networks that are not there.

    scripts/scaling.py [FOLDER] [--parameters 92760192] [--seconds 1]

Without a folder nothing is measured: then copying and adding count as nothing.

A step in which each rank computes K batches takes

    t(N) = K c + u + e(N)
    e(N) = 2 (N - 1)/N 4 P (1/B + 1/m) + 2 b (N - 1) o

c: seconds of a batch's forward and backward; u: of moving the weights and all else that each rank
does for itself; P: parameters; B: bytes a second of the network; 1/m: seconds a byte that a rank
spends on copying and adding; b: buckets of 25 MB; o: what a message costs. Ranks that share a
core take turns.
"""

import argparse
import json
import math
import os
import pathlib
import re

BUCKET = 25_000_000


def sent(ranks, parameters):
    """Bytes that each rank sends in a step."""
    return 2 * (ranks - 1) / ranks * 4 * parameters


def exchange(ranks, parameters, seconds_a_byte, message):
    buckets = math.ceil(4 * parameters / BUCKET)
    return sent(ranks, parameters) * seconds_a_byte + 2 * buckets * (ranks - 1) * message


def epochs(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    steps = sum(line["kind"] == "step" for line in lines)
    # The first epoch fills caches.
    kept = [line for line in lines if line["kind"] == "epoch"][1:]
    return kept, steps / (len(kept) + 1)


def median(values):
    return sorted(values)[len(values) // 2]


def measured(args):
    """What sums over 2 and 4 ranks took by themselves, beside the model: seconds a byte, and a message."""
    lines = (args.folder / "exchange.jsonl").read_text().splitlines()
    alone = {(line["ranks"], line["values"]): line for line in map(json.loads, lines)}
    values = max(v for _, v in alone)
    small = alone[2, min(v for _, v in alone)]["sum"]
    message = small / 2
    slope = (alone[2, values]["sum"] - small) / alone[2, values]["bytes"]
    print(f"copying and adding: {1e-9 / slope:.2f} GB/s; a message: {1e6 * message:.0f} µs\n")
    print("| sum over | bytes a rank sends | measured | model |\n|---|---|---|---|")
    for (ranks, count), line in sorted(alone.items()):
        crowd = max(1, ranks / args.cores)
        model = crowd * exchange(ranks, count, slope, message)
        print(f"| {ranks} ranks, {count:,} values | {line['bytes']:,} | {1e3 * line['sum']:.2f} ms | {1e3 * model:.2f} ms |")
    return slope, message


def trainings(args, slope, message):
    """What trainings by 1, 2 and 4 ranks took, beside the model."""
    told = re.search(r"(\d+) parameters", (args.folder / "run-1.txt").read_text())
    parameters = int(told.group(1))
    kept, steps = epochs(args.folder / "run-1")
    compute = median([e["parts"]["forward"] + e["parts"]["backward"] for e in kept]) / steps
    other = median([e["parts"]["update"] + e["parts"]["rest"] + e["parts"]["wait"] for e in kept]) / steps
    first = median([e["seconds"] for e in kept]) / steps
    print(f"\n{parameters:,} parameters; one rank: {compute:.3f} s forward and backward of a step, {other:.3f} s else\n")
    print("| ranks | s a step | model | times as fast | bytes a rank sends | s waiting and exchange |\n|---|---|---|---|---|---|")
    for ranks in (1, 2, 4):
        kept, steps = epochs(args.folder / f"run-{ranks}")
        measured = median([e["seconds"] for e in kept]) / steps
        reduce = median([e["parts"]["reduce"] for e in kept]) / steps
        crowd = max(1, ranks / args.cores)
        model = crowd * (compute / ranks + other + exchange(ranks, parameters, slope, message))
        print(
            f"| {ranks} | {measured:.3f} | {model:.3f} | {first / measured:.2f} | "
            f"{sent(ranks, parameters):,.0f} | {reduce:.3f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that the ranks of FOLDER shared")
    parser.add_argument("--parameters", type=int, default=92_760_192, help="of the model that is scaled")
    parser.add_argument("--seconds", type=float, default=1.0, help="that it computes in a step")
    parser.add_argument("--latency", type=float, default=10e-6, help="seconds of a message")
    args = parser.parse_args()

    slope, message = measured(args) if args.folder else (0.0, args.latency)
    if args.folder and (args.folder / "run-1").exists():
        trainings(args, slope, message)

    print(f"\n{args.parameters:,} parameters, {args.seconds:g} s of computing on each rank in a step\n")
    nets = (10, 100, 400)
    print("| ranks | " + " | ".join(f"{g} Gbit/s" for g in nets) + " |")
    print("|---" * (len(nets) + 1) + "|")
    for ranks in (2**k for k in range(11)):
        cells = []
        for gbits in nets:
            cost = exchange(ranks, args.parameters, slope + 8 / (gbits * 1e9), args.latency)
            cells.append(f"{cost:.2f} s, {100 * args.seconds / (args.seconds + cost):.0f} %")
        print(f"| {ranks} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
