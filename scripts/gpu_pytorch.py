#!/usr/bin/env python3
"""The model that `mtcae-gpu model` drew, in PyTorch on the same GPU.

    gpu_pytorch.py compare FOLDER       every intermediate of FOLDER/trace.safetensors against float64, and the model
                                        that `bench` times against the same
    gpu_pytorch.py bench CONFIG eager|blocks|whole [--precision bf16,tf32,f32] [--batch 8,16,1]
                   [--what inference,training] [--seconds S] [--within S] [--attention cudnn,flash,efficient]
                                        inference and training steps of a model of this config, as `mtcae-gpu config`
                                        prints it; tables in Markdown, each row printed as soon as it is measured
        eager     as PyTorch runs it
        blocks    each encoder block and decoder layer compiled; one compilation serves all of a kind
        whole     the model compiled as one; replayed as a CUDA graph in inference on one clip
        --within  seconds from the start after which no further row begins
    --device cpu                        both without a GPU, to try this script

The model is that of fixtures/rebuild_from_checkpoint.py, written from docs/checkpoint-format.md alone. What `bench`
times has the same weights in what is fastest in PyTorch: scaled_dot_product_attention by the backend that proves
fastest for each shape, biases joined once, no intermediates kept. The weights are PyTorch's own, which the time does
not depend on.
"""

import time

START = time.monotonic()  # importing PyTorch takes seconds of those within which rows may begin

import argparse  # noqa: E402
import functools  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fixtures")]
import rebuild_from_checkpoint as rebuild  # noqa: E402

TOLERANCE = 1e-4  # of max|difference| / max|reference|
INFERENCE, TRAINING, TRAINING_BF16 = "inference", "training", "training, bf16 residual stream"
DTYPES = {"bf16": torch.bfloat16, "tf32": torch.float32, "f32": torch.float32}
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def say(line: str = "") -> None:
    """Prints a line that stands even if the process is killed after it."""
    print(line, flush=True)


def in_a_cell(error: BaseException) -> str:
    """What an error says, as far as a table has room."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")
    text = text.split(" Set TORCHDYNAMO_VERBOSE")[0]  # advice that a compiler's errors end with
    return text if len(text) <= 300 else text[:297] + "..."


# -------------------------------------------------------------------------------------------------- the model, faster


def joined(given: nn.Linear, biases: list[Tensor]) -> nn.Linear:
    """A layer without a bias, and with one made of these."""
    given.bias = nn.Parameter(torch.cat([bias.detach() for bias in biases]))
    return given


def split(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, N, parts·heads·width) as `parts` tensors (B, heads, N, width), nothing moved."""
    return x.view(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self, given: rebuild.SelfAttention):
        super().__init__()
        self.heads, self.proj = given.heads, given.proj
        self.qkv = joined(given.qkv, [given.q_bias, torch.zeros_like(given.q_bias), given.v_bias])

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attention(*split(self.qkv(x), 3, self.heads)))


class CrossAttention(nn.Module):
    def __init__(self, given: rebuild.CrossAttention):
        super().__init__()
        self.heads, self.proj, self.q = given.heads, given.proj, given.q
        self.kv = joined(given.kv, [torch.zeros_like(given.v_bias), given.v_bias])

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.proj(attention(*split(self.q(y), 1, self.heads), *split(self.kv(x), 2, self.heads)))


class NormInItsType(nn.Module):
    """A norm that returns the type it is given; under autocast it would return f32."""

    def __init__(self, given: nn.LayerNorm):
        super().__init__()
        self.weight, self.bias, self.eps = given.weight, given.bias, given.eps

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def replace(model: nn.Module, kind: type[nn.Module], by: Callable[[nn.Module], nn.Module]) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is kind:
                setattr(module, name, by(child))


class HeadsAlone:
    """Keeps of a trace what the heads give."""

    def __init__(self):
        self.heads = []

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        if name.startswith("head."):
            self.heads.append(tensor)


