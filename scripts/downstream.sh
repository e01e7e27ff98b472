#!/usr/bin/env bash
# Builds and runs a crate outside the workspace that depends on mtcae-decoder
# alone, and checks what that dependency drags in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../examples/downstream-cascade"

# The workspace's build folder, so that Candle is compiled once.
export CARGO_TARGET_DIR=../../target
cargo run --release --quiet
tree=$(cargo tree --prefix none)
for unwanted in ffmpeg hf-hub ureq mtcae-encoder mtcae-video; do
    if grep -q "^$unwanted" <<<"$tree"; then
        echo "mtcae-decoder drags in $unwanted" >&2
        exit 1
    fi
done
echo "no FFmpeg, no hub, no encoder among $(sort -u <<<"$tree" | wc -l) packages"
