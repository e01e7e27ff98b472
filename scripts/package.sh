#!/usr/bin/env bash
# Packs every publishable crate as it would be published, and builds each from its package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# cargo unpacks our own packages beside those it downloads, and neither unpacks nor compiles a
# version again that is there: without this, an older mtcae-kernels of the same version would be
# what is built.
rm -rf "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/mtcae-* \
    "${CARGO_TARGET_DIR:-target}"/debug/.fingerprint/mtcae-*

excluded=()
for crate in testing examples benches gpu python; do excluded+=(--exclude "mtcae-$crate"); done
"${CARGO:-cargo}" package --workspace "${excluded[@]}" --allow-dirty
