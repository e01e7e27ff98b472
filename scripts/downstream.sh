#!/usr/bin/env bash
# Builds and runs the crates outside the workspace, as their users write them: one that
# depends on mtcae-decoder alone, with what that dependency drags in, and one that brings
# an encoder of its own in at most 80 lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../examples"

# The workspace's build folder, so that Candle is compiled once.
export CARGO_TARGET_DIR=$PWD/../target

cd downstream-cascade
cargo run --release --quiet
tree=$(cargo tree --prefix none)
for unwanted in ffmpeg hf-hub ureq mtcae-encoder mtcae-video; do
    if grep -q "^$unwanted" <<<"$tree"; then
        echo "mtcae-decoder drags in $unwanted" >&2
        exit 1
    fi
done
echo "no FFmpeg, no hub, no encoder among $(sort -u <<<"$tree" | wc -l) packages"

cd ../downstream-encoder
lines=$(wc -l <src/encoder.rs)
if ((lines > 80)); then
    echo "an encoder takes $lines lines, more than 80" >&2
    exit 1
fi
cargo run --release --quiet -- ../../fixtures/demo/rendered.mp4
