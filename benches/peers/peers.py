#!/usr/bin/env python3
"""Seconds of one clip's forward on this machine's CPU, ours beside PyTorch, ONNX Runtime and OpenVINO: the same
weights, the same input, the same number of threads, in turns within one run.

    cargo build --release -p mtcae-benches --examples
    cargo build --release -p mtcae-cli
    python benches/peers/peers.py --size large --program target/release/examples/forward
    python benches/peers/peers.py --size large --isa avx2
    python benches/peers/peers.py --size lgi-former-base --against videomae-base-160,videomae-base

Needs torch, safetensors, onnxruntime and openvino. Graphs are those of `mtcae export`, which take clips and cut them into
tubes themselves. Each engine is a process of its own that waits on its standard input while others run. Ratios are taken
round by round, so that what else the machine does falls on both sides of them; printed are their median, minimum and
maximum, the ratio of both engines' best rounds and that of their processor time. Outputs are compared with PyTorch's f32:
max|difference| / max|reference|.

GFLOP/s count what our program counts of the size: two operations for each multiplication of a matrix product. With
`--against` our engine computes other sizes too, in turns with the first, and the ratios of its GFLOP/s are printed.

`--isa` holds all of them to an instruction set; what an engine does not obey is said in the last column. Where the
instruction set has no bf16, bf16 is left out unless `--engines` asks for it.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys

import numpy as np

import machine
import model as peer

ENGINES = [
    "torch-f32",
    "torch-compiled-f32",
    "onnxruntime-f32",
    "openvino-f32",
    "ours-f32",
    "torch-bf16",
    "torch-compiled-bf16",
    "openvino-bf16",
    "ours-bf16",
]


def prepare(size: str, part: str, folder: str) -> None:
    """Weights and input, unless they are there."""
    import torch
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    files = ["model.safetensors", "decoder.safetensors", f"{part}.f32"]
    if all(os.path.exists(f"{folder}/{name}") for name in files):
        return
    model = peer.draw(size)
    if not os.path.exists(f"{folder}/model.safetensors"):
        with open(f"{folder}/config.json", "w") as f:
            json.dump(peer.config(size), f)
        save_file(model.state_dict(), f"{folder}/model.safetensors")
        save_file(model.decoder.state_dict(), f"{folder}/decoder.safetensors")
    width = peer.encoder(size)["width"] if part == "decoder" else peer.TUBE
    shape = (1, peer.tokens(size), width)
    x = torch.from_numpy(np.random.default_rng(1).standard_normal(shape, dtype=np.float32))
    x.numpy().tofile(f"{folder}/{part}.f32")


def export(part: str, folder: str, mtcae: str) -> None:
    """The ONNX graph of a folder's weights, unless it is there."""
    part = {"model": "whole"}.get(part, part)
    graph = f"{folder}/{part}.onnx"
    if not os.path.exists(graph):
        subprocess.run([mtcae, "export", "--checkpoint", folder, "--part", part, "--onnx", graph, "--quiet"], check=True)


