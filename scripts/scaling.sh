#!/usr/bin/env bash
# Measures what the model of docs/scale.md is fitted to, and prints its tables: sums over 2 and 4
# ranks of MPI by themselves, and trainings of the demo's model by 1, 2 and 4 ranks of one thread.
#
#   scripts/scaling.sh FOLDER     some minutes; nothing else should run
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:?a folder for clips and runs}
mkdir -p "$out" && cd "$out"

"$root/scripts/setup.sh" mpi
cargo build --release --quiet --manifest-path "$root/Cargo.toml" --workspace --features mtcae-cli/mpi,mtcae-ranks/mpi \
    --bin mtcae --example exchange
release=${CARGO_TARGET_DIR:-$root/target}/release
mtcae=$release/mtcae exchange=$release/examples/exchange

# Candle's own threads would spin beside ours.
export CANDLE_NUM_THREADS=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
launch=(mpirun)
[[ $(id -u) != 0 ]] || launch+=(--allow-run-as-root)
# A core each, its decoding too, where there are as many: for some seconds two would share one.
ranks() {
    local bound=(--bind-to core)
    (($1 <= $(nproc))) || bound=(--oversubscribe --bind-to none)
    "${launch[@]}" "${bound[@]}" -np "$@"
}

rm -f exchange.jsonl
for values in 1000 10000000; do
    for ranks in 2 4; do
        ranks $ranks "$exchange" $values >>exchange.jsonl
    done
done
[[ -e clips ]] || "$mtcae" synth clips --identities 12 --size 128 --frames 16 --fps 8 --quiet
[[ -e start ]] || "$mtcae" init --config "$root/fixtures/demo/model.json" --weights xavier --out start >/dev/null
rm -rf run-*
# Of 264 clips three steps of eight batches are made, which 1, 2 and 4 ranks deal evenly.
for ranks in 1 2 4; do
    ranks $ranks "$mtcae" train --labels clips/labels.jsonl --checkpoint start --keep-decoder \
        --tune=all --batch 11 --accumulate 8 --validation 0 --gradients false --epochs 9 --threads 1 \
        --workers 1 --out run-$ranks 2>run-$ranks.txt >/dev/null || { cat run-$ranks.txt >&2; exit 1; }
done
"$root/scripts/scaling.py" .
