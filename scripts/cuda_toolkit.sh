#!/usr/bin/env bash
# Puts CUDA 13.0's compiler into a folder: nvcc, ptxas and the headers, from the
# Python wheels of the same names (105 MB). Neither root nor a GPU is needed, and
# nothing outside the folder changes. Does nothing when all is there.
#
#   scripts/cuda_toolkit.sh [FOLDER]      default: target/cuda-toolkit
#
# 13.0 and no newer: a driver refuses PTX of a CUDA that is newer than itself.
set -euo pipefail
folder=$(realpath -m "${1:-target/cuda-toolkit}")
home=$folder/nvidia/cu13

if [[ ! -x $home/bin/nvcc || ! -e $home/.complete ]]; then
    echo "cuda_toolkit: installing CUDA 13.0's compiler into $folder" >&2
    mkdir -p "$folder"
    "${PYTHON:-python3}" -m pip install --quiet --no-deps --no-compile --only-binary=:all: \
        --disable-pip-version-check --root-user-action=ignore --upgrade --target "$folder" \
        nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
    chmod +x "$home"/bin/* "$home"/nvvm/bin/*
    # What looks for a toolkit looks for lib64, and for names without versions.
    ln -sfn lib "$home/lib64"
    for library in "$home"/lib/lib*.so.*; do
        ln -sf "$(basename "$library")" "${library%%.so.*}.so"
    done
    touch "$home/.complete"
fi
echo "$home"
