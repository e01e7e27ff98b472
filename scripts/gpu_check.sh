#!/usr/bin/env bash
# Checks and measures the CUDA path on a GPU, in two halves.
#
#   scripts/gpu_check.sh build [FILE]   where there is no GPU: builds one program and packs it with what it needs
#                                       (default target/gpu-check.tar.gz; under 60 MB; no FFmpeg)
#   gpu_check.sh run [OUT [SECTION...]] in the unpacked folder, on a machine with a GPU: the sections named, or all, in
#                                       order; the report is OUT/report.md (default: gpu-report), to which each run
#                                       adds. It fails where anything deviates
#   scripts/gpu_check.sh here [OUT]     both, in a checkout on a machine with a GPU
#
# Sections, each with the seconds after which it is ended (TIMES=2 doubles them):
#   kernels  100  every kernel against its definition          speed    330  inference and training
#   model    150  the model against the CPU                    eager    240  the same in PyTorch
#   training 100  gradients and steps against the CPU          compiled 570  the same in PyTorch, compiled
#   compare   60  the model of `model` against PyTorch
#   memcheck  90  compute-sanitizer, as racecheck, 90
# Three runs, each under ten minutes, make the whole:
#   gpu_check.sh run OUT kernels model training compare memcheck racecheck
#   gpu_check.sh run OUT speed eager
#   gpu_check.sh run OUT compiled
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
    cargo fetch --quiet
    scripts/cuda_stubs.py "$home/lib/stubs"
    # Candle's own kernels become PTX: that of 8.0 runs on all newer GPUs, that of 9.0 on Hopper alone.
    CUDA_HOME=$home CUDA_PATH=$home PATH=$home/bin:$PATH CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} \
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

readonly sections=(kernels model training compare memcheck racecheck speed eager compiled)

run() {
    local out=$1 program=$here/mtcae-gpu failed=0 size=${SIZE:-large} times=${TIMES:-1}
    shift
    [[ $# -gt 0 ]] || set -- "${sections[@]}"
    local name
    for name; do
        [[ " ${sections[*]} " == *" $name "* ]] || fail "$name is none of ${sections[*]}"
    done
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
    say() { printf "$@" | tee -a "$report"; }
    # attempt SECONDS TITLE COMMAND...: its output into the report, its end into `status`.
    local status
    attempt() {
        local limit=$(($1 * times)) title=$2
        shift 2
        say '\n## %s\n\n' "$title"
        status=0
        timeout --kill-after=10 "$limit" "$@" 2>&1 | tee -a "$report" || status=$?
    }
    # judge SECONDS TITLE: says and counts it where that failed, or was ended after its time.
    judge() {
        case $status in
            0) return 0 ;;
            124 | 137) say '\nFAILED: %s: not done after %s s (TIMES=2 allows twice as many)\n' "$2" $(($1 * times)) ;;
            *) say '\nFAILED: %s\n' "$2" ;;
        esac
        failed=1
    }
    section() {
        attempt "$@"
        judge "$1" "$2"
    }
    # sanitize TOOL: a section, unless compute-sanitizer is missing or does not know the GPU or the driver.
    sanitize() {
        if ! command -v compute-sanitizer >/dev/null; then
            say '\nNo compute-sanitizer here: no %s.\n' "$1"
            return
        fi
        local from
        from=$(stat -c %s "$report")
        attempt 90 "compute-sanitizer $1" compute-sanitizer --tool "$1" --error-exitcode 1 "$program" kernels --small
        if tail -c "+$((from + 1))" "$report" | grep -q 'Device not supported'; then
            say '\ncompute-sanitizer refuses this machine: no %s.\n' "$1"
        else
            judge 90 "compute-sanitizer $1"
        fi
    }
    pytorch() {
        if python3 -c 'import torch, safetensors, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
            section "$1" "$2" python3 "$here/gpu_pytorch.py" "${@:3}"
        else
            say '\nNo PyTorch with CUDA here: no "%s".\n' "$2"
        fi
    }
    say '# %s\n\n%s, driver %s, commit %s, `scripts/gpu_check.sh run` of %s\n' \
        "$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0)" "$(date -u +%F)" \
        "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)" \
        "$(cat "$here/commit" 2>/dev/null || echo unknown)" "$*"
    "$program" config --size "$size" >"$out/config.json"
    for name; do
        case $name in
            kernels) section 100 'Kernels against their definitions' "$program" kernels ;;
            model) section 150 'Model against the CPU' "$program" model "$out/model" --size "$size" ;;
            training) section 100 'Gradients and steps against the CPU' "$program" training ;;
            compare)
                if [[ -e $out/model/trace.safetensors ]]; then
                    pytorch 60 'Model against PyTorch' compare "$out/model"
                else
                    say '\nFAILED: there is no %s to compare with PyTorch; the section model makes it\n' "$out/model"
                    failed=1
                fi
                ;;
            memcheck | racecheck) sanitize "$name" ;;
            speed) section 330 'Speed' "$program" bench --size "$size" --within $((280 * times)) ;;
            eager) pytorch 240 'Speed of PyTorch' bench "$out/config.json" eager $((200 * times)) ;;
            compiled) pytorch 570 'Speed of PyTorch, compiled' bench "$out/config.json" compiled $((450 * times)) ;;
        esac
    done
    echo "report: $report"
    return "$failed"
}

case ${1:-} in
    build) build "$(realpath -m "${2:-$here/../target/gpu-check.tar.gz}")" ;;
    run) run "$(realpath -m "${2:-gpu-report}")" "${@:3}" ;;
    here)
        out=$(realpath -m "${2:-gpu-report}")
        build "$here/../target/gpu-check.tar.gz"
        "${CARGO_TARGET_DIR:-$here/../target}/gpu-check/gpu_check.sh" run "$out"
        ;;
    *) sed -n '2,23s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
