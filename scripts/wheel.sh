#!/usr/bin/env bash
# Builds the wheel `mtcae` into target/wheels with the tools of target/wheel-tools, which are
# installed at the first run. FFmpeg is what pkg-config finds; where its libraries are shared,
# the wheel needs them on the machine that it is installed on. Prints the wheel's path.
#
#   PYTHON       builds [python3]
#   WHEELS       folder that it is written to [target/wheels]
#   WHEEL_FLAGS  for maturin [--compatibility linux --auditwheel skip]: the wheel says
#                linux_x86_64, and nothing of what it links to is packed into it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=target/wheel-tools
wanted="maturin==1.16.0 uv==0.13.9"
if [[ "$(cat "$tools/wanted" 2>/dev/null)" != "$wanted" ]]; then
    rm -rf "$tools"
    "${PYTHON:-python3}" -m venv "$tools"
    # shellcheck disable=SC2086 # Two words.
    "$tools/bin/pip" install --quiet --disable-pip-version-check $wanted
    echo "$wanted" >"$tools/wanted"
fi

wheels=${WHEELS:-target/wheels}
rm -f "$wheels"/mtcae-*.whl
# shellcheck disable=SC2086 # Flags.
CARGO="$PWD/scripts/cargo_for_maturin.sh" "$tools/bin/maturin" build --release --locked \
    --manifest-path crates/mtcae-python/Cargo.toml --interpreter "${PYTHON:-python3}" \
    --out "$wheels" ${WHEEL_FLAGS:---compatibility linux --auditwheel skip} >&2
ls "$wheels"/mtcae-*.whl
