"""What the tests of the wheel share: the clips and the binary that they hold it against."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mtcae

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "fixtures"
PORTRAIT = FIXTURES / "demo/portrait.mp4"
BINARY = Path(os.environ.get("MTCAE", ROOT / "target/release/mtcae"))


@pytest.fixture(scope="session")
def pipeline():
    """The default model."""
    return mtcae.Pipeline()


@pytest.fixture(scope="session")
def whole():
    """The default model, shown whole pictures, without MTCNN: quick."""
    return mtcae.Pipeline(crop="none", faces=False, threads=2)


@pytest.fixture(scope="session")
def results(pipeline):
    """What the default model says of the portrait."""
    return pipeline.predict(PORTRAIT)


@pytest.fixture(scope="session")
def noise():
    """Frames (16, 48, 64, 3)."""
    return np.random.default_rng(0).integers(0, 256, (16, 48, 64, 3), dtype=np.uint8)


def infer(*arguments):
    """What the command says, as JSON."""
    line = [BINARY, "infer", "--quiet", "--format", "json", *arguments]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def refused(*arguments):
    """The line that the command refuses with."""
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1].removeprefix("error: ")


def script(code, *arguments, **options):
    """Starts a process of Python."""
    line = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, **options)
