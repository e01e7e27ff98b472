#!/usr/bin/env bash
# Counts the instructions of each kernel in the AVX2 and the portable format and
# compares them with scripts/instruction_counts.txt: a kernel that takes over 3 % more
# than written there fails, by name. Counts do not depend on what else a machine
# does, as times do. `--accept` writes the counts of this run instead.
#
# Valgrind hides AVX-512 and AMX from what it runs; their guard is a ratio
# (crates/mtcae-kernels/tests/ratios.rs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

accept=0
case "${1:-}" in
    --accept) accept=1 ;;
    '') ;;
    *) echo "usage: scripts/instruction_counts.sh [--accept]" >&2; exit 2 ;;
esac
written=scripts/instruction_counts.txt

if [[ "$(uname -sm)" != "Linux x86_64" ]]; then
    echo "instruction counts: skipped, they are of Linux on x86-64"
    exit 0
fi
command -v valgrind >/dev/null || { echo "instruction counts: valgrind is missing; run scripts/setup.sh guards" >&2; exit 1; }

"${CARGO:-cargo}" build --release --quiet --workspace --example instructions
program="${CARGO_TARGET_DIR:-target}/release/examples/instructions"

# All instructions of a run; valgrind's own report, which lies apart from stderr.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
count() {
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \
        --log-file="$log" "$program" "$@" </dev/null
    awk '/I *refs:/ { gsub(",", "", $NF); print $NF }' "$log"
}

compiler=$(rustc --version | cut -d' ' -f1,2)
results="# Instructions of one call, by scripts/instruction_counts.sh --accept; $compiler"
failed=()
while read -r kernel format; do
    # The first call finds buffers and caches empty: from the second on. Many calls, as
    # starting and ending a thread takes some thousand instructions more or less.
    once=$(count "$kernel" "$format" 2)
    more=$(count "$kernel" "$format" 42)
    now=$(((more - once) / 40))
    results+=$'\n'"$kernel $format $now"
    before=$(awk -v k="$kernel" -v f="$format" '$1 == k && $2 == f { print $3 }' "$written" 2>/dev/null || true)
    if [[ -z "$before" ]]; then
        printf '%-12s %-9s %10s (new)\n' "$kernel" "$format" "$now"
        failed+=("$kernel $format is not in $written")
    else
        change=$(awk -v a="$before" -v b="$now" 'BEGIN { printf "%+.2f", 100 * (b - a) / a }')
        printf '%-12s %-9s %10s (%s %%)\n' "$kernel" "$format" "$now" "$change"
        awk -v c="$change" 'BEGIN { exit !(c > 3) }' && failed+=("$kernel in $format takes $change % instructions")
    fi
done < <("$program")

if [[ $accept == 1 ]]; then
    printf '%s\n' "$results" >"$written"
    echo "written to $written"
elif [[ ${#failed[@]} -gt 0 ]]; then
    printf 'instruction counts: %s\n' "${failed[@]}" >&2
    echo "instruction counts: the file is of $(sed -n '1s/.*; //p' "$written" 2>/dev/null), this is $compiler; --accept writes the counts anew" >&2
    exit 1
fi