class Fast(nn.Module):
    """From clips (B, T, H, W, 3) of levels to what the heads give."""

    def __init__(self, given: rebuild.Model, stream: torch.dtype, backends: list[list[SDPBackend]]):
        """`stream` is the residual stream's type; `backends` those of self and of cross attention."""
        super().__init__()
        self.encoder, self.decoder = given.encoder, given.decoder
        replace(self, rebuild.SelfAttention, SelfAttention)
        replace(self, rebuild.CrossAttention, CrossAttention)
        self.stream, self.backends = stream, backends
        # Levels become numbers after they are in their tubes, as bytes, in which the channel is the slowest dimension.
        numbers = self.encoder.patch_embed.proj.in_features // len(given.mean)
        self.scale = (1 / (255 * given.std)).repeat_interleave(numbers)
        self.shift = (-given.mean / given.std).repeat_interleave(numbers)

    def forward(self, clip: Tensor) -> list[Tensor]:
        encoder = self.encoder
        levels = encoder.patch_embed.tubes(clip.permute(0, 1, 4, 2, 3))
        tubes = torch.addcmul(self.shift, levels.float(), self.scale).to(self.stream)
        t = encoder.patch_embed.proj(tubes) + encoder.pos_embed.to(self.stream)
        with sdpa_kernel(self.backends[0]):
            for block in encoder.blocks:
                t = block(t)
        kept = HeadsAlone()
        with sdpa_kernel(self.backends[1]):
            self.decoder(encoder.norm(t), kept)
        return kept.heads


# --------------------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Difference:
    """How far a tensor is from another; `error` is infinite where it has NaN, or another shape."""

    error: float
    text: str

    @staticmethod
    def of(name: str, got: Tensor, want: Tensor) -> "Difference":
        if got.shape != want.shape:
            return Difference(float("inf"), f"{name}: shape {list(got.shape)}, wanted {list(want.shape)}")
        scale = want.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
        errors = (got.double() - want).abs() / scale
        nan = int(got.isnan().sum())
        errors = errors.nan_to_num(nan=float("inf"), posinf=float("inf"))
        worst = int(errors.argmax())
        index = [int(i) for i in torch.unravel_index(torch.tensor(worst), errors.shape)]
        error, off = errors.flatten()[worst].item(), int((errors > TOLERANCE).sum())
        return Difference(
            error,
            f"{name} {list(got.shape)}: {error:.1e} at {index}: got {got.flatten()[worst].item():.9g}, "
            f"wanted {want.flatten()[worst].item():.9g}; {off} of {got.numel()} off by more than {TOLERANCE:.0e}, "
            f"{nan} NaN",
        )


def judge(what: str, got: dict[str, Tensor], want: dict[str, Tensor]) -> bool:
    """Whether each of `want` is in `got` to TOLERANCE; says what is not, in the order of the computation."""
    good = True
    for name in sorted(got.keys() - want.keys()):
        say(f"FAILED {what}: {name} is not one of the model's")
        good = False
    differences = []
    for name, reference in want.items():
        if name in got:
            differences.append(Difference.of(name, got[name], reference))
        else:
            say(f"FAILED {what}: {name} is missing")
            good = False
    worst = max(differences, key=lambda difference: difference.error, default=Difference(0.0, "nothing"))
    wrong = [difference for difference in differences if not difference.error <= TOLERANCE]
    good = good and not wrong
    say(f"{'ok' if good else 'FAILED':6} {worst.error:.1e} of {TOLERANCE:.1e}  {what}, {len(differences)} tensors")
    if wrong:
        say(f"       off: {len(wrong)}, the first {wrong[0].text}")
        if worst is not wrong[0]:
            say(f"       the worst {worst.text}")
    return good


