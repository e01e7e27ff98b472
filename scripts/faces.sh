#!/usr/bin/env bash
# Measures a checkpoint on the listed files of real faces (fixtures/faces) that lie in a folder. It fetches nothing.
#
#   scripts/faces.sh FOLDER [ARGUMENT...]   checks the files, then `mtcae evaluate --faces` with these arguments
#   scripts/faces.sh --missing FOLDER       names what is not there or another file, and where it is from
#
# LISTS=dir     where list.tsv, noface.tsv and marks.jsonl are (default fixtures/faces)
# MTCAE=file    the program (default: built here)
set -euo pipefail
here=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lists=${LISTS:-$root/fixtures/faces}

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

missing=false
[[ "${1:-}" == --missing ]] && { missing=true; shift; }
[[ $# -ge 1 && "$1" != -* ]] || usage
folder=$1
shift
[[ -d "$folder" ]] || fail "$folder: no such folder"
[[ -f "$lists/list.tsv" ]] || fail "$lists/list.tsv: not there; it lists the files to measure on"

# Columns of a list by name, as lines "id file sha256 source" with tabs between.
columns() {
    awk -F'\t' '
        /^#/ { next }
        !head { for (i = 1; i <= NF; i++) at[$i] = i; head = 1
                if (!at["id"] || !at["file"] || !at["sha256"]) { print FILENAME ": lacks id, file or sha256" > "/dev/stderr"; exit 1 }
                next }
        { print $at["id"] "\t" $at["file"] "\t" tolower($at["sha256"]) "\t" (at["source"] ? $at["source"] : "") }' "$1"
}

check() {
    local list=$1 there=0 gone=0 other=0 id file hash source found rows
    rows=$(columns "$list")
    while IFS=$'\t' read -r id file hash source; do
        if [[ ! -f "$folder/$file" ]]; then
            gone=$((gone + 1))
            $missing && printf '%s\tmissing\t%s\t%s\n' "$id" "$file" "$source"
            continue
        fi
        found=$(sha256sum "$folder/$file")
        if [[ "${found%% *}" == "$hash" ]]; then
            there=$((there + 1))
        else
            other=$((other + 1))
            $missing && printf '%s\tanother file\t%s\t%s\n' "$id" "$file" "$source"
        fi
    done <<<"$rows"
    printf '%s: %d there, %d missing, %d other files\n' "$(basename "$list")" "$there" "$gone" "$other" >&2
}

check "$lists/list.tsv"
arguments=(--faces "$lists/list.tsv" --root "$folder")
if [[ -f "$lists/noface.tsv" ]]; then
    check "$lists/noface.tsv"
    arguments+=(--no-face "$lists/noface.tsv")
fi
[[ -f "$lists/marks.jsonl" ]] && arguments+=(--marks "$lists/marks.jsonl")
$missing && exit 0

given=" $* "
[[ "$given" == *" --checkpoint"* ]] || arguments+=(--checkpoint "$root/fixtures/default")
program=${MTCAE:-}
if [[ -z "$program" ]]; then
    cargo build --release --manifest-path "$root/Cargo.toml" -p mtcae-cli
    program=${CARGO_TARGET_DIR:-$root/target}/release/mtcae
fi
cd "$here"
exec "$program" evaluate "${arguments[@]}" "$@"
