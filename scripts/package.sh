#!/usr/bin/env bash
# Packs every publishable crate as it would be published, and checks that each compiles from
# its package alone, in a workspace of what was packed. What `make lint` has checked of other
# crates is not checked again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
excluded=()
for crate in testing examples benches gpu python; do excluded+=(--exclude "mtcae-$crate"); done
rm -rf "$target/package"
"$cargo" package --workspace "${excluded[@]}" --allow-dirty --no-verify

# A folder outside this workspace, where each crate finds the others as they were packed.
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
cp Cargo.lock "$packed/"
{
    printf '[workspace]\nresolver = "3"\nmembers = ["mtcae-*"]\n\n[patch.crates-io]\n'
    for crate in "$target"/package/*.crate; do
        # With the time of now: in a package all files are of one day, by which cargo would
        # take those of an earlier run for these.
        tar -xzmf "$crate" -C "$packed"
        folder=$(basename "$crate" .crate)
        printf '%s = { path = "%s" }\n' "$(sed 's/-[0-9][^-]*$//' <<<"$folder")" "$folder"
    done
} >"$packed/Cargo.toml"
cd "$packed"
# No tests are in it: what only they need is not, either.
CARGO_TARGET_DIR=$target "$cargo" check --release --workspace
