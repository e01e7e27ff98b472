#!/usr/bin/env python3
"""The model that `mtcae-gpu model` drew, in PyTorch on the same GPU.

    gpu_pytorch.py compare FOLDER     every intermediate of FOLDER/trace.safetensors against float64 on the GPU
    gpu_pytorch.py bench FOLDER       inference and training steps, eager and compiled; a table in Markdown

The model is that of fixtures/rebuild_from_checkpoint.py, written from docs/checkpoint-format.md alone; for speed its
attention is PyTorch's fastest, scaled_dot_product_attention.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fixtures")]
import rebuild_from_checkpoint as rebuild  # noqa: E402

TOLERANCE = 1e-4
SECONDS = 3.0
BATCHES = (1, 8, 32)


def fast_attention(q, k, v, heads):
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


def exact_attention(q, k, v, heads):
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    q, k, v = split(q), split(k), split(v)
    return ((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


@torch.no_grad()
def compare(folder: Path) -> bool:
    rebuild.attention = exact_attention
    torch.set_default_device("cuda")
    ours = load_file(folder / "trace.safetensors", device="cuda")
    model = rebuild.build(folder).cuda().double()
    theirs = model(ours.pop("clip")[None])
    worst = (0.0, "nothing")
    for name, reference in theirs.items():
        if name not in ours:
            print(f"{name} is not in the trace")
            return False
        error = ((ours[name].double() - reference).abs().max() / reference.abs().max()).item()
        if not error <= worst[0]:
            worst = (error, name)
    print(f"{len(theirs)} tensors, worst {worst[0]:.1e} ({worst[1]}), {TOLERANCE:.0e} allowed; PyTorch {torch.__version__}")
    return worst[0] <= TOLERANCE


def timed(call) -> float:
    """Median seconds of a call."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < SECONDS:
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def heads(outputs: dict) -> list:
    """What the heads give: the intermediates that have no tokens."""
    return [t for t in outputs.values() if t.dim() == 2]


def bench(folder: Path) -> bool:
    rebuild.attention = fast_attention
    torch.set_default_device("cuda")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["encoder"]
    print(f"PyTorch {torch.__version__}\n\n| what | precision | batch | ms | clips/s | GB taken |\n|---|---|---|---|---|---|")
    for compiled in (False, True):
        for precision in ("f32", "tf32", "bf16"):
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
            for training in (False, True):
                for batch in BATCHES:
                    name = ("training" if training else "inference") + (", compiled" if compiled else ", eager")
                    row = f"| {name} | {precision} | {batch} |"
                    try:
                        seconds = measure(folder, config, compiled, precision == "bf16", training, batch)
                        taken = torch.cuda.max_memory_allocated() / 1e9
                        print(f"{row} {1e3 * seconds:.2f} | {batch / seconds:.1f} | {taken:.1f} |", flush=True)
                    except torch.cuda.OutOfMemoryError:
                        print(f"{row} out of memory | | |", flush=True)
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
    return True


def measure(folder: Path, config: dict, compiled: bool, bf16: bool, training: bool, batch: int) -> float:
    model = rebuild.build(folder).cuda()
    if bf16 and not training:
        model = model.bfloat16()
    size = config["image_size"]
    clip = torch.randint(0, 256, (batch, config["frames"], size, size, 3), dtype=torch.uint8)
    forward = torch.compile(model) if compiled else model
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=bf16)
    if not training:
        with torch.inference_mode(), autocast:
            return timed(lambda: forward(clip))
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with autocast:
            outputs = heads(forward(clip))
            loss = sum(t.float().square().mean() for t in outputs)
        loss.backward()
        optimiser.step()

    return timed(step)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("compare", "bench"):
        sys.exit(__doc__)
    sys.exit(0 if {"compare": compare, "bench": bench}[sys.argv[1]](Path(sys.argv[2])) else 1)
