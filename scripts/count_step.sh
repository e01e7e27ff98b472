#!/usr/bin/env bash
# What one training step asks of a GPU, from a trace of the pretend one (scripts/pretend_gpu.sh): launches by name,
# products by shape, copies, memsets and allocations, each with the bytes that they touch.
#
#   MTCAE_PRETEND_COUNT=1 MTCAE_PRETEND_TRACE=FILE LD_LIBRARY_PATH=FOLDER mtcae-gpu step --size large --batch 8
#   scripts/count_step.sh FILE
#
# Only what lies between the marks of a profiler counts, which `step` sets around its second step. The bytes of a launch
# are those of the operands that it is given, once each: what it must move where it touches all of them.
set -euo pipefail
[[ $# -eq 1 && -e $1 ]] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# The lines of the step, as "kind name shape block bytes".
step() { awk -F'\t' '$1 == "mark" { on = $2 == "start"; next } on' "$1"; }

# Sums by a key, most bytes first: "number GB key".
sums() { awk -F'\t' "$1"' { n[key]++; bytes[key] += $5 }
    END { for (key in n) printf "%7d %10.3f  %s\n", n[key], bytes[key] / 1e9, key }' | sort -k2,2nr -k1,1nr; }

[[ -n $(step "$1" | head -1) ]] || { echo "count_step: $1 has nothing between marks" >&2; exit 1; }
printf '%7s %10s  %s\n' number GB kind
step "$1" | sums '{ key = $1 }'
printf '\n%7s %10s  %s\n' number GB 'launches, memsets and copies, by name'
step "$1" | sums '$1 !~ /launch|memset|copy/ { next } { key = $2 ($1 == "copy" ? " (copy)" : "") }'
printf '\n%7s %10s  %s\n' number GB 'products, by m,n,k,batch, transposition and types'
step "$1" | sums '$1 != "product" { next } { key = $3 " " $4 }'
