"""What a comparison runs on, to be printed above its table, and how its engines are held to one instruction set."""

import os
import subprocess
import sys
from importlib import metadata

# Beside MTCAE_ISA. oneDNN and ATen take the best that the CPU has up to what is named; AVX512_CORE_FP16 is all but AMX.
HELD = {
    "amx": {},
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "portable": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}

# What of an engine asks the CPU whatever it is told.
NOT_HELD = {
    "torch-f32": "MKL's products, on CPUs that are not Intel's",
    "torch-compiled-f32": "MKL's products, on CPUs that are not Intel's",
    "onnxruntime-f32": "all of it",
    "openvino-f32": "MLAS, for some of its layers; norms",
    "openvino-bf16": "norms",
}


def add_argument(parser) -> None:
    parser.add_argument(
        "--isa",
        choices=HELD,
        default=os.environ.get("MTCAE_ISA") or None,
        help="hold every engine to an instruction set, as far as it obeys [default: MTCAE_ISA, or what each finds]",
    )


def held(isa: str | None) -> dict[str, str]:
    """The variables that hold the peers. Of a name that is none, our `machine` says so."""
    return HELD.get(isa, {})


def environment(isa: str | None, threads: int) -> dict[str, str]:
    """That of an engine's process."""
    count = {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    ours = {"MTCAE_ISA": isa} if isa else {}
    return {**os.environ, **count, **ours, **held(isa)}


def describe(program: str, isa: str | None, threads: int, packages: list[str]) -> dict[str, str]:
    """Prints the CPU, the instruction set and what it is held by, what registers alone reach, threads and versions; what
    our `machine`, which lies beside `program`, says of it comes back by the names that it gives it."""
    command = [os.path.join(os.path.dirname(program) or ".", "machine")]
    try:
        run = subprocess.run(command, env=environment(isa, threads), stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]}: not found; cargo build --release -p mtcae-benches --examples makes it")
    if run.returncode != 0:
        sys.exit(run.returncode)
    print(run.stdout, end="")
    variables = " ".join(f"{name}={value}" for name, value in held(isa).items())
    print(f"peers held by: {variables or 'nothing; each takes what it finds'}")
    print("peers: " + ", ".join(f"{name} {metadata.version(name)}" for name in packages))
    return dict(line.split(": ", 1) for line in run.stdout.splitlines())


def not_held(engine: str, isa: str | None) -> str:
    """What of an engine is not held to the instruction set, for its row."""
    return NOT_HELD.get(engine, "") if held(isa) else ""
