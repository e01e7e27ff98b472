#!/usr/bin/env bash
# Trainings by several processes over MPI, of a toy on rendered clips: whatever their number, the
# log and the weights are those of one process, to the bit; also where a process is killed and
# another number goes on. Then what is refused, and how.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh mpi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target/test-ranks
rm -rf "$out" && mkdir -p "$out"
fail() { echo "test-ranks: $*" >&2; exit 1; }

# As the tests are built, so that nothing is built twice; the one without MPI stays in its place.
build() { cargo test --release --workspace --no-run --quiet --test launchers "$@"; }
build
cp "$target/release/mtcae" "$out/plain"
build --features mtcae-cli/mpi
cp "$target/release/mtcae" "$out/mtcae"
build
echo "built (${SECONDS} s)"

# Ranks share the cores here, and one copies to another through memory that both see: what
# containers forbid of that is not tried.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
launch=(mpirun --oversubscribe --bind-to none)
[[ $(id -u) != 0 ]] || launch+=(--allow-run-as-root)

cd "$out"
./plain synth clips --identities 3 --folds 3 --size 64 --frames 5 --fps 8 --quiet
./plain init --size tiny --out start --classes angry,disgusted,fearful,happy,neutral,sad,surprised >init.txt
# --labels, --epochs and --accumulate are left to each.
run=(train --checkpoint start --tune=all --batch 2 --fold 0 --flip --mixup 0.4 --ema 0.9 --keep best
    --validation 0.3 --save-every 1 --seed 5 --threads 1)
labels=(--labels clips/labels.jsonl)
short=("${run[@]}" "${labels[@]}" --epochs 2 --accumulate 4)
long=("${run[@]}" "${labels[@]}" --epochs 15 --accumulate 4)

# The log without what a clock says, the weights, and what is said of the held-out clips.
same() {
    for folder in "$@"; do sed 's/,"seconds":.*//' "$folder/metrics.jsonl" >"$folder/steps"; done
    local file
    for file in steps model/model.safetensors predictions.csv; do
        cmp "$1/$file" "$2/$file" || fail "$2/$file differs from $1's"
    done
    echo "$2 is $1 to the bit: $(wc -l <"$1/steps") lines of the log, weights, predictions (${SECONDS} s)"
}

./plain "${short[@]}" --out alone --quiet >/dev/null
for ranks in 1 2 4; do
    "${launch[@]}" -np $ranks ./mtcae "${short[@]}" --out ranks-$ranks --quiet >ranks-$ranks.txt 2>&1 ||
        { cat ranks-$ranks.txt >&2; fail "$ranks ranks"; }
    same alone ranks-$ranks
done

# One of two is killed once there are some steps, and mpirun ends the other.
"${launch[@]}" -np 2 ./mtcae "${long[@]}" --out killed --quiet >killed.txt 2>&1 &
job=$!
until [[ -s killed/metrics.jsonl && $(wc -l <killed/metrics.jsonl) -ge 5 ]]; do
    [[ -e /proc/$job ]] || { cat killed.txt >&2; fail "ended by itself"; }
    sleep 0.05
done
victim=''
for process in /proc/[0-9]*; do
    if [[ $(cat "$process/comm" 2>/dev/null) == mtcae &&
        $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) == *'--out killed '* &&
        $(readlink "$process/cwd") == "$out" ]]; then
        victim=${process#/proc/}
    fi
done
kill -9 "$victim"
if wait "$job"; then fail "a job of which one rank was killed went well"; fi
grep -q 'exited on signal 9' killed.txt || { cat killed.txt >&2; fail "mpirun does not name the rank"; }
steps=$(wc -l <killed/metrics.jsonl)
[[ $steps -lt 60 ]] || fail "it was over before it was killed"
# The rest by another number.
./plain "${long[@]}" --out whole --quiet >/dev/null
"${launch[@]}" -np 4 ./mtcae "${long[@]}" --out killed --resume --quiet >resumed.txt 2>&1 ||
    { cat resumed.txt >&2; fail "does not go on"; }
same whole killed

# Said once, and on one line of ours; the rest is mpirun's.
refused() {
    local want=$1 said
    shift
    if "$@" >refused.txt 2>&1; then fail "not refused: $want"; fi
    said=$(grep '^error: ' refused.txt) || true
    [[ $said == "$want" ]] || { cat refused.txt >&2; fail "said: $said"; }
    echo "$said"
}
refused "error: rank 1: not the same config.lr as rank 0 (0.5, not 0.001)" \
    "${launch[@]}" -np 1 ./mtcae "${short[@]}" --out differ : -np 1 ./mtcae "${short[@]}" --out differ --lr 0.5
[[ ! -e differ/state.safetensors && ! -e differ/metrics.jsonl ]] || fail "differ: something was written"
cp -r clips other
others=(--labels other/labels.jsonl --epochs 2 --accumulate 4)
sed '1s/"box":\[0\./"box":[0.0/' clips/labels.jsonl >other/labels.jsonl
refused "error: rank 1: not the same clips as rank 0" \
    "${launch[@]}" -np 1 ./mtcae "${short[@]}" --out differ : \
    -np 1 ./mtcae "${run[@]}" "${others[@]}" --out differ
gone=$(cd clips && find . -name '*.mp4' | sort | sed -n '1s/^..//p')
cp clips/labels.jsonl other/labels.jsonl
rm "other/$gone"
refused "error: rank 1: other/labels.jsonl: 1 labelled videos are missing ($gone) below other; --root says in which folder they lie, and --allow-missing leaves them out" \
    "${launch[@]}" -np 1 ./mtcae "${short[@]}" --out differ : \
    -np 1 ./mtcae "${run[@]}" "${others[@]}" --out differ
refused "error: rank 0: --accumulate 1 cannot be dealt to 2 ranks: --batch 1 --accumulate 2 has the same clips a step" \
    "${launch[@]}" -np 2 ./mtcae "${run[@]}" "${labels[@]}" --epochs 2 --accumulate 1 --out differ
refused "error: mpirun has started 2 ranks, and this program is built without MPI: build it with \`--features mpi\`, or start one" \
    "${launch[@]}" -np 2 ./plain "${short[@]}" --out differ
refused "error: rank 0: ranks-2: contains a run; --resume goes on with it, or give another folder" \
    "${launch[@]}" -np 2 ./mtcae "${short[@]}" --out ranks-2
echo "test-ranks: done (${SECONDS} s)"
