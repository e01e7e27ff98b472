#!/usr/bin/env python3
"""Opens documents of `infer` and `convert` with the readers of their own worlds, and holds every
interval, number and word against the JSON beside them.

    readers.py FOLDER      with NAME.json, and NAME.eaf, NAME.TextGrid, ... for each NAME
    readers.py --eventful NAME.json OUT.json        results of windows in which much happens
    readers.py --labels LABELS.jsonl      with LABELS.parquet, LABELS.arrow, LABELS.coco.json

What is expected is computed here from docs/formats.md and the JSON, not by the code under test.
"""

import contextlib
import csv
import fractions
import io
import json
import math
import pathlib
import sys
import urllib.parse

import av
import numpy
import pandas
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pympi
import textgrids
from pycocotools.coco import COCO

FACE = ["box_x1", "box_y1", "box_x2", "box_y2"]
LANDMARKS = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]
POINTS = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
f32 = numpy.float32


def same(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED: {what}\n  found    {found!r}\n  expected {expected!r}")


# ------------------------------------------------------------------------------------ expected


def ms(seconds):
    return max(0, math.floor(seconds * 1000 + 0.5))


def merged(windows):
    """Warnings as they are told apart: what is said of damage is counted together, so that
    only kinds are compared."""
    kinds = []
    for window in windows:
        for warning in window["warnings"]:
            if warning["kind"] not in kinds:
                kinds.append(warning["kind"])
    return kinds


def intervals(results):
    """(person, start, end, expression, confidence, refusal, kinds of warnings)"""
    found = []
    for p in results.get("predictions") or []:
        start = ms(p["start"])
        named = p["expression"] or None
        refusal = p["refusal"]["kind"] if p["refusal"] else None
        sure = f32(p["confidence"]) if named else None
        end = max(ms(p["end"]), start + 1)
        found.append((p["person"], start, end, named, sure, refusal, merged([p])))
    for timeline in results.get("timelines") or []:
        span = min(timeline["length"], timeline["stride"])
        reach = span * (1 + 1e-6)
        blocks = []
        for window, point in zip(timeline["windows"], timeline["points"], strict=True):
            times = [frame["time"] for frame in window["frames"]]
            centre = min(max(point["time"], times[0]), times[-1])
            named = point["expression"] or None
            why = None if named else window["refusal"]["kind"]
            share = {p["class"]: p["probability"] for p in point["probabilities"]}.get(named)
            this = (window, centre, (named, why), share)
            if blocks and window["start"] - blocks[-1][-1][0]["start"] <= reach:
                blocks[-1].append(this)
            else:
                blocks.append([this])
        at = 0
        for b, block in enumerate(blocks):
            runs = []
            for this in block:
                if runs and runs[-1][-1][2] == this[2]:
                    runs[-1].append(this)
                else:
                    runs.append([this])
            start = block[0][0]["frames"][0]["time"]
            last = block[-1][0]["frames"][-1]["time"]
            if b > 0:
                start = max(start, block[0][1] - span / 2)
            if b + 1 < len(blocks):
                last = min(last, block[-1][1] + span / 2)
            start, last = max(ms(start), at), ms(last)
            some = False
            for i, run in enumerate(runs):
                end = last
                if i + 1 < len(runs):
                    end = ms((run[-1][1] + runs[i + 1][0][1]) / 2)
                if end <= start and (some or i + 1 < len(runs)):
                    continue
                end, some = max(end, start + 1), True
                (named, why) = run[0][2]
                sure = f32(sum(f32(r[3]).astype(float) for r in run) / len(run)) if named else None
                windows = [r[0] for r in run]
                found.append((windows[0]["person"], start, end, named, sure, why, merged(windows)))
                start = end
            at = start
    return found


def people(results):
    return results.get("predictions") and [[p] for p in results["predictions"]] or [
        timeline["windows"] for timeline in results["timelines"]
    ]


def frames(results):
    """(prediction, frame), each frame once a person: of the nearest window."""
    found = []
    for windows in people(results):
        nearest = {}
        for window in windows:
            centre = (window["start"] + window["end"]) / 2
            for frame in window["frames"]:
                distance = abs(frame["time"] - centre)
                before = nearest.get(frame["index"])
                if before is None or distance < before[0]:
                    nearest[frame["index"]] = (distance, window, frame)
        found += [nearest[index][1:] for index in sorted(nearest)]
    return found


def predictions(results):
    return [prediction for windows in people(results) for prediction in windows]


def classes(results):
    names = [p["class"] for w in predictions(results) for p in w["probabilities"]]
    return list(dict.fromkeys(names))


def units(results):
    names = [unit for w in predictions(results) for unit in w.get("action_units", [])]
    return list(dict.fromkeys(names))


def whose(person):
    return "" if person is None else f" person {person}"


# ------------------------------------------------------------------------------------- readers


def elan(path, results):
    """pympi-ling. Each person's tiers; a vocabulary of the classes; the medium's link."""
    eaf = pympi.Elan.Eaf(path)
    expected = {}
    for person, start, end, named, sure, why, kinds in intervals(results):
        told = expected.setdefault(whose(person), ([], [], []))
        if named:
            told[0].append((start, end, named))
            told[1].append((start, end, str(sure)))
        if why or kinds:
            told[2].append((start, end))
    for person, told in expected.items():
        spoken = eaf.get_annotation_data_for_tier("expression" + person)
        same(f"{path}: expressions{person}", sorted(a[:3] for a in spoken), told[0])
        sure = eaf.get_ref_annotation_data_for_tier("confidence" + person)
        sure = sorted((a[0], a[1], f32(a[2])) for a in sure)
        same(f"{path}: confidences{person}", sure, [(a, b, f32(c)) for a, b, c in told[1]])
        remarks = eaf.get_annotation_data_for_tier("remarks" + person)
        same(f"{path}: remarks{person}", sorted(a[:2] for a in remarks), told[2])
        for start, end, text, *_ in remarks:
            why = [i[5] for i in intervals(results) if i[:3] == (number(person), start, end)][0]
            if why and not text.startswith("no answer: " + why.replace("-", " ")):
                sys.exit(f"FAILED: {path}: {text} does not say {why}")
    same(f"{path}: tiers", len(eaf.get_tier_names()), 3 * len(expected))
    if classes(results):
        entries = eaf.get_cv_entries("expression")
        entries = [values[0][0] for values, _ in (entries[k] for k in ids(entries))]
        same(f"{path}: vocabulary", entries, classes(results))
        kind = eaf.get_parameters_for_linguistic_type("expression")
        same(f"{path}: type", kind["CONTROLLED_VOCABULARY_REF"], "expression")
    (medium,) = eaf.get_linked_files()
    file = pathlib.Path(predictions(results)[0]["file"])
    link = urllib.parse.urlparse(medium["MEDIA_URL"])
    same(f"{path}: medium", pathlib.Path(urllib.parse.unquote(link.path)), file.absolute())
    beside = path.parent / urllib.parse.unquote(medium["RELATIVE_MEDIA_URL"])
    same(f"{path}: relative link", beside.resolve(), file.resolve())
    about = dict(eaf.get_properties())
    same(f"{path}: provenance", json.loads(about["mtcae.provenance"]), [results["provenance"]])
    same(f"{path}: purpose", about["mtcae.purpose"], results["purpose"])


def number(person):
    return int(person.split()[-1]) if person else None


def ids(entries):
    return sorted(entries, key=lambda name: int(name.removeprefix("cveid")))


def praat(path, results):
    """praat-textgrids."""
    grid = textgrids.TextGrid(str(path))
    told = intervals(results)
    end = max(i[2] for i in told)
    same(f"{path}: bounds", (grid.xmin, ms(grid.xmax)), (0, end))
    for person in dict.fromkeys(i[0] for i in told):
        for kind in ("expression", "confidence", "remarks"):
            tier, at = grid[kind + whose(person)], 0
            for part in tier:  # contiguous, from the first to the last moment
                same(f"{path}: {kind} at {at}", ms(part.xmin), at)
                at = ms(part.xmax)
            same(f"{path}: {kind} ends", at, end)
            found = [(ms(p.xmin), ms(p.xmax), str(p.text)) for p in tier if str(p.text)]
            of = [i for i in told if i[0] == person]
            if kind == "expression":
                expected = [(i[1], i[2], i[3]) for i in of if i[3]]
            elif kind == "confidence":
                expected = [(i[1], i[2], i[4]) for i in of if i[3]]
                found = [(a, b, f32(c)) for a, b, c in found]
            else:
                expected = [i[1:3] for i in of if i[5] or i[6]]
                found = [f[:2] for f in found]
            same(f"{path}: {kind}", found, expected)


def boris(path, results):
    """pandas, as analyses of BORIS's exports do."""
    table = pandas.read_csv(path, keep_default_na=False)
    told = intervals(results)
    same(f"{path}: rows", len(table), len(told))
    for (_, row), (person, start, end, named, sure, why, kinds) in zip(table.iterrows(), told):
        same(f"{path}: start", ms(row["Start (s)"]), start)
        same(f"{path}: stop", ms(row["Stop (s)"]), end)
        same(f"{path}: duration", ms(row["Duration (s)"]), end - start)
        same(f"{path}: behaviour", row["Behavior"], named or f"no answer: {why}")
        same(f"{path}: subject", row["Subject"], whose(person).strip() or "No focal subject")
        same(f"{path}: type", row["Behavior type"], "STATE")
        same(f"{path}: file", row["Media file name"], predictions(results)[0]["file"])
        comment = [part for part in row["Comment start"].split("; ") if part]
        if named:
            same(f"{path}: confidence", f32(comment[0].removeprefix("confidence ")), sure)
        same(f"{path}: remarks", len(comment) >= bool(named) + bool(why) + len(kinds), True)


def bids(path, results):
    """pandas; the sidecar says what each column is."""
    table = pandas.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    told = sorted(intervals(results), key=lambda i: (i[1], i[0] or 0))
    same(f"{path}: columns", list(table)[:3], ["onset", "duration", "trial_type"])
    same(f"{path}: described", [c for c in table if "Description" not in sidecar[c]], [])
    same(f"{path}: levels", list(sidecar["trial_type"]["Levels"]), classes(results))
    same(f"{path}: provenance", sidecar["Provenance"], [results["provenance"]])
    same(f"{path}: rows", len(table), len(told))
    cell = lambda value: None if pandas.isna(value) else value
    for (_, row), (person, start, end, named, sure, why, kinds) in zip(table.iterrows(), told):
        same(f"{path}: onset", ms(row["onset"]), start)
        same(f"{path}: duration", ms(row["duration"]), end - start)
        same(f"{path}: trial_type", cell(row["trial_type"]), named)
        same(f"{path}: confidence", cell(row["confidence"]) and f32(row["confidence"]), sure)
        same(f"{path}: person", cell(row["person"]), person)
        same(f"{path}: refusal", cell(row["refusal"]), why)
        same(f"{path}: warnings", cell(row["warnings"]) is None, not kinds)


def captions(path, results):
    """FFmpeg's demuxers, of PyAV."""
    told = sorted(intervals(results), key=lambda i: (i[1], i[0] or 0))
    several = len({i[0] for i in told}) > 1
    with av.open(str(path)) as file:
        (stream,) = file.streams
        packets = [p for p in file.demux(stream) if p.size]
        found = [(p.pts, p.pts + p.duration, bytes(p).decode()) for p in packets]
        same(f"{path}: unit", stream.time_base, fractions.Fraction(1, 1000))
    expected = []
    for person, start, end, named, sure, why, _ in told:
        text = f"{named} {100 * sure:.0f} %" if named else f"no answer: {why.replace('-', ' ')}"
        expected.append((start, end, whose(person).strip() + ": " + text if several else text))
    same(f"{path}", found, expected)


def flat(prediction, frame, of):
    """A row of a table of frames, by the names of its columns."""
    row = {
        "file": prediction["file"],
        "person": prediction["person"],
        "start": prediction["start"],
        "end": prediction["end"],
        "frame": frame["index"],
        "time": frame["time"],
        "expression": prediction["expression"] or None,
        "confidence": prediction["confidence"],
        "refusal": prediction["refusal"] and prediction["refusal"]["kind"],
    }
    seen = prediction["seen"] or {}
    row |= {"frames_with_face": seen.get("frames"), "frames_looked_at": seen.get("of")}
    shares = {p["class"]: p["probability"] for p in prediction["probabilities"]}
    row |= {f"p_{name}": shares.get(name) for name in classes(of)}
    row |= face("", frame["face_box"], frame["landmarks"])
    strengths = dict(zip(prediction.get("action_units", []), frame.get("action_units", [])))
    row |= {unit: strengths.get(unit) for unit in units(of)}
    seen = frame["detected"] or {}
    row["detected_score"] = seen.get("score")
    return row | face("detected_", seen.get("face_box"), seen.get("landmarks"))


def face(prefix, box, landmarks):
    row = {f"{prefix}box_{edge}": box and box[edge] for edge in ("x1", "y1", "x2", "y2")}
    for name in LANDMARKS:
        for i, axis in enumerate("xy"):
            row[f"{prefix}{name}_{axis}"] = landmarks and landmarks[name][i]
    return row


def table(path, results, read):
    """pyarrow."""
    found = read(path)
    about = {k.decode(): v.decode() for k, v in found.schema.metadata.items()}
    same(f"{path}: provenance", json.loads(about["provenance"]), [results["provenance"]])
    same(f"{path}: purpose", about["purpose"], results["purpose"])
    expected = [flat(p, f, results) for p, f in frames(results)]
    same(f"{path}: columns", found.column_names, [*expected[0], "warnings"])
    columns = {name: found.column(name) for name in expected[0]}
    for name, column in columns.items():
        values = [row[name] for row in expected]
        if pyarrow.types.is_float32(column.type):
            values = [value if value is None else f32(value).item() for value in values]
        same(f"{path}: {name}", column.to_pylist(), values)
    for warnings, (prediction, _) in zip(found.column("warnings").to_pylist(), frames(results)):
        same(f"{path}: warnings", len(warnings), len(prediction["warnings"]))
    kinds = {name: str(found.schema.field(name).type) for name in found.column_names}
    words = "dictionary<values=string, indices=int32, ordered=0>"
    same(f"{path}: types", [kinds[n] for n in ("file", "frame", "time", "confidence", "warnings")],
         [words, "int64", "double", "float", kinds["warnings"]])
    same(f"{path}: lists", kinds["warnings"].startswith("list<") and "string" in kinds["warnings"], True)


def arrow(path):
    with pyarrow.OSFile(str(path)) as file:
        return pyarrow.ipc.open_file(file).read_all()


def csv_table(path, results):
    """Python's csv: a row a frame of each prediction, overlapping windows apart."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [flat(p, f, results) for p in predictions(results) for f in p["frames"]]
    same(f"{path}: rows", len(rows), len(expected))
    for row, wanted in zip(rows, expected):
        same(f"{path}: time", row["time"], f"{wanted['time']:.3f}")
        label = wanted["expression"] or f"no answer: {wanted['refusal']}"
        same(f"{path}: expression", row["expression"], label)
        for name in [*FACE, *POINTS]:
            cell = "" if wanted[name] is None else f"{f32(wanted[name]).item():.2f}"
            same(f"{path}: {name}", row[name], cell)


def openface(path, results):
    """pandas."""
    found = pandas.read_csv(path)
    rows = frames(results)
    same(f"{path}: rows", len(found), len(rows))
    for (_, row), (prediction, frame) in zip(found.iterrows(), rows):
        same(f"{path}: frame", row["frame"], frame["index"] + 1)
        same(f"{path}: timestamp", row["timestamp"], frame["time"])
        same(f"{path}: face_id", row["face_id"], (prediction["person"] or 1) - 1)
        score = (frame["detected"] or {"score": 0})["score"]
        same(f"{path}: confidence", f32(row["confidence"]), f32(score))
        same(f"{path}: success", row["success"], int(score > 0))
        for i, name in enumerate(LANDMARKS):
            for j, axis in enumerate("xy"):
                point = frame["landmarks"] and f32(frame["landmarks"][name][j])
                cell = row[f"{axis}_{i}"]
                same(f"{path}: {axis}_{i}", None if pandas.isna(cell) else f32(cell), point)
        for unit, strength in zip(prediction.get("action_units", []), frame.get("action_units", [])):
            name = f"AU{int(unit[2:]):02}_r"
            same(f"{path}: {name}", f32(row[name]), f32(5) * f32(strength))
        named = None if pandas.isna(row["expression"]) else row["expression"]
        same(f"{path}: expression", named, prediction["expression"] or None)


def opened(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def coco(path, results):
    """pycocotools."""
    data = opened(path)
    rows = frames(results)
    same(f"{path}: provenance", data.dataset["info"]["provenance"], [results["provenance"]])
    images = {image["frame"]: image for image in data.loadImgs(data.getImgIds())}
    same(f"{path}: images", sorted(images), sorted({f["index"] for _, f in rows}))
    same(f"{path}: categories", [c["name"] for c in data.loadCats([1, 2])], ["face", "detected face"])
    expected = {1: [], 2: []}
    for prediction, frame in rows:
        image = images[frame["index"]]
        size = (prediction["source"]["width"], prediction["source"]["height"])
        same(f"{path}: size", (image["width"], image["height"]), size)
        same(f"{path}: name", image["file_name"], f"{prediction['file']}#frame={frame['index']}")
        same(f"{path}: time", image["time"], frame["time"])
        seen = frame["detected"]
        told = (prediction["person"], prediction["expression"] or None)
        if frame["face_box"]:
            expected[1].append((image["id"], *told, 1.0, *shape(frame["face_box"], frame["landmarks"])))
        if seen:
            expected[2].append((image["id"], *told, f32(seen["score"]), *shape(seen["face_box"], seen["landmarks"])))
    for category, faces in expected.items():
        found = []
        for a in data.loadAnns(data.getAnnIds(catIds=[category])):
            about = a["attributes"]
            numbers = tuple(f32(v) for v in a["bbox"]), tuple(f32(v) for v in a["keypoints"])
            same(f"{path}: area", f32(a["area"]), numbers[0][2] * numbers[0][3])
            same(f"{path}: keypoints", (a["num_keypoints"], a["iscrowd"]), (5, 0))
            score = f32(a["score"])
            found.append((a["image_id"], about["person"], about["expression"], score, *numbers))
        same(f"{path}: faces of category {category}", found, faces)


def shape(box, landmarks):
    x1, y1, x2, y2 = (f32(box[edge]) for edge in ("x1", "y1", "x2", "y2"))
    points = [f32(v) for name in LANDMARKS for v in (*landmarks[name], 2)]
    return (x1, y1, x2 - x1, y2 - y1), tuple(points)


# -------------------------------------------------------------------------------------- labels


def labels(path):
    clips = [json.loads(line) for line in path.read_text().splitlines()]
    base = path.with_suffix("")
    expected = []
    for clip in clips:
        size = clip["source"] and (clip["source"]["width"], clip["source"]["height"])
        for i, frame in enumerate(clip["frames"]):
            faces = [(t, f) for t in clip["tracks"] for f in t["faces"] if f["frame"] == i]
            for track, found in faces or [(None, None)]:
                numbers = found and [*found["box"], *sum(found["landmarks"], [])]
                numbers = numbers and [f32(v) * f32(size[k % 2]) for k, v in enumerate(numbers)]
                row = (clip["file"], frame["index"], frame["time"], track and track["id"])
                expected.append((*row, found and f32(found["score"]), numbers))
    for file, read in ((f"{base}.parquet", pyarrow.parquet.read_table), (f"{base}.arrow", arrow)):
        found = read(file).to_pylist()
        same(f"{file}: rows", len(found), len(expected))
        for row, (clip, frame, time, track, score, numbers) in zip(found, expected):
            same(f"{file}: frame", (row["file"], row["frame"], row["time"], row["track"]), (clip, frame, time, track))
            same(f"{file}: score", row["score"] and f32(row["score"]), score)
            told = [row[name] for name in [*FACE, *POINTS]]
            same(f"{file}: face", None if told[0] is None else [f32(v) for v in told], numbers)
    data = opened(f"{base}.coco.json")
    faces = [row for row in expected if row[5]]
    same(f"{base}.coco.json: faces", len(data.getAnnIds()), len(faces))
    for a, (clip, frame, _, track, score, numbers) in zip(data.loadAnns(data.getAnnIds()), faces):
        (image,) = data.loadImgs([a["image_id"]])
        same("coco: frame", (image["file_name"], a["attributes"]["track"]), (f"{clip}#frame={frame}", track))
        same("coco: score", f32(a["score"]), score)
        same("coco: corner", [f32(v) for v in a["bbox"][:2]], numbers[:2])
        points = [f32(v) for i, v in enumerate(a["keypoints"]) if i % 3 < 2]
        same("coco: keypoints", points, numbers[4:])
    print(f"{path}: {len(clips)} clips, {len(expected)} rows, {len(faces)} faces are equal")


def folder(path):
    names = [p for p in sorted(path.rglob("*.json")) if not p.name.endswith((".coco.json", "_events.json"))]
    names = [p for p in names if json.loads(p.read_text()).get("format") == "mtcae-results"]
    for name in names:
        results = json.loads(name.read_text())
        base = str(name.with_suffix(""))
        place = lambda ending: pathlib.Path(base + ending)
        elan(place(".eaf"), results)
        praat(place(".TextGrid"), results)
        boris(place(".boris.csv"), results)
        bids(place("_events.tsv"), results)
        captions(place(".srt"), results)
        captions(place(".vtt"), results)
        table(place(".parquet"), results, pyarrow.parquet.read_table)
        table(place(".arrow"), results, arrow)
        csv_table(place(".csv"), results)
        openface(place(".openface.csv"), results)
        coco(place(".coco.json"), results)
        told = intervals(results)
        none = sum(i[3] is None for i in told)
        print(f"{base}: {len(told)} intervals ({none} without an answer), {len(frames(results))} frames are equal")
    if not names:
        sys.exit(f"FAILED: no results in {path}")


def eventful(results):
    """What no short clip shows: expressions that change, windows that are missing, a second
    person, refusals of several kinds, warnings."""
    (first,) = results["timelines"]
    names = classes(results)
    second = json.loads(json.dumps(first))
    for timeline, person, step in ((first, 1, 2), (second, 2, 3)):
        for i, (window, point) in enumerate(zip(timeline["windows"], timeline["points"])):
            window["person"] = person
            class_ = names[i // step % len(names)]
            window["expression"] = point["expression"] = class_
            for told in (window["probabilities"], point["probabilities"]):
                for j, share in enumerate(told):
                    share["probability"] = 0.5 + i / 100 if share["class"] == class_ else 0.01 * j
            window["confidence"] = 0.5 + i / 100
            if i % 4 == person:
                kinds = ({"kind": "no-face", "of": 16}, {"kind": "too-small", "eyes": 4.5, "smallest": 9.0})
                window["refusal"] = kinds[i // 4 % 2]
                window["expression"] = point["expression"] = ""
            if i % 3 == 0:
                window["warnings"] = [{"kind": "several", "others": 1}, {"kind": "odd-rotation"}]
    gone = slice(3, 5)
    for part in (second["windows"], second["points"]):
        del part[gone]
    results["timelines"] = [first, second]
    return results


if sys.argv[1] == "--eventful":
    made = eventful(json.loads(pathlib.Path(sys.argv[2]).read_text()))
    pathlib.Path(sys.argv[3]).write_text(json.dumps(made))
elif sys.argv[1] == "--labels":
    labels(pathlib.Path(sys.argv[2]))
else:
    folder(pathlib.Path(sys.argv[1]))
