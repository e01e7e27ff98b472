#!/usr/bin/env bash
# Tests the wheel `mtcae` in fresh environments, beside the binary that it is held against:
# with the oldest Python here, NumPy 1 and nothing else, and with the newest Python, NumPy 2
# and all that tables and bars go through. Says on how old a glibc it runs.
#
#   scripts/test-wheel.sh [WHEEL]    without one, it is built
#
#   WHEEL_WITH   more packages for the newest Python: `torch` runs the tests that need it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What docs/python.md promises.
oldest_glibc=2.35

wheel=${1:-$(scripts/wheel.sh)}
[[ -n "${MTCAE:-}" ]] || cargo build --release --quiet --workspace --bin mtcae
uv=$PWD/target/wheel-tools/bin/uv

# Pythons that run, the oldest first.
pythons() {
    for minor in 10 11 12 13 14; do
        for python in "python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python3; do
            if "$python" -c 'import venv' 2>/dev/null; then
                "$python" -c 'import sys; print(sys.executable)'
                break
            fi
        done
    done
}
mapfile -t found < <(pythons)
[[ ${#found[@]} -gt 0 ]] || { echo "test-wheel: no Python from 3.10 on" >&2; exit 1; }

# environment NAME PYTHON PACKAGE…: a fresh one, with the wheel.
environment() {
    local at=target/wheel-tests/$1
    rm -rf "$at"
    "$uv" venv --quiet --python "$2" "$at"
    "$uv" pip install --quiet --python "$at/bin/python" "$wheel" pytest pillow "${@:3}"
    printf '\n--- %s: %s, numpy %s\n' "$1" "$("$at/bin/python" -V)" \
        "$("$at/bin/python" -c 'import numpy; print(numpy.__version__)')"
}
# Not where the sources are: what is tested is what is installed.
check() { (cd target/wheel-tests && "$1/bin/python" -m pytest -q --rootdir ../../crates/mtcae-python ../../crates/mtcae-python/tests "${@:2}"); }

environment numpy1 "${found[0]}" 'numpy==1.26.4'
check numpy1
# shellcheck disable=SC2086 # A word a package.
environment numpy2 "${found[-1]}" 'numpy>=2' pandas pyarrow polars tqdm mypy ${WHEEL_WITH:-}
check numpy2
new=target/wheel-tests/numpy2/bin/python
"$new" -m mypy --strict --cache-dir target/wheel-tests/mypy crates/mtcae-python/tests/typed.py
(cd target/wheel-tests && "numpy2/bin/python" -m mypy.stubtest mtcae --ignore-missing-stub)

module=$("$new" -c 'import mtcae._mtcae as m; print(m.__file__)')
glibc=$(objdump -T "$module" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
printf '%s: needs glibc %s, and of the machine:\n' "$(basename "$wheel")" "${glibc#GLIBC_}"
objdump -p "$module" | awk '/NEEDED/ { print "  " $2 }'
if [[ "$(printf '%s\n' "${glibc#GLIBC_}" "$oldest_glibc" | sort -V | tail -1)" != "$oldest_glibc" ]]; then
    echo "test-wheel: it needs a newer glibc than the $oldest_glibc that docs/python.md promises" >&2
    exit 1
fi