@torch.no_grad()
def compare(folder: Path, device: str) -> bool:
    torch.set_float32_matmul_precision("highest")
    say(f"PyTorch {torch.__version__} on {device}")
    ours = load_file(folder / "trace.safetensors", device=device)
    if "clip" not in ours:
        raise ValueError(f"{folder / 'trace.safetensors'} has no clip")
    clip = ours.pop("clip")[None]
    with torch.device(device):
        model, given = rebuild.build(folder).double(), rebuild.build(folder)
    theirs = model(clip)
    good = judge("trace", ours, theirs)
    fast = Fast(given, torch.float32, [[SDPBackend.MATH]] * 2).eval()
    heads = {name: tensor for name, tensor in theirs.items() if name.startswith("head.")}
    return judge("the model that `bench` times", dict(zip(heads, fast(clip), strict=True)), heads) and good


# ------------------------------------------------------------------------------------------------------------- timing


class Gpu:
    """The state of the GPU that PyTorch computes on, as far as nvidia-smi tells it."""

    REASONS = {
        0x2: "set clocks", 0x4: "power cap", 0x8: "hardware slowdown", 0x10: "sync boost", 0x20: "heat (software)",
        0x40: "heat (hardware)", 0x80: "power brake", 0x100: "display clocks",
    }  # fmt: skip

    def __init__(self, device: str):
        self.fields = ["clocks_event_reasons.active", "clocks_throttle_reasons.active"]  # newer and older drivers'
        self.command = None
        if device == "cuda" and shutil.which("nvidia-smi"):
            uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
            self.command = [
                "nvidia-smi",
                "--format=csv,noheader,nounits",
                "-i",
                f"GPU-{str(uuid).removeprefix('GPU-')}" if uuid else "0",
            ]

    def state(self) -> str:
        """`MHz W reasons`; empty where it cannot be told."""
        while self.command and self.fields:
            query = f"--query-gpu=clocks.sm,power.draw,{self.fields[0]}"
            try:
                done = subprocess.run([*self.command, query], capture_output=True, text=True, timeout=5)
                if done.returncode == 0:
                    clock, power, active = (field.strip() for field in done.stdout.splitlines()[0].split(","))
                    names = [name for bit, name in self.REASONS.items() if int(active, 16) & bit]
                    return f"{clock} {power} {' + '.join(names) or '-'}"
            except (subprocess.TimeoutExpired, OSError, ValueError, IndexError):
                pass
            del self.fields[0]
        return ""


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Timing:
    seconds: float  # the median of a call
    first: float  # seconds of the first call, in which all is compiled
    state: str  # of the GPU before and after


def timed(call: Callable[[], object], seconds: float, device: str, gpu: Gpu | None = None) -> Timing:
    def once() -> float:
        begin = time.perf_counter()
        call()
        synchronise(device)
        return time.perf_counter() - begin

    first, *_ = [once() for _ in range(3)]
    before = gpu.state() if gpu else ""
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        times.append(once())
    after = gpu.state() if gpu else ""
    return Timing(statistics.median(times), first, f"{before} → {after}" if before else "")


# ---------------------------------------------------------------------------------------------------------- attention


@dataclass(frozen=True)
class Shape:
    """One of the model's two attentions, over as many keys as queries."""

    what: str
    tokens: int
    heads: int
    width: int

    def inputs(self, batch: int, **kind) -> tuple[list[Tensor], Callable[[list[Tensor]], list[Tensor]]]:
        """What the layers before it give, and how queries, keys and values lie in that."""
        parts = [3] if self.what == "self" else [1, 2]
        packed = [torch.randn(batch, self.tokens, n * self.heads * self.width, **kind) for n in parts]
        return packed, lambda xs: [t for x, n in zip(xs, parts, strict=True) for t in split(x, n, self.heads)]


