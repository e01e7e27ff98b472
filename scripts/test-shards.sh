#!/usr/bin/env bash
# Labels many small clips in one process, in 8 shards and with leases, while processes are
# killed at random, and compares the merged files with that of the one process.
#   CLIPS=20000 KILLS=60 scripts/test-shards.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

clips=${CLIPS:-20000} kills=${KILLS:-60} shards=8 workers=4
say() { printf 'test-shards: %4ss  %s\n' "$SECONDS" "$*"; }
fail() { printf 'test-shards: %s\n' "$*" >&3; exit 1; }
# The shell tells of every process that is killed.
exec 3>&2

# MTCAE names a program that is built already.
target=${CARGO_TARGET_DIR:-$PWD/target}
[[ -n "${MTCAE:-}" ]] || "${CARGO:-cargo}" build --release --quiet -p mtcae-cli
mtcae=$(realpath "${MTCAE:-$target/release/mtcae}")
folder=$(mktemp -d)
running=()
trap '(($?)) && tail -n 3 "$folder/shell.log" >&3; ((${#running[@]})) && kill -9 "${running[@]}" 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"
exec 2>shell.log

# Some hundred different clips of two frames, each under many names, and files that are none.
"$mtcae" synth rendered --size 64 --frames 2 --identities 12 --folds 0 --quiet
mapfile -t different < <(find rendered -name '*.mp4' | sort)
mkdir clips
for ((i = 0; i < clips; i++)); do
    printf -v name 'clips/%02d/%05d.mp4' $((i / 1000)) "$i"
    ((i % 1000)) || mkdir -p "${name%/*}"
    if ((i % 997 == 500)); then
        echo "no video" >"$name"
    else
        ln "${different[i % ${#different[@]}]}" "$name"
    fi
done
find clips -name '*.mp4' | sort >clips.txt
say "$(wc -l <clips.txt) clips, ${#different[@]} of them different"

label=("$mtcae" label --list clips.txt --detect-at source --threads 1 --jobs 1 --quiet)
begin=$SECONDS
"${label[@]}" --out one.jsonl 2>one.log || true
[[ $(wc -l <one.jsonl) == "$clips" ]] || fail "one process wrote $(wc -l <one.jsonl) rows"
alone=$((SECONDS - begin))
say "one process: $alone s"

# Runs NAME NUMBER with its output aside; its process comes into `running`.
start() {
    local number=$1
    shift
    "$@" >>"$number.log" 2>&1 &
    running[number]=$!
}
alive() { kill -0 "${running[$1]}" 2>/dev/null; }
# Kills a random process of those that run, after a random time.
killed=0
kill_one() {
    # Often enough that the kills fall within the time that all of it takes.
    local time=$(((RANDOM % 1000) * (alone * 1000 / kills + 200) / 2000))
    sleep "$(printf '%d.%03d' $((time / 1000)) $((time % 1000)))"
    local numbers=("${!running[@]}")
    local number=${numbers[RANDOM % ${#numbers[@]}]}
    if alive "$number" && kill -9 "${running[number]}" 2>/dev/null; then
        killed=$((killed + 1))
    fi
}

begin=$SECONDS
shard() { start "$1" "${label[@]}" --out labels.jsonl --shard "$1/$shards" --resume; }
waiting=($(seq "$shards"))
while ((${#waiting[@]} || ${#running[@]})); do
    while ((${#waiting[@]} && ${#running[@]} < workers)); do
        shard "${waiting[0]}"
        waiting=("${waiting[@]:1}")
    done
    if ((killed < kills)); then kill_one; else sleep 0.3; fi
    for number in "${!running[@]}"; do
        alive "$number" && continue
        # A process that ended well is done; one that was killed begins anew.
        if wait "${running[number]}" 2>/dev/null; then
            unset "running[number]"
        else
            grep -a '^error: ' "$number.log" | grep -v '/[0-9]*.mp4' && fail "shard $number"
            unset "running[number]"
            waiting+=("$number")
        fi
    done
done
"$mtcae" merge shards.jsonl labels.shard-*.jsonl
cmp one.jsonl shards.jsonl || fail "shards differ from one process"
of_shards=$killed
say "$shards shards, $of_shards kills: equal to the bit, $((SECONDS - begin)) s"

begin=$SECONDS
killed=0
worker() { start "$1" "${label[@]}" --lease work --expiry 3; }
for number in $(seq "$workers"); do worker "$number"; done
while ((${#running[@]})); do
    if ((killed < kills)); then kill_one; else sleep 0.3; fi
    for number in "${!running[@]}"; do
        alive "$number" && continue
        if wait "${running[number]}" 2>/dev/null; then
            unset "running[number]"
        else
            grep -a '^error: ' "$number.log" | grep -v '/[0-9]*.mp4' && fail "worker $number"
            worker "$number"
        fi
    done
done
"$mtcae" merge leases.jsonl work
cmp one.jsonl leases.jsonl || fail "leases differ from one process"
[[ -z $(ls work/work) ]] || fail "left over: $(ls work/work | head -3)"
say "leases, $killed kills: equal to the bit, $((SECONDS - begin)) s"
((of_shards >= kills && killed >= kills)) || fail "fewer than $kills kills: $of_shards, $killed"
