#!/usr/bin/env bash
# nvcc, $REAL_NVCC, for programs without quantised weights: Candle's kernels for
# those come along and are never launched, but took nine tenths of the build. They
# are compiled fast instead of well; all others as asked.
set -euo pipefail
for argument; do
    case $argument in
        */quantized.cu | */mmq_*.cu | */mmvq_*.cu | */moe_*.cu) exec "$REAL_NVCC" --Ofast-compile=max "$@" ;;
    esac
done
exec "$REAL_NVCC" "$@"
