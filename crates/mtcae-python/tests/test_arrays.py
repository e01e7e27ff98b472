"""Arrays and tensors of others, in and out; tables without copies."""

import numpy as np
import pytest

import mtcae


def address(array):
    return array.__array_interface__["data"][0]


class Tensor:
    """Anything with DLPack, as a tensor of another library."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.device, 0)


def test_frames_come_in_by_every_protocol(whole, noise):
    said = whole.predict(noise).to_json()
    strided = np.repeat(noise, 2, axis=2)[:, :, ::2]
    read_only = noise.copy()
    read_only.flags.writeable = False
    for source in (memoryview(noise), Tensor(noise), strided, noise[::-1][::-1], read_only):
        assert whole.predict(source).to_json() == said


def test_tensors_come_in_and_go_out_by_dlpack(pipeline):
    shape = (2, *pipeline.clip_shape)
    clips = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    out = pipeline.predict_tensor(Tensor(clips))
    count = pipeline.clip_shape[0]
    assert out.boxes.shape == (2, count, 4) and out.landmarks.shape == (2, count, 5, 2)
    assert out.action_units.shape == (2, count, len(pipeline.config["action_units"]))
    assert out.logits.shape == out.probabilities.shape == (2, len(pipeline.classes))
    np.testing.assert_allclose(out.probabilities.sum(1), 1, rtol=1e-6)
    for array in out:
        assert array.dtype == np.float32
        taken = np.from_dlpack(array)
        assert address(taken) == address(array)
    again = mtcae.Outputs(*pipeline.predict_tensor(clips))
    for one, other in zip(out, again):
        np.testing.assert_array_equal(one, other)
    # One by one, but for the order of sums in a batch, which is the same.
    alone = pipeline.predict_tensor(clips[1:])
    np.testing.assert_array_equal(alone.logits[0], out.logits[1])


def test_what_is_not_of_the_right_kind_is_refused_by_name(whole, noise):
    frames = r"source: must be a path, or frames as uint8 \(T, H, W, 3\)"
    refused = [
        (TypeError, frames + ", not float64", noise / 255),
        (TypeError, frames + ", not list", [[1]]),
        (TypeError, frames + ", not NoneType", None),
        (ValueError, frames + r".*\(16, 48, 64, 1\)", noise[..., :1]),
        (ValueError, frames + r".*\(48, 64\)", noise[0, ..., 0]),
        (ValueError, frames + r".*\(0, 48, 64, 3\)", noise[:0]),
        (ValueError, r"source: lies on another device than the CPU; give source.cpu\(\)", Tensor(noise, 2)),
    ]
    for kind, words, source in refused:
        with pytest.raises(kind, match=words):
            whole.predict(source)
    with pytest.raises(TypeError, match=r"clips: must be float32 \(B, T, C, H, W\), not float64"):
        whole.predict_tensor(np.zeros((1, *whole.clip_shape)))
    with pytest.raises(ValueError, match=r"clips: must be float32 .* not of shape \(3, 2\)"):
        whole.predict_tensor(np.zeros((3, 2), np.float32))
    with pytest.raises(mtcae.ModelError, match=r"clips"):
        whole.predict_tensor(np.zeros((1, 2, 3, 4, 5), np.float32))
    with pytest.raises(ValueError, match="fps: 0 is not a number of frames above 0"):
        whole.predict(noise, fps=0)
    with pytest.raises(ValueError, match="times: there are 2 of them for 16 frames"):
        whole.predict(noise, times=[0, 1])
    with pytest.raises(ValueError, match="not both"):
        whole.predict(noise, times=[0, 1], fps=3)
    with pytest.raises(ValueError, match="length and stride are of files"):
        whole.predict(noise, length=1)


def test_arrow_hands_its_memory_over(results):
    pyarrow = pytest.importorskip("pyarrow")
    table = results.to_arrow()
    assert table.num_rows == len(results.times)
    assert table["time"].to_numpy().tolist() == results.times.tolist()
    assert pyarrow.table(results).equals(table) and pyarrow.record_batch(results).num_rows == table.num_rows
    assert pyarrow.schema(results) == table.schema
    # One capsule can be taken once; the batch behind it is the receiver's own memory.
    batch = pyarrow.RecordBatchReader.from_stream(results).read_next_batch()
    frames = pyarrow.chunked_array([batch["time"]])
    assert address(batch["time"].to_numpy(zero_copy_only=True)) == frames.chunk(0).buffers()[1].address


def test_pandas_and_polars_have_the_same_table(results):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    table = results.to_arrow()
    for frame in (results.to_pandas(), results.to_pandas(arrow=True), results.to_polars()):
        assert list(frame.columns) == table.column_names
        assert list(frame["time"]) == results.times.tolist()
        np.testing.assert_array_equal(np.asarray(frame["box_x1"], np.float32), results.boxes[:, 0])
    assert isinstance(results.to_pandas(), pandas.DataFrame)
    assert isinstance(polars.DataFrame(results), polars.DataFrame)
    kept = results.to_pandas(arrow=True)["time"].array.__arrow_array__()
    kept.chunk(0).to_numpy(zero_copy_only=True)


def test_polars_does_not_copy(results):
    polars = pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(results)
    times = polars.DataFrame(table)["time"].to_numpy(allow_copy=False)
    assert address(times) == table["time"].chunk(0).buffers()[1].address
    pandas = pytest.importorskip("pandas")
    assert isinstance(results.to_pandas(), pandas.DataFrame)
    column = table.to_pandas(split_blocks=True)["time"].to_numpy()
    assert address(column) == table["time"].chunk(0).buffers()[1].address


def test_what_is_missing_is_named_with_what_installs_it(results, monkeypatch):
    import sys

    for name, call in [
        ("pandas", results.to_pandas),
        ("pyarrow", results.to_arrow),
        ("polars", results.to_polars),
    ]:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=f"needs {name}.*pip install .*{name}"):
            call()
    monkeypatch.undo()
