#!/usr/bin/env python3
"""Stand-ins for the libraries of NVIDIA's driver and toolkit, so that a CUDA program links where they are not.

    scripts/cuda_stubs.py OUT_FOLDER [LIBRARY=OBJECT,...]...

Where OUT_FOLDER is CUDA_HOME/lib/stubs, the linker finds them. The names of their functions are those that cudarc's
bindings declare; every function returns an error ("no device" for the driver), so that the program also starts and says
that there is no GPU. Never put OUT_FOLDER on the library path of a machine that has one.

Functions that the OBJECTs of a library have are those (scripts/pretend_gpu.sh: a GPU on the CPU); such libraries, other
than cuda, are linked with OUT_FOLDER's libcuda.so.1.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# Module of cudarc, library, its name at run time in CUDA 13, the error that every function returns.
LIBRARIES = [
    ("driver", "cuda", "libcuda.so.1", 100),
    ("nvrtc", "nvrtc", "libnvrtc.so.13", 11),
    ("curand", "curand", "libcurand.so.10", 101),
    ("cublas", "cublas", "libcublas.so.13", 1),
    ("cublaslt", "cublasLt", "libcublasLt.so.13", 1),
]


def cudarc_folder() -> Path:
    """The sources of the cudarc that the workspace is built with."""
    command = ["cargo", "metadata", "--format-version", "1", "--features", "mtcae-nn/cuda"]
    said = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True).stdout
    manifests = [p["manifest_path"] for p in json.loads(said)["packages"] if p["name"] == "cudarc"]
    return Path(manifests[0]).parent


def main() -> None:
    if len(sys.argv) < 2 or not all("=" in argument for argument in sys.argv[2:]):
        sys.exit(__doc__)
    cudarc, out = cudarc_folder(), Path(sys.argv[1])
    given = dict(argument.split("=", 1) for argument in sys.argv[2:])
    objects = {library: paths.split(",") for library, paths in given.items()}
    unknown = objects.keys() - {library for _, library, _, _ in LIBRARIES}
    if unknown:
        sys.exit(f"cuda_stubs: no library {', '.join(sorted(unknown))}")
    out.mkdir(parents=True, exist_ok=True)
    for module, library, runtime_name, error in LIBRARIES:
        bindings = (cudarc / "src" / module / "sys" / "mod.rs").read_text(encoding="utf-8")
        names = sorted(set(re.findall(r"\bfn ((?:cu|nvrtc)\w+)\s*\(", bindings)))
        # Weak: a function of an object comes before that of its name here.
        source = "".join(f"__attribute__((weak)) int {name}(void) {{ return {error}; }}\n" for name in names)
        command = ["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-x", "none", f"-Wl,-soname,{runtime_name}"]
        if library in objects:
            command += [*objects[library], "-lstdc++", "-lm", "-lpthread"]
            if library != "cuda":
                command += [out / "libcuda.so.1"]
        subprocess.run([*command, "-o", out / runtime_name], input=source.encode(), check=True)
        link = out / f"lib{library}.so"
        link.unlink(missing_ok=True)
        link.symlink_to(runtime_name)


if __name__ == "__main__":
    main()
