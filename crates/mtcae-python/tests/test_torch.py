"""Tensors of PyTorch, in and out. Skipped where it is not installed."""

import numpy as np
import pytest

import mtcae

torch = pytest.importorskip("torch")


def test_frames_of_torch_are_frames(whole, noise):
    assert whole.predict(torch.from_numpy(noise)).to_json() == whole.predict(noise).to_json()


def test_clips_of_torch_go_in_and_come_back_without_a_copy(pipeline):
    clips = torch.randn(2, *pipeline.clip_shape, generator=torch.Generator().manual_seed(1))
    out = pipeline.predict_tensor(clips)
    np.testing.assert_array_equal(out.logits, pipeline.predict_tensor(clips.numpy()).logits)
    for array in out:
        tensor = torch.from_dlpack(array)
        assert tensor.data_ptr() == array.__array_interface__["data"][0]
    # Lying otherwise in memory changes nothing.
    turned = clips.transpose(3, 4)
    said, copied = pipeline.predict_tensor(turned), pipeline.predict_tensor(turned.contiguous())
    np.testing.assert_array_equal(said.logits, copied.logits)


def test_tensors_that_are_not_clips_are_refused(pipeline):
    clips = torch.zeros(1, *pipeline.clip_shape)
    want = r"clips: must be float32 \(B, T, C, H, W\), not "
    with pytest.raises(TypeError, match=want + "float64"):
        pipeline.predict_tensor(clips.double())
    with pytest.raises(TypeError, match=want + "torch.bfloat16"):
        pipeline.predict_tensor(clips.bfloat16())
    with pytest.raises(BufferError, match="detach"):
        pipeline.predict_tensor(clips.requires_grad_())
    with pytest.raises(mtcae.ModelError, match="clips"):
        pipeline.predict_tensor(torch.zeros(1, 2, 3, 4, 5))
