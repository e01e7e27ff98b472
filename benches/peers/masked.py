#!/usr/bin/env python3
"""Seconds of a step of masked pre-training on this machine's CPU (forward, loss, backward, AdamW; float32), ours beside
transformers' VideoMAEForPreTraining on PyTorch eager, in turns within one run.

    cargo build --release -p mtcae-benches --examples
    python benches/peers/masked.py base 1 --program target/release/examples/masked_step

A VideoMAE of that size with its published decoder, on tubes of 16 x 224 x 224, of which nine tenths are masked.
`--isa` holds both to an instruction set.
"""

import argparse
import os
import sys

import machine
from training import Side, spread

SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def serve(size: str, batch: int, threads: int) -> None:
    """PyTorch's side of the bargain."""
    import resource
    import time

    import torch
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    width, depth, heads = SIZES[size]
    config = VideoMAEConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width,
        decoder_hidden_size=width // 2, decoder_num_hidden_layers=4, decoder_num_attention_heads=width // 128,
        decoder_intermediate_size=2 * width, use_mean_pooling=False, norm_pix_loss=True)
    config._attn_implementation = "sdpa"
    model = VideoMAEForPreTraining(config).train()
    video = torch.rand(batch, 16, 3, 224, 224) * 2 - 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    def step() -> float:
        masks = torch.zeros(batch, 196, dtype=torch.bool)
        for mask in masks:
            mask[torch.randperm(196)[:176]] = True
        optimiser.zero_grad()
        loss = model(video, bool_masked_pos=masks.repeat(1, 8)).loss
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("batch", type=int)
    parser.add_argument("--program", default="target/release/examples/masked_step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    machine.add_argument(parser)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.size, args.batch, args.threads)
        return
    case = [args.size, str(args.batch)]
    python = [sys.executable, os.path.abspath(__file__), *case, "--threads", str(args.threads), "--serve"]
    print(f"{args.size}, batch {args.batch}, {args.threads} threads, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    machine.describe(args.program, args.isa, args.threads, ["torch", "transformers"])
    sys.stdout.flush()
    environment = machine.environment(args.isa, args.threads)
    ours = Side("ours", [args.program, f"videomae-{args.size}", str(args.batch)], environment)
    torch = Side("torch", python, environment)
    if ours.parameters != torch.parameters:
        sys.exit(f"ours trains {ours.parameters} parameters, torch {torch.parameters}: these are not the same model")
    for _ in range(args.rounds):
        ours.step()
        torch.step()
    print(f"{'':8}{'seconds':>22}{'processor':>22}{'peak MB':>10}")
    for side in (ours, torch):
        print(f"{side.name:8}{spread(side.wall):>22}{spread(side.processor):>22}{side.memory / 1e6:10.0f}")
    print(f"torch/ours, wall {spread([t / o for t, o in zip(torch.wall, ours.wall)])},", end=" ")
    print(f"processor {spread([t / o for t, o in zip(torch.processor, ours.processor)])}")


if __name__ == "__main__":
    main()