class Engine:
    def __init__(self, name: str, size: str, args):
        folder = os.path.join(args.folder, size)
        self.name, self.size, self.output = name, size, f"{folder}/{name}-{args.part}.out"
        environment = machine.environment(args.isa, args.threads)
        if name.startswith("ours-"):
            weights = f"{folder}/decoder.safetensors" if args.part == "decoder" else folder
            precision = name.removeprefix("ours-")
            command = [args.program, weights, precision, f"{folder}/{args.part}.f32", self.output]
        else:
            worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
            shape = [args.part, size, str(peer.tokens(size))]
            command = [sys.executable, worker, name, *shape, folder, str(args.threads), self.output]
        quiet = subprocess.DEVNULL if not args.verbose else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True, env=environment
        )
        self.wall: list[float] = []
        self.processor: list[float] = []
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.memory, *counted = map(float, line.split()[1:])
                # Of one forward; only our program counts them.
                self.flops = counted[0] if counted else None
                return
        raise RuntimeError(f"{name} of {size} did not start: exit code {self.process.wait()}")

    def run(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, processor = self.process.stdout.readline().split()
        self.wall.append(float(wall))
        self.processor.append(float(processor))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def rates(flops: float, engine: Engine) -> list[float]:
    """GFLOP/s of each round."""
    return [flops / seconds / 1e9 for seconds in engine.wall]


def beside_peers(engines: list[Engine], args) -> None:
    """The table of engines that compute the same."""
    outputs = {e.name: np.fromfile(e.output, dtype=np.float32) for e in engines}
    reference = outputs.get("torch-f32")
    last = "  not held" if args.isa else ""
    columns = f"{'seconds':>22}{'GFLOP/s':>22}{'processor':>22}{'x/ours':>22}{'best':>7}{'cpu':>7}{'peak MB':>10}"
    print(f"{'engine':22}{columns}{'deviation':>12}{last}")
    flops = next((e.flops for e in engines if e.flops), None)
    for precision in ["f32", "bf16"]:
        ours = next((e for e in engines if e.name == f"ours-{precision}"), None)
        for e in (e for e in engines if e.name.endswith(precision)):
            rate = spread(rates(flops, e), 1) if flops else "-"
            ratio = spread([a / b for a, b in zip(e.wall, ours.wall)]) if ours else "-"
            best = f"{min(e.wall) / min(ours.wall):.2f}" if ours else "-"
            cpu = f"{statistics.median(e.processor) / statistics.median(ours.processor):.2f}" if ours else "-"
            deviation = "-"
            if reference is not None:
                deviation = f"{np.abs(outputs[e.name] - reference).max() / np.abs(reference).max():.1e}"
            print(f"{e.name:22}{spread(e.wall):>22}{rate:>22}{spread(e.processor):>22}{ratio:>22}", end="")
            print(f"{best:>7}{cpu:>7}{e.memory / 1e6:10.0f}{deviation:>12}", end="")
            print(f"  {machine.not_held(e.name, args.isa)}".rstrip())


def beside_sizes(engines: list[Engine], size: str) -> None:
    """The table of our engine on other sizes, and the ratios of `size`'s GFLOP/s to theirs."""
    columns = f"{'GFLOP':>8}{'seconds':>22}{'GFLOP/s':>22}{'ratio to it':>22}{'best':>7}{'cpu':>7}"
    print(f"\n{size} of ours beside other sizes, by GFLOP/s\n{'engine':12}{'size':22}{columns}")
    for ours in (e for e in engines if e.size == size):
        mine = rates(ours.flops, ours)
        for e in (e for e in engines if e.name == ours.name):
            its = rates(e.flops, e)
            print(f"{e.name:12}{e.size:22}{e.flops / 1e9:8.1f}{spread(e.wall):>22}{spread(its, 1):>22}", end="")
            per_second = [e.flops / statistics.median(e.processor) for e in (ours, e)]
            print(f"{spread([a / b for a, b in zip(mine, its)]):>22}{max(mine) / max(its):>7.2f}", end="")
            print(f"{per_second[0] / per_second[1]:>7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", default="large", type=peer.size)
    parser.add_argument("--part", default="model", choices=["model", "decoder"])
    parser.add_argument("--against", default=[], type=peer.sizes, metavar="SIZE,…", help="other sizes for our engine")
    parser.add_argument("--engines", help="some of " + ",".join(ENGINES))
    parser.add_argument("--program", default="target/release/examples/forward")
    parser.add_argument("--mtcae", default="target/release/mtcae", help="what exports the graphs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", default="target/peers")
    machine.add_argument(parser)
    parser.add_argument("--verbose", action="store_true", help="let the engines write to standard error")
    args = parser.parse_args()
    if args.part == "decoder" and not {args.size, *args.against} <= set(peer.CASCADES):
        parser.error(f"--part decoder is of {', '.join(peer.CASCADES)}: other sizes have no decoder")
    for size in [args.size, *args.against]:
        folder = os.path.join(args.folder, size)
        # In a process of its own: a child's peak memory begins with its parent's.
        needs = (size, args.part, folder)
        preparing = multiprocessing.get_context("spawn").Process(target=prepare, args=needs)
        preparing.start()
        preparing.join()
        if preparing.exitcode != 0:
            sys.exit(f"{folder}: weights or input could not be made")
    try:
        export(args.part, os.path.join(args.folder, args.size), args.mtcae)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"the ONNX graph could not be made: {error}")

    print(f"{args.size} {args.part}, {args.threads} threads, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    found = machine.describe(args.program, args.isa, args.threads, ["torch", "onnxruntime", "openvino"])
    sys.stdout.flush()
    precisions = ["f32"] if found["bf16"].startswith("none") else ["f32", "bf16"]
    names = args.engines.split(",") if args.engines else [e for e in ENGINES if e.rsplit("-", 1)[1] in precisions]
    engines = []
    for name in names:
        # What is compared runs side by side.
        for size in [args.size, *(args.against if name.startswith("ours-") else [])]:
            try:
                engines.append(Engine(name, size, args))
                print(f"{name} of {size} is ready", file=sys.stderr, flush=True)
            except RuntimeError as error:
                print(error, flush=True)
    for _ in range(args.rounds):
        for engine in engines:
            engine.run()
            seconds = f"{engine.wall[-1]:.2f} s, {engine.processor[-1]:.2f} s of processor time"
            print(f"{engine.name} of {engine.size}: {seconds}", file=sys.stderr, flush=True)
    for engine in engines:
        engine.close()

    beside_peers([e for e in engines if e.size == args.size], args)
    if args.against:
        beside_sizes([e for e in engines if e.name.startswith("ours-")], args.size)


if __name__ == "__main__":
    main()
