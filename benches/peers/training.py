#!/usr/bin/env python3
"""Seconds of a training step on this machine's CPU (forward, the tasks' loss, backward, AdamW; float32), ours
beside PyTorch eager, in turns within one run.

    cargo build --release -p mtcae-benches --examples
    python benches/peers/training.py features 4 --program target/release/examples/train_step
    python benches/peers/training.py base 1 --program target/release/examples/train_step
    python benches/peers/training.py lgi-former-base 1

`features`: the cascade alone on features as ViT-L makes them; otherwise the whole model of that size as `peers.py` has
it, all of it trained. An encoder alone has the expression's loss alone.
With `--at-once N` our clips go through the model N by N and their gradients are added; PyTorch's all at once.
`--isa` holds both to an instruction set.
"""

import argparse
import os
import statistics
import subprocess
import sys

import machine
import model as peer


def serve(what: str, batch: int, threads: int) -> None:
    """PyTorch's side of the bargain."""
    import resource
    import time

    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    model = peer.Decoder(1024) if what == "features" else peer.Mtcae(what)
    shape = (peer.TOKENS, 1024) if what == "features" else (peer.tokens(what), peer.TUBE)
    x = torch.randn(batch, *shape)
    boxes, points, classes = torch.randn(batch, 64), torch.randn(batch, 160), torch.zeros(batch, dtype=torch.long)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3, fused=True)

    def step() -> float:
        optimiser.zero_grad()
        *faces, y = model(x)
        loss = 1.5 * F.cross_entropy(y, classes)
        for output, target in zip(faces, (boxes, points)):
            loss = loss + 0.5 * F.mse_loss(output, target)
        loss.backward()
        optimiser.step()
        return loss.item()

    step()
    parameters = sum(p.numel() for p in model.parameters())
    print("ready", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, parameters, flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        loss = step()
        print(time.perf_counter() - wall, time.process_time() - processor, loss, flush=True)


class Side:
    def __init__(self, name: str, command: list[str], environment: dict[str, str]):
        self.name, self.wall, self.processor = name, [], []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        answer = self.process.stdout.readline().split()
        if answer[:1] != ["ready"]:
            raise RuntimeError(f"{name} did not start: exit code {self.process.wait()}")
        self.memory, self.parameters = map(int, answer[1:])

    def step(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, processor, _ = self.process.stdout.readline().split()
        self.wall.append(float(wall))
        self.processor.append(float(processor))
        print(f"{self.name}: {wall} s, {processor} s of processor time", file=sys.stderr, flush=True)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def case_name(name: str) -> str:
    return name if name == "features" else peer.size(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", type=case_name, metavar="features|SIZE")
    parser.add_argument("batch", type=int)
    parser.add_argument("--program", default="target/release/examples/train_step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, help="of our clips; all, unless given")
    machine.add_argument(parser)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.what, args.batch, args.threads)
        return
    case = [args.what, str(args.batch)]
    python = [sys.executable, os.path.abspath(__file__), *case, "--threads", str(args.threads), "--serve"]
    parts = [str(args.at_once)] if args.at_once else []
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{args.what}, batch {args.batch}, {args.threads} threads, {args.rounds} rounds; {load}")
    machine.describe(args.program, args.isa, args.threads, ["torch"])
    sys.stdout.flush()
    environment = machine.environment(args.isa, args.threads)
    ours, torch = Side("ours", [args.program, *case, *parts], environment), Side("torch", python, environment)
    if ours.parameters != torch.parameters:
        sys.exit(f"ours trains {ours.parameters} parameters, torch {torch.parameters}: these are not the same model")
    for _ in range(args.rounds):
        ours.step()
        torch.step()
    print(f"{'':8}{'seconds':>22}{'processor':>22}{'peak MB':>10}{'  not held' if args.isa else ''}")
    for side in (ours, torch):
        print(f"{side.name:8}{spread(side.wall):>22}{spread(side.processor):>22}{side.memory / 1e6:10.0f}", end="")
        print(f"  {machine.not_held(side.name + '-f32', args.isa)}".rstrip())
    print(f"torch/ours, wall {spread([t / o for t, o in zip(torch.wall, ours.wall)])},", end=" ")
    print(f"processor {spread([t / o for t, o in zip(torch.processor, ours.processor)])}")


if __name__ == "__main__":
    main()
