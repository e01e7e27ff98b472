"""The table of frames, as other libraries have tables."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _imported(name: str, method: str, packages: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{method} needs {name}, which cannot be imported ({error}): pip install {packages}"
        ) from None


def to_arrow(results: Any) -> Any:
    """A pyarrow.Table."""
    pyarrow = _imported("pyarrow", "to_arrow", "pyarrow")
    return pyarrow.RecordBatchReader.from_stream(results).read_all()


def to_pandas(results: Any, arrow: bool) -> Any:
    """A pandas.DataFrame."""
    pandas = _imported("pandas", "to_pandas", "pandas pyarrow")
    _imported("pyarrow", "to_pandas", "pandas pyarrow")
    table = to_arrow(results)
    if arrow:
        return table.to_pandas(types_mapper=pandas.ArrowDtype)
    # A block for each column, so that none has to be copied into one with others.
    return table.to_pandas(split_blocks=True)


def to_polars(results: Any) -> Any:
    """A polars.DataFrame."""
    polars = _imported("polars", "to_polars", "polars")
    return polars.DataFrame(results)
