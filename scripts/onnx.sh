#!/usr/bin/env bash
# Exported models in ONNX Runtime (crates/mtcae-onnx/tests/parity.py), which lies in an environment of its own with
# those of fixtures/requirements.txt that this needs.
#
#   scripts/onnx.sh
#
# PARITY=program                    what exports and computes the models (default: cargo run)
# PYTHON=python3.12                 what to create target/onnx-python with (default python3; 3.11 or newer)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

folder=${CARGO_TARGET_DIR:-target}/onnx-python
python=$folder/bin/python
requirements=$(grep -E '^(numpy|onnx|onnxruntime|safetensors)==' fixtures/requirements.txt)
if [[ "$requirements" != "$(cat "$folder/requirements.txt" 2>/dev/null)" ]] || ! "$python" -c '' 2>/dev/null; then
    base=${PYTHON:-python3}
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$base is older than Python 3.11"
    rm -rf "$folder"
    "$base" -m venv "$folder"
    # shellcheck disable=SC2086 # one word a package
    "$python" -m pip install --quiet --disable-pip-version-check $requirements
    printf '%s\n' "$requirements" >"$folder/requirements.txt"
fi
"$python" crates/mtcae-onnx/tests/parity.py
