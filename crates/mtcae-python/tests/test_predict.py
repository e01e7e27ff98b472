"""The wheel says what the command says, to the last digit."""

import hashlib
import json

import numpy as np
import pytest
from conftest import FIXTURES, PORTRAIT, infer

import mtcae


def test_a_video_gives_the_numbers_of_the_command(results):
    said = infer(PORTRAIT)
    here = results.to_dict()
    assert here["predictions"] == said["predictions"]
    assert here["format"] == said["format"] and here["version"] == said["version"]
    provenance = results.provenance
    assert provenance["source"] == said["provenance"]["source"]
    assert provenance["source"]["sha256"] == hashlib.sha256(PORTRAIT.read_bytes()).hexdigest()
    assert provenance["model"]["files"] == said["provenance"]["model"]["files"]
    assert provenance["program"].startswith(f"mtcae {mtcae.__version__}")


def test_everybody_and_windows_give_the_numbers_of_the_command(pipeline):
    said = infer(PORTRAIT, "--people", "all", "--window", "0.5", "--stride", "0.25")
    here = pipeline.predict(PORTRAIT, people="all", length=0.5, stride=0.25)
    assert here.to_dict()["timelines"] == said["timelines"]
    (timeline,) = here.timelines
    assert (timeline.length, timeline.stride) == (0.5, 0.25)
    assert len(timeline) == len(here) == len(timeline.windows)
    points = said["timelines"][0]["points"]
    assert timeline.times.tolist() == [p["time"] for p in points]
    assert timeline.expressions == [p["expression"] or None for p in points]
    assert timeline.probabilities.shape == (len(points), len(here.classes))


def test_whole_pictures_give_the_numbers_of_the_command(whole):
    said = infer(PORTRAIT, "--crop", "none", "--faces", "none")
    assert whole.predict(str(PORTRAIT)).to_dict()["predictions"] == said["predictions"]


def test_arrays_hold_what_is_in_the_results(results):
    prediction = results.prediction
    said = results.to_dict()["predictions"][0]
    frames = said["frames"]
    count, classes = len(frames), len(said["probabilities"])
    assert prediction.to_dict() == said and len(prediction) == count
    assert prediction.expression == said["expression"]
    assert prediction.confidence == pytest.approx(said["confidence"], abs=1e-7)
    assert prediction.classes == [p["class"] for p in said["probabilities"]]
    box = [[f["face_box"][k] for k in ("x1", "y1", "x2", "y2")] for f in frames]
    same = np.testing.assert_array_equal
    for of in (prediction, results):
        assert of.boxes.dtype == np.float32 and of.boxes.shape == (count, 4)
        same(of.boxes, np.float32(box))
        assert of.landmarks.dtype == np.float32 and of.landmarks.shape == (count, 5, 2)
        assert of.times.dtype == np.float64
        assert of.times.tolist() == [f["time"] for f in frames]
        assert of.indices.dtype == np.uint64
        assert of.indices.tolist() == [f["index"] for f in frames]
        assert of.action_units.shape == (count, len(of.action_unit_names))
        same(of.action_units, np.float32([f["action_units"] for f in frames]))
    assert prediction.probabilities.shape == (classes,)
    assert results.probabilities.shape == (1, classes)
    same(results.probabilities[0], np.float32([p["probability"] for p in said["probabilities"]]))
    assert results.prediction_indices.tolist() == [0] * count
    scores = [f["detected"]["score"] if f["detected"] else np.nan for f in frames]
    same(prediction.detected_scores, np.float32(scores))
    assert prediction.detected_boxes.shape == (count, 4)
    assert prediction.seen == (said["seen"]["frames"], said["seen"]["of"])
    assert results[0] is results[-1] is results.predictions[0]
    with pytest.raises(IndexError, match="1 predictions, none of number 1"):
        results[1]


def test_windows_come_one_by_one_as_predict_has_them(pipeline, whole):
    for model in (pipeline, whole):
        told = []
        windows = model.windows(PORTRAIT, 0.4, progress=lambda done, total: told.append((done, total)))
        came = [window.to_dict() for window in windows]
        assert came == [p.to_dict() for p in model.predict(PORTRAIT, length=0.4)]
        assert told and list(windows) == []


def test_windows_that_are_forgotten_stop(whole):
    windows = whole.windows(PORTRAIT, 0.04)
    first = next(windows)
    assert first.start == 0.0 and "open" in repr(windows)
    windows.close()
    assert list(windows) == [] and "ended" in repr(windows)
    del windows
    assert len(whole.predict(PORTRAIT)) == 1


def test_frames_give_what_the_image_that_they_are_gives(whole):
    file = FIXTURES / "video/still.bmp"
    data = file.read_bytes()
    # From the bottom up, blue first, without padding at this width: see the format's header.
    start, width, height = (int.from_bytes(data[i : i + 4], "little") for i in (10, 18, 22))
    pixels = np.frombuffer(data, np.uint8, 3 * width * height, start).reshape(height, width, 3)
    image = pixels[::-1, :, ::-1]
    said = [whole.predict(source).prediction.to_dict() for source in (file, image, image[None])]
    for one in said:
        one.pop("file"), one.pop("warnings")
    assert said[0] == said[1] == said[2]


def test_frames_have_their_times(whole, noise):
    times = np.arange(16) / 10 + 3
    at = whole.predict(noise, times=times).prediction
    assert at.times.tolist() == times.tolist() and (at.start, at.end) == (3.0, 4.5)
    assert whole.predict(noise, fps=10).times.tolist() == (np.arange(16) / 10).tolist()
    assert whole.predict(noise).times[1] == 1 / 25
    assert at.file is None and at.size == (64, 48)


def test_results_are_written_and_read_whole(results, tmp_path):
    path = tmp_path / "results.json"
    results.save(path)
    assert mtcae.read_results(path).to_dict() == results.to_dict() == json.loads(path.read_text())
    assert mtcae.Results.from_json(results.to_json()).to_json() == results.to_json()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        results.save(path)
    results.save(path, overwrite=True)


def test_what_a_model_is_can_be_asked(pipeline):
    assert pipeline.classes == pipeline.config["classes"] and len(pipeline.classes) == 7
    count, channels, height, width = pipeline.clip_shape
    assert channels == 3 and height == width
    assert repr(pipeline) == 'Pipeline("default", device="cpu", precision="f32")'
    assert repr(mtcae.MTCNN()) == 'MTCNN(min_face=20, device="cpu")'


def test_a_checkpoint_by_its_folder_gives_the_numbers_of_the_command():
    folder = FIXTURES / "demo/checkpoint"
    with mtcae.Pipeline(folder, threads=1) as pipeline:
        here = pipeline.predict(FIXTURES / "demo/rendered.mp4")
    said = infer("--checkpoint", folder, FIXTURES / "demo/rendered.mp4")
    assert here.to_dict()["predictions"] == said["predictions"]
