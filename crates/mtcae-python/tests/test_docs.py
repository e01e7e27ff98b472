"""The examples of docs/python.md run as they stand."""

import re

import pytest
from conftest import PORTRAIT, ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)


def test_there_are_examples():
    assert BLOCKS


@pytest.mark.parametrize("code", BLOCKS)
def test_an_example_runs(code, tmp_path, monkeypatch):
    for module in re.findall(r"^import (\w+)", code, re.MULTILINE):
        pytest.importorskip(module)
    if "to_pandas" in code:
        pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    if "progress=True" in code:
        pytest.importorskip("tqdm")
    (tmp_path / "face.mp4").write_bytes(PORTRAIT.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/python.md", "exec"), {"__name__": "__main__"})
