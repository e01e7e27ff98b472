#!/usr/bin/env bash
# Everything that is checked against Python: the fixtures can be regenerated and are the committed ones, the reference
# agrees with itself, and the full-size model agrees with PyTorch.
#
#   scripts/test-python.sh            all of it; the full size takes about 10 GB of memory, 2 GB of disk and some minutes
#   scripts/test-python.sh --quick    without the full size
#
# MTCAE_PYTHON=/path/to/python      use this interpreter (its packages must be those of fixtures/requirements.txt)
# PYTHON=python3.12                 what to create .venv with (default python3; 3.11 or newer)
# MTCAE_FULL_SIZE_DIR=dir           where the full-size model and its reference are, or go (default target/full-size)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=false
case "${1:-}" in
    "") ;;
    --quick) quick=true ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
# A check whose file is gone must not pass for want of it.
need() { [[ -e "$1" ]] || fail "$1 does not exist, so $2 cannot run"; }

# ---------------------------------------------------------------------------------------------------- environment
requirements=fixtures/requirements.txt
if [[ -n "${MTCAE_PYTHON:-}" ]]; then
    python=$MTCAE_PYTHON
    say "using $python as it is"
else
    python=.venv/bin/python
    stamp=.venv/requirements.txt
    if ! cmp -s "$requirements" "$stamp" || ! "$python" -c '' 2>/dev/null; then
        base=${PYTHON:-python3}
        "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$base is older than Python 3.11"
        say "creating .venv with $("$base" -V) and installing $requirements (a few GB the first time)"
        rm -rf .venv
        "$base" -m venv .venv
        "$python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$stamp"
    else
        say "using .venv, which is up to date with $requirements"
    fi
fi
"$python" - "$requirements" <<'PYTHON' || fail "the packages are not those the fixtures were made with"
import sys
from importlib.metadata import PackageNotFoundError, version

wrong = 0
for line in open(sys.argv[1]):
    name, _, wanted = line.split("#")[0].strip().partition("==")
    if not name:
        continue
    try:
        found = version(name).split("+")[0]
    except PackageNotFoundError:
        found = "none"
    if found != wanted:
        print(f"{name}: {wanted} wanted, {found} found")
        wrong = 1
sys.exit(wrong)
PYTHON

# ------------------------------------------------------------------------------------------ fixtures, made again
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
different=()
for set in decoder layers compared model checkpoints families classifiers objective resnet training optimisers; do
    need "fixtures/$set/make.py" "its regeneration"
    say "regenerating fixtures/$set"
    scripts=("fixtures/$set/make.py")
    [[ $set != objective ]] || scripts+=(fixtures/objective/scaling.py)
    for script in "${scripts[@]}"; do
        "$python" "$script" "$work/$set" >"$work/$set.log" 2>&1 || { cat "$work/$set.log"; fail "$script"; }
    done
    "$python" fixtures/compare.py "fixtures/$set" "$work/$set" || different+=("$set")
done
say "making the demo clip again (FFmpeg builds differ in bytes, so the script only checks itself)"
"$python" fixtures/demo/make.py "$work/demo"
[[ ${#different[@]} -eq 0 ]] || fail "committed fixtures differ from regenerated ones: ${different[*]}"

# ------------------------------------------------------------------------------------------------------- checks
# One Python file a line; each exits with something other than 0 when it fails.
checks=(
    fixtures/test_reference.py
    fixtures/rebuild_from_checkpoint.py # docs/checkpoint-format.md is enough to rebuild the model from
    crates/mtcae-onnx/tests/parity.py   # exported models in ONNX Runtime
)
for check in "${checks[@]}"; do
    need "$check" "this check"
    say "python $check"
    "$python" "$check" || fail "$check"
done

# ---------------------------------------------------------------------------------------------------- full size
if $quick; then
    say "left out, because of --quick: parity of the full-size model"
else
    need crates/mtcae-model/tests/full_size.rs "parity of the full-size model"
    directory=${MTCAE_FULL_SIZE_DIR:-target/full-size}
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    sources=$(cat fixtures/full_size.py fixtures/reference/*.py | sha256sum)
    if [[ ! -f "$directory/reference.safetensors" || "$(cat "$directory/sources.sha256" 2>/dev/null)" != "$sources" ]]; then
        say "drawing the full-size model into $directory"
        "$python" fixtures/full_size.py "$directory" --size large
        printf '%s\n' "$sources" >"$directory/sources.sha256"
    fi
    say "cargo test: full-size parity"
    MTCAE_FULL_SIZE_DIR=$directory cargo test --release -p mtcae-model --features full-size --test full_size
    say "cargo test: torchvision's residual networks at full size"
    "$python" fixtures/resnet/full_size.py "$directory/resnet"
    MTCAE_FULL_SIZE_DIR=$directory/resnet cargo test --release -p mtcae-encoder --features full-size --test resnet_full_size
fi

say "all Python checks passed"
