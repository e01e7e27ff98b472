"""Who is told how far work is."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


class _Bar:
    """Tells a bar of tqdm, or anything that is used as one."""

    def __init__(self, bar: Any, own: bool) -> None:
        self._bar = bar
        self._own = own

    def __call__(self, done: float, total: float | None) -> None:
        if total is not None and self._bar.total != total:
            self._bar.total = total
            self._bar.refresh()
        # The last window may end behind the video's end.
        self._bar.update((done if total is None else min(done, total)) - self._bar.n)

    def close(self) -> None:
        # What the caller made is the caller's to close.
        if self._own:
            self._bar.close()
        else:
            self._bar.refresh()


class _Function:
    """Tells a function of (done, total)."""

    def __init__(self, function: Callable[[float, float | None], object]) -> None:
        self._function = function

    def __call__(self, done: float, total: float | None) -> None:
        self._function(done, total)

    def close(self) -> None:
        pass


def reporter(progress: Any, unit: str) -> _Bar | _Function | None:
    """What an argument `progress` means: it is called with what is done of what, and closed."""
    if progress is None or progress is False:
        return None
    if progress is True:
        try:
            tqdm = import_module("tqdm.auto").tqdm
        except ImportError:
            raise ImportError(
                "progress=True draws its bar by tqdm: pip install tqdm; or give a function of "
                "(done, total)"
            ) from None
        shown = "{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} " + unit
        return _Bar(tqdm(bar_format=shown + " [{elapsed}<{remaining}]", total=1), own=True)
    if hasattr(progress, "update") and hasattr(progress, "n"):
        return _Bar(progress, own=False)
    if callable(progress):
        return _Function(progress)
    raise TypeError(
        "progress: must be True, a bar of tqdm or a function of (done, total), not "
        f"{type(progress).__name__}"
    )
