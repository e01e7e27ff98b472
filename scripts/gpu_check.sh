#!/usr/bin/env bash
# Checks and measures the CUDA path on a GPU, in two halves.
#
#   scripts/gpu_check.sh build [FILE]   where there is no GPU: builds one program and packs it with what it needs
#                                       (default target/gpu-check.tar.gz; under 60 MB; no FFmpeg)
#   gpu_check.sh run [OUT]              in the unpacked folder, on a machine with a GPU: parity of every kernel and of
#                                       the model, memory check, benchmarks beside PyTorch; the report goes to
#                                       OUT/report.md (default: gpu-report), and fails where anything deviates
#   scripts/gpu_check.sh here [OUT]     both, in a checkout on a machine with a GPU
#
# `run` needs a driver of CUDA 13.0 (580) or newer and the libraries of CUDA 13 (cuBLAS, cuRAND, cudart), which
# PyTorch's cu13 wheels bring; MTCAE_CUDA_LIB names their folder where they are not found. PyTorch itself is optional.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() { printf 'gpu_check: %s\n' "$*" >&2; exit 1; }

build() {
    cd "$here/.."
    local file=$1 target=${CARGO_TARGET_DIR:-target} home
    home=$(realpath "$(scripts/cuda_toolkit.sh "$target/cuda-toolkit")")
    scripts/cuda_stubs.py "$home/lib/stubs"
    # Candle's own kernels are compiled for one generation: 9.0 is Hopper.
    CUDA_HOME=$home CUDA_PATH=$home PATH=$home/bin:$PATH CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} \
        NVCC=$PWD/scripts/nvcc_quick.sh REAL_NVCC=$home/bin/nvcc \
        CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)} NVCC_APPEND_FLAGS=--compress-mode=size \
        cargo build --release -p mtcae-gpu --features cuda
    local pack=$target/gpu-check
    rm -rf "$pack" && mkdir -p "$pack"
    cp "$target/release/mtcae-gpu" scripts/gpu_check.sh scripts/gpu_pytorch.py fixtures/rebuild_from_checkpoint.py "$pack"
    strip "$pack/mtcae-gpu"
    git rev-parse HEAD >"$pack/commit" 2>/dev/null || true
    # FFmpeg's libraries do not travel with a program.
    if readelf -d "$pack/mtcae-gpu" | grep -E 'NEEDED.*lib(av|sw)'; then fail "the program needs FFmpeg"; fi
    # Without a GPU it must start, and say so.
    local said
    said=$(LD_LIBRARY_PATH=$home/lib/stubs:$home/lib "$pack/mtcae-gpu" training 2>&1) && fail "the program ran without a GPU"
    grep -q 'no NVIDIA GPU' <<<"$said" || fail "without a GPU the program says: $said"
    mkdir -p "$(dirname "$file")"
    tar -C "$(dirname "$pack")" -czf "$file" gpu-check
    local size
    size=$(stat -c %s "$file")
    [[ $size -lt 60000000 ]] || fail "$file has $size bytes; 60 MB are the limit"
    echo "$file: $((size / 1000000)) MB"
}

# The folder of CUDA 13's libraries: given, in a Python package, or in a toolkit.
libraries() {
    local folder
    for folder in "${MTCAE_CUDA_LIB:-}" \
        "$(python3 -c 'import os, nvidia; print(os.path.join(list(nvidia.__path__)[0], "cu13", "lib"))' 2>/dev/null || true)" \
        /usr/local/cuda-13.0/lib64 /usr/local/cuda/lib64; do
        if [[ -n $folder && -e $folder/libcublas.so.13 && -e $folder/libcurand.so.10 ]]; then
            echo "$folder"
            return
        fi
    done
    fail "libcublas.so.13 and libcurand.so.10 are nowhere to be found; MTCAE_CUDA_LIB=FOLDER names where they are"
}

run() {
    local out=$1 program=$here/mtcae-gpu failed=0
    [[ -x $program ]] || fail "there is no $program; run this in the folder that \`build\` packed"
    command -v nvidia-smi >/dev/null ||
        fail "there is no NVIDIA driver here (no nvidia-smi); a GPU of compute capability 8.0 or newer with driver 580 or newer is needed"
    LD_LIBRARY_PATH=$(libraries)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
    local missing
    missing=$(ldd "$program" | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | xargs)
    [[ -z $missing ]] ||
        fail "not to be found: $missing; the driver (580 or newer) brings libcuda.so.1, PyTorch's cu13 wheels or a toolkit the others"
    mkdir -p "$out"
    local report=$out/report.md
    # section TITLE COMMAND...: its output into the report; a failure is said and counted.
    section() {
        local title=$1
        shift
        printf '\n## %s\n\n' "$title" | tee -a "$report"
        if "$@" 2>&1 | tee -a "$report"; then return; fi
        printf '\nFAILED: %s\n' "$title" | tee -a "$report"
        failed=1
    }
    {
        echo "# $(nvidia-smi --query-gpu=name --format=csv,noheader -i 0)"
        echo
        echo "$(date -u +%F), driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)," \
            "commit $(cat "$here/commit" 2>/dev/null || echo unknown), \`scripts/gpu_check.sh run\`"
    } | tee "$report"
    section 'Kernels against their definitions' "$program" kernels
    section 'Model against the CPU' "$program" model "$out/model" --size "${SIZE:-large}"
    section 'Gradients and steps against the CPU' "$program" training
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck; do
            section "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$program" kernels --small
        done
    else
        printf '\nNo compute-sanitizer here: no memory check.\n' | tee -a "$report"
    fi
    section 'Speed' "$program" bench --size "${SIZE:-large}"
    if python3 -c 'import torch, safetensors, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        section 'Model against PyTorch' python3 "$here/gpu_pytorch.py" compare "$out/model"
        section 'Speed of PyTorch' python3 "$here/gpu_pytorch.py" bench "$out/model"
    else
        printf '\nNo PyTorch with CUDA here: nothing is compared with it.\n' | tee -a "$report"
    fi
    echo "report: $report"
    return "$failed"
}

case ${1:-} in
    build) build "$(realpath -m "${2:-$here/../target/gpu-check.tar.gz}")" ;;
    run) run "$(realpath -m "${2:-gpu-report}")" ;;
    here)
        out=$(realpath -m "${2:-gpu-report}")
        build "$here/../target/gpu-check.tar.gz"
        "${CARGO_TARGET_DIR:-$here/../target}/gpu-check/gpu_check.sh" run "$out"
        ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
