#!/usr/bin/env bash
# Libraries that stand in for NVIDIA's driver, cuBLAS and cuRAND and compute on the CPU, so that a CUDA program runs as
# it is where there is no GPU: slowly, but through all of its CUDA path.
#
#   scripts/pretend_gpu.sh FOLDER
#
# FOLDER then has libcuda.so.1, libcublas.so.13, libcublasLt.so.13, libcurand.so.10, libnvrtc.so.13, an empty
# libcudart.so.13 and an nvidia-smi. What is newer than its sources stays. A program is built against them by
#
#   CUDA_HOME=FOLDER CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=80 NVCC=$PWD/scripts/nvcc_check.sh \
#       cargo build --release -p mtcae-gpu --features cuda
#
# which needs no toolkit, and run by
#
#   PATH=FOLDER:$PATH LD_LIBRARY_PATH=FOLDER mtcae-gpu kernels --small
#
# Environment of the program (crates/mtcae-kernels/cuda/host/driver.cpp says more):
#   MTCAE_PRETEND_GPU=KEY=VALUE,...        what GPU: name, capability, memory, driver; `none`: there is none
#   MTCAE_PRETEND_TRACE=FILE               a line for each launch, product, copy, memset and allocation
#   MTCAE_PRETEND_COUNT=1                  computes nothing and takes no memory: for tracing large models
#   MTCAE_PRETEND_FAULT=KIND:PREFIX[:N]    one fault: wrong, hang, sticky or refuse; or memory:BYTES
#
# Never put FOLDER on the library path of a machine that has a GPU.
set -euo pipefail
[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$1/objects"
folder=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
sources=crates/mtcae-kernels/cuda

# The modules as crates/mtcae-kernels/src/cuda/modules.rs lists them: "object source definitions".
modules() {
    python3 - crates/mtcae-kernels/src/cuda/modules.rs <<'PYTHON'
import re, sys
text = open(sys.argv[1], encoding="utf-8").read()
def listed(name):
    return re.search(rf"const {name}\b[^=]*=\s*\[(.*?)\];", text, re.S).group(1)
for source in re.findall(r'"(\w+)"', listed("SOURCES")):
    print(source, source)
attention = re.search(r'const ATTENTION: &str = "(\w+)"', text).group(1)
for suffix, element in re.findall(r'\("(\w+)", "(\w+)"\)', listed("ELEMENTS")):
    for head in re.findall(r"\d+", listed("HEADS")):
        print(f"{attention}_{suffix}_{head} {attention} -DTYPE={element} -DSUFFIX={suffix} -DHEAD={head}")
PYTHON
}
objects() { sed "s|^\([^ ]*\) .*|$folder/objects/\1.o|" | paste -sd,; }

driver=(emulator pretend driver memory launch product candle)
host() { printf '%s host/%s\n' "$1" "$1"; }
all=$(modules; for name in "${driver[@]}" cublas cublaslt curand; do host "$name"; done)

compile() {
    local object=$1/objects/$3.o source=$2/$4
    [[ -e $source.cu ]] && source+=.cu || source+=.cpp
    # Each includes all headers, or as good as.
    if [[ -e $object && -z $(find "$source" "$2" scripts/pretend_gpu.sh -newer "$object" \
        \( -name '*.cuh' -o -name '*.h' -o -name '*.sh' -o -path "$source" \)) ]]; then
        return
    fi
    # A GPU refuses misaligned addresses; in kernels they end the program.
    local checks=()
    [[ $source != *.cu ]] || checks=(-fsanitize=alignment -fsanitize-undefined-trap-on-error)
    "${CXX:-c++}" -std=c++17 -O2 -fPIC -ftls-model=initial-exec -DMTCAE_ON_HOST -I"$2" -Wno-unknown-pragmas "${checks[@]}" \
        "${@:5}" -x c++ -c "$source" -o "$object"
}
export -f compile
xargs -P "${JOBS:-$(nproc)}" -L 1 bash -ec 'compile "$@"' _ "$folder" "$sources" <<<"$all"

if [[ -n $(find "$folder/objects" scripts/cuda_stubs.py Cargo.lock -newer "$folder/libnvrtc.so.13" 2>/dev/null) || ! -e $folder/libnvrtc.so.13 ]]; then
    scripts/cuda_stubs.py "$folder" \
        "cuda=$({ modules; for name in "${driver[@]}"; do host "$name"; done; } | objects)" \
        "cublas=$folder/objects/cublas.o" "cublasLt=$folder/objects/cublaslt.o" "curand=$folder/objects/curand.o"
    "${CC:-cc}" -shared -Wl,-soname,libcudart.so.13 -o "$folder/libcudart.so.13" -x c /dev/null
    ln -sf libcudart.so.13 "$folder/libcudart.so"
    # Where a toolkit would have them.
    ln -sfn . "$folder/lib"
fi
install -m 755 scripts/pretend_nvidia_smi.sh "$folder/nvidia-smi"
