#!/usr/bin/env bash
# Results and labels in every format, opened by the readers of other programs and held against
# the JSON (docs/formats.md), and a run's event file by TensorBoard. Needs Python 3.11 or newer; its packages go into target/formats.
#
# PYTHON=python3.12       what to create the environment with (default python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-target}
requirements=crates/mtcae-formats/tests/requirements.txt
venv=$target/formats/venv
python=$venv/bin/python
if ! cmp -s "$requirements" "$venv/requirements.txt" || ! "$python" -c '' 2>/dev/null; then
    base=${PYTHON:-python3}
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$base is older than Python 3.11"
    rm -rf "$venv"
    "$base" -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi

"${CARGO:-cargo}" build --release --quiet --bin mtcae
mtcae=$target/release/mtcae
out=$target/formats/results
converted=$target/formats/converted
rm -rf "$out" "$converted"
mkdir -p "$out"
all=(--format json,csv,eaf,textgrid,boris,bids,parquet,arrow,srt,vtt,coco)
demo=(fixtures/demo/portrait.mp4 fixtures/demo/rendered.mp4 fixtures/demo/scanned.mp4)
# A picture without a face, and one of five people, the answer about one of whom is in doubt.
"$mtcae" infer -q "${all[@]}" --out "$out/clips" "${demo[@]}" fixtures/mtcnn/none.png
"$mtcae" infer -q "${all[@]}" --out "$out/people" --people all --least-confidence 0.9 fixtures/mtcnn/five.png
"$mtcae" infer -q "${all[@]}" --out "$out/windows" --people all --window 0.8 --stride 0.3 "${demo[@]}"
"$mtcae" infer -q "${all[@]}" --out "$out/apart" --window 0.4 --stride 0.7 --least-confidence 0.6 "${demo[0]}"
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$out/eventful"
"$python" crates/mtcae-formats/tests/readers.py --eventful "$out/windows/portrait.json" "$target/formats/eventful.json"
"$mtcae" convert -q "$target/formats/eventful.json" "${all[@]}" --out "$out/eventful"
for run in clips people windows apart eventful; do
    mapfile -t results < <(find "$out/$run" -name '*.json' ! -name '*_events.json' ! -name '*.coco.json' ! -name infer-settings.json)
    "$mtcae" convert -q "${results[@]}" --format csv,parquet,arrow --columns openface --out "$out/$run"
    # What convert makes is what infer writes, but for the date and the way to the video.
    "$mtcae" convert -q "${results[@]}" "${all[@]}" --out "$converted/$run"
    for file in "$converted/$run"/*; do
        case $file in *.eaf) continue ;; esac
        cmp "$file" "$out/$run/${file##*/}"
    done
done
"$mtcae" label -q --out "$out/labels.jsonl" --format parquet,arrow,coco "${demo[@]}" fixtures/mtcnn/five.png fixtures/mtcnn/none.png

"$python" crates/mtcae-formats/tests/readers.py "$out"
"$python" crates/mtcae-formats/tests/readers.py --labels "$out/labels.jsonl"

# The event file of a run that is killed and gone on with, as TensorBoard reads it.
run=$target/formats/run
rm -rf "$run"
pretrain=("$mtcae" pretrain --quiet fixtures/demo --out "$run" --size tiny --epochs 4 --warmup 1
    --batch 1 --accumulate 1 --sampling dense:1 --pictures 2 --save-every 2 --validation 0.3 --resume)
"${pretrain[@]}" &
begun=$!
until [[ -s $run/metrics.jsonl && $(wc -l <"$run/metrics.jsonl") -ge 4 ]]; do
    kill -0 "$begun" 2>/dev/null || break
    sleep 0.02
done
kill -9 "$begun" 2>/dev/null || true
wait "$begun" 2>/dev/null || true
"${pretrain[@]}"
"$python" crates/mtcae-train/tests/events.py "$run" 8 4
