"""MTCNN finds the faces of facenet-pytorch; label files are those of the command."""

import json
import subprocess

import numpy as np
import pytest
from conftest import BINARY, FIXTURES, PORTRAIT

import mtcae

EXPECTED = json.loads((FIXTURES / "mtcnn/expected.json").read_text())["images"]


def picture(name):
    return np.asarray(pytest.importorskip("PIL.Image").open(FIXTURES / f"mtcnn/{name}.png").convert("RGB"))


def test_faces_are_those_of_facenet_pytorch():
    detector = mtcae.MTCNN()
    for name in ("one", "five", "none"):
        image, expected = picture(name), EXPECTED[name]["faces"]
        faces = detector.detect(image)
        assert len(faces) == len(expected)
        for face, want in zip(faces, expected):
            # As crates/mtcae-faces/tests: a hundredth of a pixel.
            np.testing.assert_allclose(face.box, want["box"], atol=0.01)
            np.testing.assert_allclose(face.landmarks, want["landmarks"], atol=0.01)
            assert face.score == pytest.approx(want["score"], abs=1e-4)
            assert face.box.shape == (4,) and face.landmarks.shape == (5, 2)
        several = detector.detect(np.stack([image, image]))
        assert [len(faces) for faces in several] == [len(expected)] * 2


def test_images_that_are_none_are_refused():
    detector = mtcae.MTCNN()
    want = r"images: must be uint8 \(H, W, 3\) or \(T, H, W, 3\)"
    with pytest.raises(TypeError, match=want + ", not float64"):
        detector.detect(np.zeros((8, 8, 3)))
    with pytest.raises(ValueError, match=want):
        detector.detect(np.zeros((8, 8), np.uint8))
    with pytest.raises(mtcae.ArgumentError, match="min_face"):
        mtcae.MTCNN(min_face=2)


def test_labels_are_those_of_the_command(tmp_path):
    clips = [PORTRAIT, FIXTURES / "demo/rendered.mp4", tmp_path / "none.mp4"]
    told = []
    here = tmp_path / "here.jsonl"
    summary = mtcae.label(clips, here, progress=lambda *reached: told.append(reached))
    there = tmp_path / "there.jsonl"
    subprocess.run([BINARY, "label", "--quiet", "--out", there, *clips], capture_output=True)
    assert here.read_bytes() == there.read_bytes()
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert summary.clips == 3 and summary.resumed == 0 and summary.frames == 32
    ((file, reason),) = summary.failed
    assert file.endswith("none.mp4") and "none.mp4" in reason
    with pytest.raises(FileExistsError, match="resume=True goes on with it"):
        mtcae.label(clips, here)
    again = mtcae.label(clips, here, resume=True)
    assert (again.clips, again.resumed) == (0, 3)
    with pytest.raises(mtcae.LabelError, match="cannot resume"):
        mtcae.label(clips[1:], here, resume=True)


def test_what_cannot_be_labelled_is_refused_in_words(tmp_path):
    out = tmp_path / "labels.jsonl"
    for keywords, words in [
        ({"dataset": "imagenet"}, 'dataset: must be .* not "imagenet"'),
        ({"jobs": 0}, "jobs: "),
        ({"every": 0}, "every: "),
        ({"folds": 5}, "folds: needs a dataset"),
        ({"classes": ["a"]}, "classes: applies to"),
        ({"min_face": 1}, "min_face"),
        ({"detect_at": "moon"}, "detect_at: "),
    ]:
        with pytest.raises(ValueError, match=words):
            mtcae.label(PORTRAIT, out, **keywords)
    with pytest.raises(mtcae.LabelError, match="no video or image file in this folder"):
        mtcae.label(tmp_path, out)
    with pytest.raises(TypeError):
        mtcae.label(3, out)
    assert not out.exists()
