"""A run's event file as TensorBoard reads it, held against the run's log.

    events.py RUN STEPS EPOCHS    a folder with metrics.jsonl; what its log must have at least
"""

import json
import sys
from pathlib import Path

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def numbers(name, value):
    """All numbers of a line by the names that lead to them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("step", "epoch"):
                yield from numbers(f"{name}/{key}", inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def main(run, steps, epochs):
    run = Path(run)
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    curves = {tag: events.Scalars(tag) for tag in tags["scalars"]}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    wanted, taken, ends = {}, 0, 0
    for line in lines:
        kind = line.pop("kind")
        # An epoch stands where its last step does.
        taken, ends = (line["step"], ends) if kind == "step" else (taken, ends + 1)
        for tag, value in numbers(kind, line):
            wanted.setdefault(tag, []).append((taken, value))
    assert taken + 1 >= steps and ends >= epochs, f"{taken + 1} steps, {ends} epochs"
    for tag, points in wanted.items():
        found = [(point.step, numpy.float32(point.value)) for point in curves[tag]]
        want = [(step, numpy.float32(value)) for step, value in points]
        assert found == want, f"{tag}: {found} for {want}"
    # What only a clock knows stands beside each step here, and in the log on demand.
    every = [point.step for point in curves["step/loss"]]
    for tag in ("step/clips_per_second", "step/waiting", "step/seconds", "step/parts/decode",
                "step/parts/wait", "step/parts/forward", "step/parts/backward",
                "step/parts/reduce", "step/parts/update", "step/parts/rest"):
        points = curves[tag]
        assert [point.step for point in points] == every, tag
        assert all(0 <= point.value < 1e6 for point in points), tag
    assert every == list(range(taken + 1)), "no step is there twice, none is missing"
    for tag in tags["images"]:
        for image in events.Images(tag):
            assert image.encoded_image_string.startswith(b"\x89PNG") and image.width > 0, tag
    pictures = sorted(run.glob("reconstructions/*.png"))
    shown = [image for tag in tags["images"] for image in events.Images(tag)]
    assert [p.read_bytes() for p in pictures] == [i.encoded_image_string for i in shown]
    print(f"{run}: {len(curves)} curves of {taken + 1} steps, {len(shown)} pictures: as the log")


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
