#!/usr/bin/env bash
# The first minutes on a GPU, rehearsed without one: `gpu_check.sh run` on the pretend GPU (scripts/pretend_gpu.sh),
# with a fault injected each time. The report must name it, and the rest must be done.
#
#   scripts/gpu_rehearsal.sh [PRETEND PROGRAMS]     built in target/rehearsal where they are not given: PRETEND is a
#                                                   folder of pretend_gpu.sh, PROGRAMS one with mtcae-gpu and gpu-check
#                                                   that were built against it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

fail() { printf 'gpu_rehearsal: %s\n' "$*" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ $# -eq 2 ]]; then
    pretend=$(realpath "$1") programs=$(realpath "$2")
else
    target=$(realpath -m "${CARGO_TARGET_DIR:-target}/rehearsal")
    pretend=$target/pretend programs=$target/release
    scripts/pretend_gpu.sh "$pretend"
    CUDA_HOME=$pretend CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=80 NVCC=$root/scripts/nvcc_check.sh \
        CARGO_TARGET_DIR=$target cargo build --quiet --release -p mtcae-gpu --features cuda
fi

# The pack, as `gpu_check.sh build` makes it.
pack=$work/gpu-check
mkdir "$pack"
cp "$programs"/{mtcae-gpu,gpu-check} scripts/{gpu_check.sh,gpu_pytorch.py} fixtures/rebuild_from_checkpoint.py "$pack"
LD_LIBRARY_PATH=$pretend "$pack/mtcae-gpu" config --size tiny >"$pack/config-tiny.json"

# A Python that says that it has PyTorch, and one that does not.
mkdir "$work/python" "$work/no-python"
cat >"$work/python/python3" <<'PYTHON'
#!/bin/sh
case "$*" in
    *"where PyTorch is"*) echo "torch /nowhere/torch" ;;
    *torch.cuda.is_available*) echo "PyTorch 0.0 of CUDA 13.0" ;;
    *gpu_pytorch.py*) shift; echo "| pretended | $* |" ;;
esac
PYTHON
printf '#!/bin/sh\nexit 1\n' >"$work/no-python/python3"
chmod +x "$work"/*/python3

# The loader's own places must not have a driver of this machine's.
export MTCAE_CUDA_LIB=$pretend MTCAE_PYTHON=$work/no-python/python3 PATH=$pretend:$PATH
unset LD_LIBRARY_PATH MTCAE_PRETEND_FAULT MTCAE_PRETEND_GPU

begun=$SECONDS
# rehearse NAME STATUS SECTION...: runs them; the report is then in $report.
rehearse() {
    local name=$1 want=$2 status=0
    shift 2
    out=$work/$name report=$work/$name/report.md
    "$pack/gpu_check.sh" run "$out" "$@" --size tiny >"$work/$name.txt" 2>&1 || status=$?
    [[ $status -eq $want ]] || { cat "$work/$name.txt" >&2; fail "$name ends with $status instead of $want"; }
    printf '%-28s %s s\n' "$name" $((SECONDS - begun))
}
# has TEXT...: each is in the report.
has() {
    local text
    for text; do
        grep -qF -- "$text" "$report" || { cat "$report" >&2; fail "the report says nothing of: $text"; }
    done
}
hasnt() { ! grep -qF -- "$1" "$report" || { cat "$report" >&2; fail "the report says: $1"; }; }
readonly kernels=(kernels-bf16-gelu kernels-bf16-residual)

rehearse well 0 "${kernels[@]}" micro speed
has '| kernels-bf16-gelu | ok |' '| micro | ok |' '| speed | ok |' 'clips/s' '| attention_bf16_64 |' 'TFLOP/s' \
    '| product encoder q, k, v' 'NVIDIA H200 (pretended)'

MTCAE_PRETEND_FAULT=wrong:gelu rehearse wrong 1 "${kernels[@]}"
has 'FAILED: kernels-bf16-gelu' 'worst at' 'elements' 'CUDA_LAUNCH_BLOCKING=1 too' '| kernels-bf16-residual | ok |'

MTCAE_PRETEND_FAULT=hang:gelu rehearse hang 1 "${kernels[@]}"
has 'FAILED gelu_bf16: it has not come back after 3 s' 'FAILED: kernels-bf16-gelu: a kernel hangs' '| kernels-bf16-residual | ok |'

MTCAE_PRETEND_FAULT=sticky:gelu:3 rehearse sticky 1 "${kernels[@]}"
has 'gelu_backward_bf16: ' 'nothing runs after gelu' 'FAILED: kernels-bf16-gelu' '| kernels-bf16-residual | ok |'

MTCAE_PRETEND_FAULT=refuse:gelu rehearse refused 1 "${kernels[@]}"
has 'FAILED: kernels-bf16-gelu' 'gelu_bf16' '| kernels-bf16-residual | ok |'

mkdir "$work/some"
cp -P "$pretend"/lib{cuda,curand,cublasLt,nvrtc,cudart}.so* "$work/some"
MTCAE_CUDA_LIB=$work/some MTCAE_PYTHON=$work/python/python3 rehearse library 1 "${kernels[@]}" eager
has 'not to be found: libcublas.so.13' 'MTCAE_CUDA_LIB=FOLDER' 'not done: kernels-bf16-gelu' '| eager | ok |' \
    '| pretended | bench'

rehearse no-pytorch 0 kernels-bf16-gelu compare eager
has 'no python3 here has PyTorch' 'not done: eager' '| kernels-bf16-gelu | ok |' '| model | ok |'

rehearse time 0 first --within 14
has 'no time:' 'not done: kernels-f32-area' '| kernels-bf16-attention |' 'The second call: `gpu_check.sh run'
[[ $(sed -n 's/^\([0-9]*\) s in all.*/\1/p' "$report") -le 14 ]] || fail "14 s took longer"

