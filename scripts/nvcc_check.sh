#!/usr/bin/env bash
# Stands in for nvcc where CUDA code is checked without a GPU. The project's own
# kernels go to the real compiler, $REAL_NVCC, or are left empty without one; those of
# other crates (Candle's, minutes of work) are always left empty. Empty PTX says what it
# is for and has no kernels. Good for checking types, for our PTX, and for programs that
# run on the pretend GPU (scripts/pretend_gpu.sh), which has its kernels from elsewhere.
set -euo pipefail
if [[ ${1:-} == --version ]]; then
    echo 'nvcc: NVIDIA (R) Cuda compiler driver'
    echo 'Cuda compilation tools, release 13.0, V13.0.88'
    exit
fi
if [[ -n ${REAL_NVCC:-} && $PWD == */mtcae-kernels ]]; then
    exec "$REAL_NVCC" "$@"
fi

kind='' out='' folder=. source='' architecture=52
while [[ $# -gt 0 ]]; do
    case $1 in
        --ptx) kind=ptx ;;
        --fatbin) kind=fatbin ;;
        --lib) kind=lib ;;
        -c) kind=object ;;
        -o) out=$2; shift ;;
        --output-directory) folder=$2; shift ;;
        -arch | --gpu-architecture) architecture=${2#*_}; shift ;;
        -arch=* | --gpu-architecture=* | -gencode=*) architecture=${1##*_} ;;
        *.cu) source=$1 ;;
    esac
    shift
done
case $kind in
    ptx)
        printf '.version 9.0\n.target sm_%s\n.address_size 64\n' "$architecture" \
            >"${out:-$folder/$(basename "$source" .cu).ptx}"
        ;;
    # A header and nothing behind it.
    fatbin) printf '\x50\xed\x55\xba\x01\x00\x10\x00\0\0\0\0\0\0\0\0' >"$out" ;;
    object) : >"$out" ;;
    lib) printf '!<arch>\n' >"$out" ;;
esac