def shapes(config: dict) -> list[Shape]:
    encoder, decoder = config["encoder"], config["decoder"]
    tokens = (encoder["frames"] // encoder["tubelet"]) * (encoder["image_size"] // encoder["patch"]) ** 2
    return [
        Shape("self", tokens, encoder["heads"], encoder["width"] // encoder["heads"]),
        Shape("cross", tokens, decoder["heads"], decoder["head_dim"]),
    ]


def time_attention(shape: Shape, backend: str, batch: int, dtype: torch.dtype, training: bool, device: str) -> float:
    """Milliseconds of a forward, or of one and its backward."""
    packed, split_up = shape.inputs(batch, dtype=dtype, device=device)
    with sdpa_kernel(BACKENDS[backend]):
        if not training:
            with torch.inference_mode():
                return 1e3 * timed(lambda: attention(*split_up(packed)), 0.05, device).seconds
        packed = [x.requires_grad_() for x in packed]
        gradient = torch.randn(batch, shape.tokens, shape.heads * shape.width, dtype=dtype, device=device)
        step = lambda: torch.autograd.grad(attention(*split_up(packed)), packed, gradient)  # noqa: E731
        return 1e3 * timed(step, 0.05, device).seconds


def refusal(error: BaseException, said: list[warnings.WarningMessage]) -> str:
    """Why a backend does not take a shape: PyTorch raises that there is none, and warns why."""
    texts = [str(warning.message).split(" (Triggered")[0] for warning in said]
    reasons = [text for text in texts if "not used because" not in text and "runtime disabled" not in text]
    return " ".join(" ".join(reasons).split()).replace("|", "/")[:200] or in_a_cell(error)


Fastest = dict[tuple[str, int, bool], str]


def attention_table(config: dict, precision: str, options: argparse.Namespace) -> Fastest:
    """Times each backend on each shape; the fastest of each shape, batch and direction."""
    fastest: Fastest = {}
    say("| attention | heads | precision | batch | backend | forward, ms | forward and backward, ms |")
    say("|---|---|---|---|---|---|---|")
    for batch, shape in [(batch, shape) for batch in options.batch for shape in shapes(config)]:
        directions = [training for training in (False, True) if wanted(options.what, training, batch)]
        best: dict[bool, float] = {}
        for backend in dict.fromkeys([*options.attention, "math"]):
            # The plain one, which keeps all weights of attention, only where there is no other.
            todo = [t for t in directions if backend != "math" or t not in best]
            if not todo:
                continue
            if time.monotonic() - START > options.within:
                return fastest
            cells = {False: "", True: ""}
            for training in todo:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    try:
                        ms = time_attention(shape, backend, batch, DTYPES[precision], training, options.device)
                    except (RuntimeError, ValueError) as error:
                        text = f"refused: {refusal(error, said)}"
                        cells[training] = "refused" if text in cells.values() else text
                        continue
                cells[training] = f"{ms:.3f}"
                if ms < best.get(training, float("inf")):
                    best[training] = ms
                    fastest[shape.what, batch, training] = backend
            heads = f"{shape.heads} of {shape.width}"
            say(f"| {shape.what} | {heads} | {precision} | {batch} | {backend} | {cells[False]} | {cells[True]} |")
        tidy(options.device)
    return fastest


# -------------------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    what: str
    precision: str
    batch: int

    @property
    def training(self) -> bool:
        return self.what != INFERENCE

    def __str__(self) -> str:
        return f"{self.what} {self.precision} {self.batch}"


def wanted(what: list[str], training: bool, batch: int) -> bool:
    """Training on one clip tells nothing."""
    return (TRAINING if training else INFERENCE) in what and not (training and batch == 1)


def rows(precision: str, options: argparse.Namespace) -> Iterator[Row]:
    for batch in options.batch:
        if wanted(options.what, False, batch):
            yield Row(INFERENCE, precision, batch)
        if wanted(options.what, True, batch):
            yield Row(TRAINING, precision, batch)
            # Compiling the whole takes minutes, and the blocks have shown by then what this makes of it.
            if precision == "bf16" and options.mode != "whole":
                yield Row(TRAINING_BF16, precision, batch)


def tidy(device: str) -> bool:
    """Gives back what nothing uses any more. False where the device fails at that: some errors leave it unusable."""
    gc.collect()
    try:
        if device == "cuda":
            torch.cuda.empty_cache()
        torch.zeros(1, device=device).add(1)
        synchronise(device)
    except RuntimeError:
        return False
    return True


def compiled(model: Fast, row: Row, mode: str) -> Callable[[Tensor], list[Tensor]]:
    if mode == "blocks":
        for kind in (rebuild.EncoderBlock, rebuild.DecoderLayer):
            # One function for all: what is compiled takes a block's parameters as it takes the tokens.
            forward = torch.compile(kind.forward, dynamic=False, fullgraph=True)
            for module in model.modules():
                if type(module) is kind:
                    module.forward = functools.partial(forward, module)
    elif mode == "whole":
        graph = row.batch == 1 and not row.training
        return torch.compile(model, dynamic=False, mode="reduce-overhead" if graph else None)
    return model


def measure(config: dict, row: Row, backends: list[str], gpu: Gpu, options: argparse.Namespace) -> tuple[Timing, str]:
    """How long it takes, and the GB at most."""
    device, dtype = options.device, DTYPES[row.precision]
    stream = torch.float32 if row.what == TRAINING else dtype
    allowed = [[BACKENDS[backend]] if backend else list(BACKENDS.values()) for backend in backends]
    with torch.device(device):  # here alone: as PyTorch's default it would slow each call, and hinder compiling
        model = Fast(rebuild.Model(config), stream, allowed)
    if row.what == TRAINING_BF16:
        replace(model, nn.LayerNorm, NormInItsType)
    encoder = config["encoder"]
    size = encoder["image_size"]
    clip = torch.randint(0, 256, (row.batch, encoder["frames"], size, size, 3), dtype=torch.uint8, device=device)
    if row.training:
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    else:
        model.to(dtype).eval()
    torch._dynamo.reset()  # or a second batch would be compiled for any, and run slower
    torch._dynamo.utils.counters.clear()
    forward = compiled(model, row, options.mode)
    tidy(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=row.precision == "bf16"):
            loss = sum(t.float().square().mean() for t in forward(clip))
        loss.backward()
        optimiser.step()

    if row.training:
        timing = timed(step, options.seconds, device, gpu)
    else:
        with torch.inference_mode() if options.mode == "eager" else torch.no_grad():
            timing = timed(lambda: forward(clip), options.seconds, device, gpu)
    return timing, f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if device == "cuda" else ""


class Bench:
    """The tables, precision by precision: its attention, then its rows, so that the first one's rows come first."""

    def __init__(self, config: dict, options: argparse.Namespace):
        self.config, self.options, self.gpu = config, options, Gpu(options.device)
        self.left = [row for precision in options.precision for row in rows(precision, options)]
        self.measured = 0

    def run(self) -> bool:
        """Whether any row could be measured, or there was time for none."""
        options = self.options
        planned = len(self.left)
        name = torch.cuda.get_device_name(0) if options.device == "cuda" else "CPU"
        cudnn = torch.backends.cudnn.version()
        say(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}, {name}; {options.mode}.")
        say(f"- Each row: the median of {options.seconds:g} s, 5 calls at least, after 3.")
        say("- Attention: the backend of self and that of cross attention, each the fastest for the row.")
        say(f"- Autocast (`{TRAINING}`) keeps the encoder's residual stream in f32; ours is bf16 (`{TRAINING_BF16}`).")
        say("- Our TF32 row computes attention in 3xTF32 (f32 accuracy).")
        for precision in options.precision:
            if not (self.in_time() and self.precision(precision)):
                break
        if self.left:
            say(f"\nNot measured: {self.not_measured()}.")
        return self.measured > 0 or len(self.left) == planned

    def in_time(self) -> bool:
        return time.monotonic() - START <= self.options.within

    def not_measured(self) -> str:
        return "; ".join(map(str, self.left))

    def precision(self, precision: str) -> bool:
        """Whether there may be time for another."""
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        say()
        fastest = attention_table(self.config, precision, self.options)
        say()
        say("| what | precision | batch | attention | ms | clips/s | GB at most | compiled | MHz, W, throttle |")
        say("|---|---|---|---|---|---|---|---|---|")
        for row in rows(precision, self.options):
            if not self.in_time():
                return False
            self.row(row, [fastest.get((shape.what, row.batch, row.training), "") for shape in shapes(self.config)])
            del self.left[0]
            if not tidy(self.options.device):
                say("\nNothing computes on the device after that.")
                return False
        return True

    def row(self, row: Row, backends: list[str]) -> None:
        names = ", ".join(backend or "any" for backend in backends)
        line = f"| {row.what}, {self.options.mode} | {row.precision} | {row.batch} | {names} |"
        try:
            timing, gigabytes = measure(self.config, row, backends, self.gpu, self.options)
        except Exception as error:  # a row that fails, in a compiler for one, leaves the others alone
            say(f"{line} FAILED: {in_a_cell(error)} | | | | |")
            return
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        made = f"{graphs} in {timing.first - timing.seconds:.0f} s" if graphs else ""
        ms, rate = f"{1e3 * timing.seconds:.2f}", f"{row.batch / timing.seconds:.1f}"
        say(f"{line} {ms} | {rate} | {gigabytes} | {made} | {timing.state} |")
        self.measured += 1

    def end(self, *_: object) -> None:
        """On SIGTERM, which may come in the middle of a row."""
        os.write(1, f"\nEnded by a signal. Not measured: {self.not_measured() or 'nothing'}.\n".encode())
        os._exit(1)


def bench(config: dict, options: argparse.Namespace) -> bool:
    warnings.simplefilter("ignore")  # they would stand in the middle of a table
    torch._logging.set_logs(all=logging.ERROR)
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # or the rest would silently be eager
    tables = Bench(config, options)
    signal.signal(signal.SIGTERM, tables.end)
    return tables.run()


# ---------------------------------------------------------------------------------------------------------- arguments


def list_of(kind: Callable[[str], object], allowed: list | None = None) -> Callable[[str], list]:
    """Reads a list with commas."""

    def read(text: str) -> list:
        values = [kind(word) for word in text.split(",")]
        for value in values:
            if allowed and value not in allowed:
                raise argparse.ArgumentTypeError(f"{value} is not one of {', '.join(map(str, allowed))}")
            if isinstance(value, int) and value < 1:
                raise argparse.ArgumentTypeError(f"{value} is not a number of clips")
        return values

    read.__name__ = "list"
    return read


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compare", parents=[common])
    command.add_argument("folder", type=Path)
    command = commands.add_parser("bench", parents=[common])
    command.add_argument("config", type=Path)
    command.add_argument("mode", choices=["eager", "blocks", "whole"])
    command.add_argument("--precision", type=list_of(str, list(DTYPES)), default="bf16,tf32,f32")
    command.add_argument("--batch", type=list_of(int), default="8,16,1")
    command.add_argument("--what", type=list_of(str, [INFERENCE, TRAINING]), default="inference,training")
    command.add_argument("--seconds", type=float, default=3.0)
    command.add_argument("--within", type=float, default=float("inf"))
    command.add_argument("--attention", type=list_of(str, list(BACKENDS)), default="cudnn,flash,efficient")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        say(f"PyTorch {torch.__version__} finds no NVIDIA GPU here")
        return False
    if options.command == "compare":
        return compare(options.folder, options.device)
    return bench(json.loads(options.config.read_text(encoding="utf-8")), options)


if __name__ == "__main__":
    try:
        sys.exit(0 if main(sys.argv[1:]) else 1)
    except (OSError, ValueError, SafetensorError) as error:
        sys.exit(f"gpu_pytorch: {error}")
