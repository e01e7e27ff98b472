"""How fast the Python package is beside the binary, on the same video and by turns.

    python benches/python.py target/release/mtcae VIDEO [ROUNDS]

Both look at windows of half a second, one every 40 ms, and write JSON. What a run takes on a
still (starting, loading, one clip) is measured as well and taken off, so that what is left is
the work. Prints medians of wall and CPU seconds, and the binary's share of the package's.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

STILL = Path(__file__).parents[1] / "fixtures/video/still.png"
CODE = """
import sys, mtcae
video, stride, threads = sys.argv[1:]
windows = dict(length=0.5, stride=float(stride)) if stride != "0" else {}
with mtcae.Pipeline(threads=int(threads)) as pipeline:
    sys.stdout.write(pipeline.predict(video, **windows).to_json())
"""


def run(line):
    """Wall and CPU seconds of a process, and how many windows it answered about."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(line, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    said = json.loads(done.stdout)
    return wall, cpu, len(said.get("timelines", [{"windows": []}])[0]["windows"])


def main(binary, video, rounds):
    threads = str(len(os.sched_getaffinity(0)))

    def lines(file, stride):
        command = [binary, "infer", "--quiet", "--format", "json", "--threads", threads, str(file)]
        if stride != "0":
            command += ["--window", "0.5", "--stride", stride]
        return {"binary": command, "package": [sys.executable, "-c", CODE, str(file), stride, threads]}

    took = {name: [] for name in ("binary", "package")}
    for turn in range(rounds):
        order = list(took) if turn % 2 else list(took)[::-1]
        for name in order:
            start = run(lines(STILL, "0")[name])
            work = run(lines(video, "0.04")[name])
            took[name].append((work[0] - start[0], work[1] - start[1], work[2]))
    medians = {}
    for name, runs in took.items():
        medians[name] = [statistics.median(r[k] for r in runs) for k in (0, 1)]
        wall, cpu = medians[name]
        print(f"{name:8}  {runs[0][2]} windows  wall {wall:.3f} s  CPU {cpu:.3f} s")
    for k, what in enumerate(("wall", "CPU")):
        print(f"{what}: {100 * medians['binary'][k] / medians['package'][k]:.1f} % of the binary's throughput")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5)
