#!/usr/bin/env bash
# Checks and measures the CUDA path on a GPU, in two halves.
#
#   scripts/gpu_check.sh build [FILE]   where there is no GPU: builds two programs and packs them with what they need
#                                       (default target/gpu-check.tar.gz; under 60 MB; no FFmpeg)
#   gpu_check.sh run [OUT [first|second|SECTION...]]
#                                       in the unpacked folder, on a machine with a GPU; the report is OUT/report.md
#                                       (default: gpu-report), to which each run adds. It fails where anything deviates
#   scripts/gpu_check.sh here [OUT]     both, in a checkout on a machine with a GPU
#
# A call takes nine minutes at most (`--within SECONDS`); what there was no time for is named, and the report ends with
# the command that goes on. `first` is correctness in bf16 and f32 and speed in bf16 beside PyTorch; `second` is the
# rest. `gpu_check.sh run --help` lists all sections.
#
# `run` needs a driver of CUDA 13.0 (580) or newer and the libraries of CUDA 13 (cuBLAS, cuRAND, cudart), which
# PyTorch's cu13 wheels bring; MTCAE_CUDA_LIB names their folder where they are not found. PyTorch itself is optional.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() { printf 'gpu_check: %s\n' "$*" >&2; exit 1; }

build() {
    cd "$here/.."
    local file=$1 target=${CARGO_TARGET_DIR:-target} home
    home=$(realpath "$(scripts/cuda_toolkit.sh "${CUDA_TOOLKIT:-$target/cuda-toolkit}")")
    cargo fetch --quiet
    scripts/cuda_stubs.py "$home/lib/stubs"
    # Candle's own kernels become PTX: that of 8.0 runs on all newer GPUs, that of 9.0 on Hopper alone.
    CUDA_HOME=$home CUDA_PATH=$home PATH=$home/bin:$PATH CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} \
        NVCC=$PWD/scripts/nvcc_quick.sh REAL_NVCC=$home/bin/nvcc \
        CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)} NVCC_APPEND_FLAGS=--compress-mode=size \
        cargo build --release -p mtcae-gpu --features cuda
    local pack=$target/gpu-check
    rm -rf "$pack" && mkdir -p "$pack"
    cp "$target"/release/{mtcae-gpu,gpu-check} scripts/gpu_check.sh scripts/gpu_pytorch.py \
        fixtures/rebuild_from_checkpoint.py "$pack"
    strip "$pack"/{mtcae-gpu,gpu-check}
    git rev-parse HEAD >"$pack/commit" 2>/dev/null || true
    # FFmpeg's libraries do not travel with a program, and the conductor must start where CUDA's are missing.
    if readelf -d "$pack/mtcae-gpu" | grep -E 'NEEDED.*lib(av|sw)'; then fail "the program needs FFmpeg"; fi
    if readelf -d "$pack/gpu-check" | grep -E 'NEEDED.*lib(cu|nvrtc)'; then fail "gpu-check needs CUDA"; fi
    # Without a GPU it must start, and say so.
    local said
    local -x LD_LIBRARY_PATH=$home/lib/stubs:$home/lib
    said=$("$pack/mtcae-gpu" training 2>&1) && fail "the program ran without a GPU"
    grep -q 'no NVIDIA GPU' <<<"$said" || fail "without a GPU the program says: $said"
    # PyTorch is measured also where the program does not start.
    "$pack/mtcae-gpu" config >"$pack/config-large.json"
    mkdir -p "$(dirname "$file")"
    tar -C "$(dirname "$pack")" -czf "$file" gpu-check
    local size
    size=$(stat -c %s "$file")
    [[ $size -lt 60000000 ]] || fail "$file has $size bytes; 60 MB are the limit"
    echo "$file: $((size / 1000000)) MB"
}

run() {
    [[ -x $here/gpu-check ]] || fail "there is no $here/gpu-check; run this in the folder that \`build\` packed"
    exec "$here/gpu-check" "$@"
}

case ${1:-} in
    build) build "$(realpath -m "${2:-$here/../target/gpu-check.tar.gz}")" ;;
    run) run "${@:2}" ;;
    here)
        out=$(realpath -m "${2:-gpu-report}")
        build "$(realpath -m "$here/../target/gpu-check.tar.gz")"
        exec "${CARGO_TARGET_DIR:-$here/../target}/gpu-check/gpu_check.sh" run "$out"
        ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
