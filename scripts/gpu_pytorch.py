#!/usr/bin/env python3
"""The model that `mtcae-gpu model` drew, in PyTorch on the same GPU.

    gpu_pytorch.py compare FOLDER       every intermediate of FOLDER/trace.safetensors against float64 on the GPU
    gpu_pytorch.py bench CONFIG eager|compiled [SECONDS]
                                        inference and training steps of a model of this config, as `mtcae-gpu config`
                                        prints it; a table in Markdown, that begins no further row after SECONDS

The model is that of fixtures/rebuild_from_checkpoint.py, written from docs/checkpoint-format.md alone. For speed its
attention is PyTorch's fastest, scaled_dot_product_attention, and nothing but the heads is kept; the weights are
PyTorch's own, which the time does not depend on.
"""

import gc
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
# The fastest precision and the batch that fills a GPU first: compiling takes a minute a row.
PRECISIONS = ("bf16", "tf32", "f32")
BATCHES = (8, 32, 1)


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


class Heads(torch.nn.Module):
    """From clips (B, T, H, W, 3) of levels to what the heads give, in `dtype`; the intermediates are not kept."""

    class Kept:
        def __init__(self):
            self.heads = []

        def __setitem__(self, name, tensor):
            if name.startswith("head."):
                self.heads.append(tensor)

    def __init__(self, model: rebuild.Model, dtype: torch.dtype):
        super().__init__()
        self.mean, self.std = model.mean, model.std  # of levels, in float32 whatever the model is in
        self.encoder, self.decoder, self.dtype = model.encoder.to(dtype), model.decoder.to(dtype), dtype

    def forward(self, clip):
        clip = ((clip.float() / 255 - self.mean) / self.std).permute(0, 1, 4, 2, 3).to(self.dtype)
        kept = self.Kept()
        self.decoder(self.encoder(clip, kept), kept)
        return kept.heads


def bench(config: dict, compiled: bool, within: float) -> bool:
    rebuild.attention = fast_attention
    torch.set_default_device("cuda")
    print(f"PyTorch {torch.__version__}\n\n| what | precision | batch | ms | clips/s | GB at most |\n|---|---|---|---|---|---|")
    end = time.monotonic() + within
    left = []
    for precision in PRECISIONS:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        for batch in BATCHES:
            for training in (False, True):
                name = ("training" if training else "inference") + (", compiled" if compiled else ", eager")
                row = f"| {name} | {precision} | {batch} |"
                if time.monotonic() > end:
                    left.append(f"{name} {precision} {batch}")
                    continue
                torch.cuda.reset_peak_memory_stats()
                try:
                    seconds = measure(config, compiled, precision == "bf16", training, batch)
                    taken = torch.cuda.max_memory_allocated() / 1e9
                    print(f"{row} {1e3 * seconds:.2f} | {batch / seconds:.1f} | {taken:.1f} |", flush=True)
                except torch.cuda.OutOfMemoryError:
                    print(f"{row} out of memory | | |", flush=True)
                except Exception as error:  # a row that fails, in a compiler for one, leaves the others alone
                    reason = f"{type(error).__name__}: {error}".splitlines()[0].replace("|", "/")
                    print(f"{row} {reason} | | |", flush=True)
                gc.collect()
                torch.cuda.empty_cache()
    if left:
        print(f"\nNot measured, for want of time: {'; '.join(left)}.")
    return True


def measure(config: dict, compiled: bool, bf16: bool, training: bool, batch: int) -> float:
    model = Heads(rebuild.Model(config), torch.bfloat16 if bf16 and not training else torch.float32)
    encoder = config["encoder"]
    size = encoder["image_size"]
    clip = torch.randint(0, 256, (batch, encoder["frames"], size, size, 3), dtype=torch.uint8)
    forward = model
    if compiled:
        torch._dynamo.reset()  # or a second batch would be compiled for any, and run slower
        forward = torch.compile(model, dynamic=False)
    if not training:
        model.eval()
        with torch.inference_mode():
            return timed(lambda: forward(clip))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            outputs = forward(clip)
            loss = sum(t.float().square().mean() for t in outputs)
        loss.backward()
        optimiser.step()

    return timed(step)


def main(arguments: list) -> bool:
    match arguments:
        case ["compare", folder]:
            return compare(Path(folder))
        case ["bench", config, "eager" | "compiled" as how, *within] if len(within) < 2:
            config = json.loads(Path(config).read_text(encoding="utf-8"))
            return bench(config, how == "compiled", float(*within or ["inf"]))
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
