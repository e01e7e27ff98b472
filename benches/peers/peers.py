#!/usr/bin/env python3
"""Seconds of one clip's forward on this machine's CPU, ours beside PyTorch, ONNX Runtime and OpenVINO: the same
weights, the same input, the same number of threads, in turns within one run.

    cargo build --release -p mtcae-benches --examples
    python benches/peers/peers.py --size large --program target/release/examples/forward
    python benches/peers/peers.py --size large --isa avx2

Needs torch, safetensors, onnx, onnxruntime and openvino. Each engine is a process of its own that waits on its standard
input while others run. Ratios are taken round by round, so that what else the machine does falls on both sides of them;
printed are their median, minimum and maximum, the ratio of both engines' best rounds and that of their processor time.
Outputs are compared with PyTorch's f32: max|difference| / max|reference|.

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
    """Weights, input and ONNX graph, unless they are there."""
    import torch
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    files = ["model.safetensors", "decoder.safetensors", f"{part}.f32", f"{part}.onnx"]
    if all(os.path.exists(f"{folder}/{name}") for name in files):
        return
    model = peer.draw(size)
    if not os.path.exists(f"{folder}/model.safetensors"):
        with open(f"{folder}/config.json", "w") as f:
            json.dump(peer.config(size), f)
        save_file(model.state_dict(), f"{folder}/model.safetensors")
        save_file(model.decoder.state_dict(), f"{folder}/decoder.safetensors")
    width = peer.SIZES[size][0] if part == "decoder" else peer.TUBE
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, peer.TOKENS, width), dtype=np.float32))
    x.numpy().tofile(f"{folder}/{part}.f32")
    if not os.path.exists(f"{folder}/{part}.onnx"):
        module = model.decoder if part == "decoder" else model
        names = dict(input_names=["x"], output_names=list(peer.TASKS))
        torch.onnx.export(module, (x,), f"{folder}/{part}.onnx", opset_version=18, dynamo=False, **names)


class Engine:
    def __init__(self, name: str, args, folder: str):
        self.name, self.output = name, f"{folder}/{name}-{args.part}.out"
        environment = machine.environment(args.isa, args.threads)
        if name.startswith("ours-"):
            weights = f"{folder}/decoder.safetensors" if args.part == "decoder" else folder
            precision = name.removeprefix("ours-")
            command = [args.program, weights, precision, f"{folder}/{args.part}.f32", self.output]
        else:
            worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
            command = [sys.executable, worker, name, args.part, args.size, folder, str(args.threads), self.output]
        quiet = subprocess.DEVNULL if not args.verbose else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True, env=environment
        )
        self.wall: list[float] = []
        self.processor: list[float] = []
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.memory = float(line.split()[1])
                return
        raise RuntimeError(f"{name} did not start: exit code {self.process.wait()}")

    def run(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, processor = self.process.stdout.readline().split()
        self.wall.append(float(wall))
        self.processor.append(float(processor))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", default="large", choices=peer.SIZES)
    parser.add_argument("--part", default="model", choices=["model", "decoder"])
    parser.add_argument("--engines", help="some of " + ",".join(ENGINES))
    parser.add_argument("--program", default="target/release/examples/forward")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", default="target/peers")
    machine.add_argument(parser)
    parser.add_argument("--verbose", action="store_true", help="let the engines write to standard error")
    args = parser.parse_args()
    folder = os.path.join(args.folder, args.size)
    # In a process of its own: a child's peak memory begins with its parent's.
    preparing = multiprocessing.get_context("spawn").Process(target=prepare, args=(args.size, args.part, folder))
    preparing.start()
    preparing.join()
    if preparing.exitcode != 0:
        sys.exit(f"{folder}: weights, input or graph could not be made")

    print(f"{args.size} {args.part}, {args.threads} threads, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    found = machine.describe(args.program, args.isa, args.threads, ["torch", "onnxruntime", "openvino"])
    sys.stdout.flush()
    precisions = ["f32"] if found["bf16"].startswith("none") else ["f32", "bf16"]
    names = args.engines.split(",") if args.engines else [e for e in ENGINES if e.rsplit("-", 1)[1] in precisions]
    engines = []
    for name in names:
        try:
            engines.append(Engine(name, args, folder))
            print(f"{name} is ready", file=sys.stderr, flush=True)
        except RuntimeError as error:
            print(error, flush=True)
    for _ in range(args.rounds):
        for engine in engines:
            engine.run()
            seconds = f"{engine.wall[-1]:.2f} s, {engine.processor[-1]:.2f} s of processor time"
            print(f"{engine.name}: {seconds}", file=sys.stderr, flush=True)
    for engine in engines:
        engine.close()

    outputs = {e.name: np.fromfile(e.output, dtype=np.float32) for e in engines}
    reference = outputs.get("torch-f32")
    last = "  not held" if args.isa else ""
    columns = f"{'seconds':>22}{'processor':>22}{'x/ours':>22}{'best':>7}{'cpu':>7}{'peak MB':>10}{'deviation':>12}{last}"
    print(f"{'engine':22}{columns}")
    for precision in ["f32", "bf16"]:
        ours = next((e for e in engines if e.name == f"ours-{precision}"), None)
        for e in (e for e in engines if e.name.endswith(precision)):
            ratio = spread([a / b for a, b in zip(e.wall, ours.wall)]) if ours else "-"
            best = f"{min(e.wall) / min(ours.wall):.2f}" if ours else "-"
            cpu = f"{statistics.median(e.processor) / statistics.median(ours.processor):.2f}" if ours else "-"
            deviation = "-"
            if reference is not None:
                deviation = f"{np.abs(outputs[e.name] - reference).max() / np.abs(reference).max():.1e}"
            print(f"{e.name:22}{spread(e.wall):>22}{spread(e.processor):>22}{ratio:>22}{best:>7}{cpu:>7}", end="")
            print(f"{e.memory / 1e6:10.0f}{deviation:>12}  {machine.not_held(e.name, args.isa)}".rstrip())


if __name__ == "__main__":
    main()
