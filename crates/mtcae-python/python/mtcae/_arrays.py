"""Arrays of others as arrays of NumPy, with their memory where that can be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# DLPack's numbers for memory that the CPU can read.
_ON_CPU = {1, 3}


def _array(name: str, given: object, want: str) -> NDArray[Any]:
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "__dlpack__"):
        device = given.__dlpack_device__()[0] if hasattr(given, "__dlpack_device__") else 1
        if device not in _ON_CPU:
            raise ValueError(f"{name}: lies on another device than the CPU; give {name}.cpu()")
        try:
            return np.from_dlpack(given)
        except RuntimeError:
            # Of a type that NumPy has none for, as bfloat16.
            kind = getattr(given, "dtype", type(given).__name__)
            raise TypeError(f"{name}: must be {want}, not {kind}") from None
    # The buffer protocol has no attribute before Python 3.12.
    try:
        memoryview(given)  # type: ignore[arg-type]
    except TypeError:
        if not hasattr(given, "__array_interface__"):
            kind = type(given).__name__
            raise TypeError(f"{name}: must be {want}, not {kind}") from None
    return np.asarray(given)


def _of(array: NDArray[Any], name: str, dtype: type[np.generic], want: str) -> NDArray[Any]:
    if array.dtype != dtype:
        raise TypeError(f"{name}: must be {want}, not {array.dtype}")
    return array


def _images(name: str, given: object, want: str) -> NDArray[np.uint8]:
    array = _of(_array(name, given, want), name, np.uint8, want)
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(f"{name}: must be {want}, none of them 0, not of shape {array.shape}")
    return array


def frames(given: object) -> NDArray[np.uint8]:
    """uint8 (T, H, W, 3), of frames or of one."""
    want = "a path, or frames as uint8 (T, H, W, 3)"
    array = _images("source", given, want)
    return array if array.ndim == 4 else array[np.newaxis]


def images(given: object) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) or (T, H, W, 3)."""
    return _images("images", given, "uint8 (H, W, 3) or (T, H, W, 3)")


def clips(given: object) -> NDArray[np.float32]:
    """float32 (B, T, C, H, W)."""
    want = "float32 (B, T, C, H, W)"
    array = _of(_array("clips", given, want), "clips", np.float32, want)
    if array.ndim != 5 or 0 in array.shape:
        raise ValueError(f"clips: must be {want}, none of them 0, not of shape {array.shape}")
    return array