# Killed midway: what there was is there, and nothing is left at work.
out=$work/killed report=$work/killed/report.md
MTCAE_PRETEND_FAULT=hang:gelu setsid "$pack/gpu_check.sh" run "$out" kernels-bf16-residual kernels-bf16-gelu \
    --size tiny >/dev/null 2>&1 &
killed=$!
for ((i = 0; i < 200; i++)); do
    grep -qs '^## Kernels in bf16: gelu' "$report" && break
    sleep 0.1
done
kill -KILL "$killed"
wait "$killed" 2>/dev/null || true
sleep 0.5
has 'done: kernels-bf16-residual' '## Kernels in bf16: gelu'
hasnt '## Summary'
if pgrep -f "$pack/mtcae-gpu" >/dev/null; then fail "a section outlives who was killed"; fi
printf '%-28s %s s\n' killed $((SECONDS - begun))

MTCAE_PRETEND_GPU=driver=12040 rehearse old-driver 1 "${kernels[@]}"
has 'error: device cuda:0: the driver is of CUDA 12.4' 'not done: kernels-bf16-gelu: the GPU cannot be used'
MTCAE_PRETEND_GPU=capability=7.5 rehearse generation 1 "${kernels[@]}"
has 'compute capability 7.5; the kernels need 8.0 or newer' 'not done: kernels-bf16-gelu: the GPU cannot be used'
MTCAE_PRETEND_GPU=none rehearse no-gpu 1 "${kernels[@]}"
has 'there is no NVIDIA GPU' 'not done: kernels-bf16-gelu: the GPU cannot be used'
MTCAE_PRETEND_GPU=memory=8M rehearse memory 0 kernels-bf16-gelu speed
has 'out of GPU memory' '| kernels-bf16-gelu | ok |' '| speed | ok |'

touch "$work/file"
"$pack/gpu_check.sh" run "$work/file" kernels-bf16-gelu --size tiny >"$work/file.txt" 2>&1 ||
    { cat "$work/file.txt" >&2; fail "a folder that cannot be written ends it"; }
report=$work/file.txt
has "$work/file/report.md cannot be written" '; the report is ' '| kernels-bf16-gelu | ok |'
rm -rf "$(sed -n 's/^.* s in all; the report is \(.*\)\/report.md *$/\1/p' "$report")"

echo "gpu_rehearsal: all faults are named, and the rest is done ($((SECONDS - begun)) s)"
