#!/usr/bin/env bash
# What can be proved of the CUDA path without a GPU and without an installed toolkit:
#
# 1. every kernel compiles to PTX for compute capability 8.0 (all variants, as they are
#    shipped) and 9.0a (every source, with the models' own heads); attention of the models
#    becomes machine code for 8.0 and 9.0 that neither spills registers nor has a stack frame;
# 2. the whole path passes clippy, with Candle's kernels left out;
# 3. on a pretend GPU (scripts/pretend_gpu.sh) the program mtcae-gpu, whole with
#    Candle and cudarc, finds that every kernel equals its definition, and a tiny model and
#    its training those of the CPU; encoders of every family give PyTorch's intermediates and
#    gradients; and gpu_check.sh says what is wrong where faults are
#    injected.
#
#   scripts/check_cuda.sh [ptx|lint|pretend]...      default: all of them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}
steps=("$@")
[[ $# -gt 0 ]] || steps=(ptx lint pretend)
jobs=${JOBS:-$(nproc)}

# Every module as "source suffix type head", the last three for attention alone, with
# the given types and heads of attention.
modules() {
    local types=$1 heads=$2 source element head
    for source in layer_norm gelu rows tubes adamw cross_entropy conv pool area; do
        echo "$source - - -"
    done
    for element in $types; do
        for head in $heads; do
            echo "attention ${element/:/ } $head"
        done
    done
}

compile() {
    local nvcc=$1 architecture=$2 out=$3 source=$4 suffix=$5 type=$6 head=$7 definitions=() name=$4
    if [[ $head != - ]]; then
        definitions=(-DTYPE="$type" -DSUFFIX="$suffix" -DHEAD="$head")
        name+=_${suffix}_$head
    fi
    "$nvcc" --ptx -O3 -std=c++17 -arch "$architecture" "${definitions[@]}" \
        -o "$out/$name.$architecture.ptx" "crates/mtcae-kernels/cuda/$source.cu"
}
export -f compile

for step in "${steps[@]}"; do
    echo "== check-cuda: $step (${SECONDS}s)"
    case $step in
        ptx)
            home=$(scripts/cuda_toolkit.sh "$target/cuda-toolkit")
            out=$target/cuda-check/ptx
            rm -rf "$out" && mkdir -p "$out"
            compile_all() {
                xargs -P "$jobs" -L 1 bash -c 'compile "$@"' _ "$home/bin/nvcc" "$1" "$out"
            }
            modules 'f32:float bf16:bf16 f16:f16' '32 64 80 128 176 256' | compile_all compute_80
            modules 'f32:float bf16:bf16' '64 176' | compile_all compute_90a
            # What ptxas makes of a module: a line for each kernel with its registers, and
            # with spills and stack frame where there are any.
            machine_code() {
                local name=$1 architecture=$2 said
                said=$("$home/bin/ptxas" -v -arch "$architecture" -o "$out/$name.$architecture.cubin" \
                    "$out/$name.compute_${architecture#sm_}.ptx" 2>&1) || {
                    echo "check-cuda: ptxas fails on $name for $architecture: $said" >&2
                    exit 1
                }
                awk -v architecture="$architecture" '
                    /Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2] }
                    /bytes stack frame/ { memory = $0; sub(/^ */, "", memory) }
                    /Used [0-9]+ registers/ {
                        match($0, /Used [0-9]+ registers/)
                        line = architecture " " kernel ": " substr($0, RSTART + 5, RLENGTH - 5)
                        if (memory ~ /(^|[ ,])[1-9][0-9]* bytes/) line = line ", " memory
                        print line
                    }' <<<"$said"
            }
            # The heads of the encoder (64) and of the decoder (176) in the types they run in
            # must keep everything in registers.
            for name in attention_{f32,bf16}_{64,176}; do
                for architecture in sm_80 sm_90a; do
                    machine_code "$name" "$architecture" | tee "$out/$name.$architecture.registers"
                    [[ $(wc -l <"$out/$name.$architecture.registers") == 4 ]] || {
                        echo "check-cuda: $name for $architecture: not four kernels" >&2
                        exit 1
                    }
                    if grep bytes "$out/$name.$architecture.registers" >/dev/null; then
                        echo "check-cuda: $name spills registers or has a stack frame on $architecture" >&2
                        exit 1
                    fi
                done
            done
            # The largest head, which no model here has, does spill in f32, as docs/cuda.md says.
            machine_code attention_f32_256 sm_80 | grep bytes || true
            echo "$(ls "$out"/*.ptx | wc -l) PTX files, $(du -sh "$out" | cut -f1)"
            ;;
        lint)
            # The crates that know of CUDA and those whose tests run on it; the others only hand the
            # feature on. A target directory of its own: build scripts keep what nvcc made,
            # whichever nvcc it was.
            crates=()
            for crate in kernels nn encoder decoder model objective faces ranks gpu; do crates+=(-p "mtcae-$crate"); done
            env -u REAL_NVCC NVCC="$PWD/scripts/nvcc_check.sh" CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=80 \
                CARGO_TARGET_DIR="$target/cuda-check" \
                cargo clippy "${crates[@]}" --features mtcae-faces/cuda,mtcae-objective/cuda,mtcae-ranks/nccl,mtcae-gpu/cuda,mtcae-nn/checks \
                --all-targets -- -D warnings
            ;;
        pretend)
            pretend=$(realpath -m "$target/pretend-gpu")
            JOBS=$jobs scripts/pretend_gpu.sh "$pretend"
            # Compiling takes longer than running: hardly optimised, in a directory of its own.
            build() {
                env -u REAL_NVCC NVCC="$PWD/scripts/nvcc_check.sh" CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=80 \
                    CUDA_HOME="$pretend" CARGO_TARGET_DIR="$target/cuda-check" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
                    cargo "$@" --release --features cuda
            }
            build build -p mtcae-gpu
            # Encoders of every family: intermediates and gradients, as on the CPU.
            families=$(build test -p mtcae-encoder --test families --no-run --message-format json |
                sed -n 's/.*"executable":"\([^"]*families[^"]*\)".*/\1/p')
            PATH=$pretend:$PATH LD_LIBRARY_PATH=$pretend MTCAE_TEST_DEVICE=cuda:0 "$families" intermediates
            out=$target/cuda-check/pretend
            mkdir -p "$out"
            program() {
                PATH=$pretend:$PATH LD_LIBRARY_PATH=$pretend "$target/cuda-check/release/mtcae-gpu" "$@"
            }
            # All at once, as each runs on one core for the most part.
            program kernels --small >"$out/kernels.txt" 2>&1 & kernels=$!
            program model "$out/model" --size tiny >"$out/model.txt" 2>&1 & model=$!
            program training --size tiny >"$out/training.txt" 2>&1 & training=$!
            program training --size tiny --epilogues >"$out/epilogues.txt" 2>&1 & epilogues=$!
            failed=''
            wait "$kernels" || failed+=' kernels'
            wait "$model" || failed+=' model'
            wait "$training" || failed+=' training'
            wait "$epilogues" || failed+=' training with epilogues'
            echo "$(grep -c '^ok' "$out/kernels.txt") comparisons of kernels hold"
            cat "$out/model.txt" "$out/training.txt" "$out/epilogues.txt"
            if [[ -n $failed ]]; then
                grep -v '^ok' "$out/kernels.txt" >&2 || true
                echo "check-cuda: on the pretend GPU these fail:$failed" >&2
                exit 1
            fi
            scripts/gpu_rehearsal.sh "$pretend" "$target/cuda-check/release"
            ;;
        *)
            echo "check_cuda: $step is not one of ptx, lint, pretend" >&2
            exit 2
            ;;
    esac
done
