"""What the heads of a model say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Outputs(NamedTuple):
    """What the heads say of B clips of T frames, each float32.

    Other libraries take the arrays by DLPack, without a copy: `torch.from_dlpack(out.boxes)`.
    """

    boxes: NDArray[np.float32] | None
    """(B, T, 4): x1, y1, x2, y2 in fractions of the clip's frame."""
    landmarks: NDArray[np.float32] | None
    """(B, T, 5, 2): x, y in fractions of the clip's frame."""
    action_units: NDArray[np.float32] | None
    """(B, T, U): strengths, mostly from 0 to 1."""
    logits: NDArray[np.float32]
    """(B, C): before calibration."""
    probabilities: NDArray[np.float32]
    """(B, C): each row sums to 1."""
