#!/usr/bin/env bash
# Cargo as maturin calls it, but that it builds the libraries of the whole workspace where
# maturin asks for one package: their features are then those that tests and binaries are built
# with, and nothing that these have compiled is compiled again.
#
#   MTCAE_BUILD  what is built, with its features [--workspace]
set -euo pipefail

[[ "${1:-}" == rustc ]] || exec cargo "$@"
shift
kept=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --) break ;;
        --manifest-path) shift ;;
        *) kept+=("$1") ;;
    esac
    shift
done
# shellcheck disable=SC2086 # Flags.
exec cargo build ${MTCAE_BUILD:---workspace} "${kept[@]}"
