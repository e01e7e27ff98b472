"""Faults are exceptions of Python, in the words of the command."""

import threading

import numpy as np
import pytest
from conftest import FIXTURES, PORTRAIT, refused

import mtcae


def test_a_closed_pipeline_says_so(noise):
    with mtcae.Pipeline(crop="none", faces=False) as pipeline:
        assert not pipeline.closed
        windows = pipeline.windows(PORTRAIT, 0.5)
    assert pipeline.closed and "closed" in repr(pipeline)
    pipeline.close()
    uses = [
        lambda: pipeline.predict(noise),
        lambda: pipeline.predict(PORTRAIT),
        lambda: pipeline.windows(PORTRAIT, 1),
        lambda: pipeline.predict_tensor(np.zeros((1, 16, 3, 96, 96), np.float32)),
        lambda: pipeline.classes,
        lambda: pipeline.__enter__(),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="the pipeline is closed; make another one"):
            use()
    # What was begun ends.
    assert len(list(windows)) > 0


def test_files_that_cannot_be_read_are_said_as_the_command_says_it(pipeline, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, kind in [
        (tmp_path / "none.mp4", FileNotFoundError),
        (empty, mtcae.VideoError),
        (text, mtcae.VideoError),
        (tmp_path, mtcae.VideoError),
        (FIXTURES / "video/audio.m4a", mtcae.VideoError),
        (FIXTURES / "video/cenc.mp4", mtcae.VideoError),
    ]:
        with pytest.raises(mtcae.Error) as caught:
            pipeline.predict(path)
        assert isinstance(caught.value, kind) and "\n" not in str(caught.value)
        if path != tmp_path:
            assert str(caught.value) == refused("infer", "--format", "json", path)
        with pytest.raises(mtcae.Error, match=str(caught.value).split(":")[0]):
            list(pipeline.windows(path, 1))


def test_checkpoints_that_cannot_be_used_are_said_as_the_command_says_it(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    for checkpoint, kind in [(tmp_path / "none", FileNotFoundError), (broken, mtcae.ModelError)]:
        with pytest.raises(mtcae.Error) as caught:
            mtcae.Pipeline(checkpoint)
        assert isinstance(caught.value, kind)
        assert str(caught.value) == refused("infer", "--checkpoint", checkpoint, PORTRAIT)


def test_arguments_are_refused_by_their_names(pipeline, whole):
    made = [
        ({"device": "tpu"}, mtcae.DeviceError, "tpu"),
        ({"precision": "f8"}, mtcae.ArgumentError, "precision: .*f8"),
        ({"crop": "nose"}, mtcae.ArgumentError, "crop: .*nose"),
        ({"threads": 0}, mtcae.ArgumentError, "threads: must be at least 1"),
        ({"min_face": 3}, mtcae.ArgumentError, "min_face"),
        ({"min_seen": 0}, mtcae.ArgumentError, "min_seen"),
        ({"detect_at": "home"}, mtcae.ArgumentError, 'detect_at: must be "source" or "model", not "home"'),
        ({"faces": False}, mtcae.ArgumentError, 'faces=False: give crop="none"'),
        ({"least_confidence": 2}, mtcae.ArgumentError, "least_confidence: "),
        ({"classes": ["a"]}, mtcae.ModelError, "config.json says its classes"),
    ]
    for keywords, kind, words in made:
        with pytest.raises(kind, match=words):
            mtcae.Pipeline(**keywords)
    asked = [
        ({"people": "some"}, 'people: must be "subject" or "all", not "some"'),
        ({"length": 0}, "length: must be a number of seconds above 0"),
        ({"stride": float("nan")}, "stride: must be a number of seconds above 0"),
        ({"batch": 0, "length": 1}, "batch: must be at least 1"),
        ({"fps": 3}, "fps and times are of frames"),
    ]
    for keywords, words in asked:
        with pytest.raises(mtcae.ArgumentError, match=words) as caught:
            pipeline.predict(PORTRAIT, **keywords)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(mtcae.ArgumentError, match="length: how many seconds"):
        pipeline.windows(PORTRAIT)
    with pytest.raises(mtcae.ArgumentError, match="faces=False cannot be used"):
        whole.predict(PORTRAIT, people="all")
    with pytest.raises(TypeError):
        pipeline.predict(PORTRAIT, nonsense=1)


def test_results_that_are_none_are_refused(tmp_path):
    path = tmp_path / "none.json"
    path.write_text("{}")
    with pytest.raises(mtcae.ResultsError, match="none.json: not results of infer"):
        mtcae.read_results(path)
    with pytest.raises(mtcae.ResultsError, match="versions 1 to 1 are known here"):
        mtcae.Results.from_json('{"format": "mtcae-results", "version": 9}')
    with pytest.raises(FileNotFoundError, match="missing.json"):
        mtcae.read_results(tmp_path / "missing.json")


def test_a_pipeline_is_used_by_several_threads_at_once(whole, noise):
    said = whole.predict(noise).to_json()
    heard = []
    work = lambda: heard.append(whole.predict(noise).to_json())
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert heard == [said] * 8


def test_progress_is_told_to_whoever_asks(whole, noise):
    told = []
    whole.predict(PORTRAIT, length=0.4, progress=lambda *reached: told.append(reached))
    assert [t[0] for t in told] == sorted(t[0] for t in told) and told[0][1] > 0
    with pytest.raises(TypeError, match="progress: must be True, a bar of tqdm or a function"):
        whole.predict(PORTRAIT, progress=3)

    def stop(done, total):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        whole.predict(PORTRAIT, length=0.04, progress=stop)
    with pytest.raises(KeyError, match="enough"):
        list(whole.windows(PORTRAIT, 0.04, progress=stop))


def test_tqdm_shows_the_progress(whole, capsys, monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    with tqdm.tqdm(total=1) as bar:
        whole.predict(PORTRAIT, length=0.4, progress=bar)
        assert bar.n == bar.total > 0
    whole.predict(PORTRAIT, length=0.4, progress=True)
    assert "100%" in capsys.readouterr().err
    assert len(list(tqdm.tqdm(whole.windows(PORTRAIT, 0.4)))) > 0
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        whole.predict(PORTRAIT, length=0.4, progress=True)
