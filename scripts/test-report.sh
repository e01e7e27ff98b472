#!/usr/bin/env bash
# Walks through a report in headless Chromium: load, scrub, filter, correct, save, and train
# on what was saved; and through the page of a stream while it comes. What it needs and this machine lacks is installed: Chromium, Node and
# npm by apt-get, the driver of the browser by npm. Pictures stay in target/report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'test-report: %s\n' "$*"; }
fail() { printf 'test-report: %s\n' "$*" >&2; exit 1; }

browser=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
missing=()
[[ -n "$browser" ]] || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}; install them, and give CHROMIUM=PATH where its name is another"
    sudo=()
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null || fail "installing ${missing[*]} needs root, and there is no sudo"
        sudo=(sudo)
    fi
    say "apt-get install ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    browser=${browser:-$(command -v chromium)}
fi

# MTCAE names a program that is built already, as the tests of the workspace build one.
target=${CARGO_TARGET_DIR:-$PWD/target}
[[ -n "${MTCAE:-}" ]] || "${CARGO:-cargo}" build --release --quiet -p mtcae-cli
mtcae=$(realpath "${MTCAE:-$target/release/mtcae}")

# Installed beside the build's outputs: the source tree stays as it is.
work=$target/report-browser
mkdir -p "$work"
for file in crates/mtcae-report/tests/browser/*; do
    cmp -s "$file" "$work/${file##*/}" || cp "$file" "$work/"
done
if [[ ! -d $work/node_modules || $work/package-lock.json -nt $work/node_modules ]]; then
    (cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts)
fi
export CHROMIUM=$browser
node "$work/walk.mjs" "$mtcae" "$PWD" "$target/report"
node "$work/live.mjs" "$mtcae" "$PWD" "$target/report-live"
