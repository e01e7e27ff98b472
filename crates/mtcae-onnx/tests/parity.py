#!/usr/bin/env python3
"""ONNX Runtime on exported models beside what this project computes: every family of encoders with every structure and
variant, the default model, and a published classifier. scripts/onnx.sh runs it.

    python crates/mtcae-onnx/tests/parity.py

Needs onnx, onnxruntime, numpy and safetensors. Every output of every part, alone and in a batch, with weights in the
model and beside it: max|difference| / max|reference| at most TOLERANCE. Models pass onnx.checker, whose shape inference
must find the shapes that they declare. Exits with 1 if anything differs.

PARITY=program                         use this instead of `cargo run --release -p mtcae-onnx --example parity`
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINTS = ["fixtures/default", "fixtures/classifiers/hugging-face"]

# What is promised. Both sides compute in f32 in another order of terms; what is found is some 1e-6.
TOLERANCE = 1e-4

OUTPUTS = {"boxes", "landmarks", "action_units", "logits", "probabilities"}


def shapes(values) -> dict:
    """Dimensions by name, as numbers or names."""
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def check(path: Path) -> onnx.ModelProto:
    """What ONNX itself says of a file; the model without its weights."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    declared = shapes(model.graph.output)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = shapes(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output)
    for name, shape in declared.items():
        assert shape[0] == "batch", f"{path}: {name} is {shape}"
        assert inferred[name][1:] == shape[1:], f"{path}: {name} is declared {shape}, and is {inferred[name]}"
    return model


def compare(path: Path, tensors: dict) -> float:
    """The largest deviation of any output."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for clips in [slice(0, 1), slice(0, None)]:
        outputs = session.run(names, {given.name: tensors[given.name][clips]})
        for name, got in zip(names, outputs):
            want = tensors[name][clips]
            assert got.shape == want.shape, f"{path}: {name} is {got.shape}, not {want.shape}"
            assert want.std() > 1e-3 * np.abs(want).max(), f"{path}: {name} is flat"
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    return worst


def case(folder: Path) -> float:
    tensors = load_file(folder / "tensors.safetensors")
    answers = OUTPUTS & tensors.keys()
    stages = {name for name in tensors if name.startswith("Y")}
    wanted = {
        "whole.onnx": answers,
        "encoder.onnx": {"features"},
        "decoder.onnx": answers,
        "external.onnx": answers | {"features"} | stages,
    }
    worst = 0.0
    for path in sorted(folder.glob("*.onnx")):
        model = check(path)
        found = set(shapes(model.graph.output))
        assert found == wanted[path.name], f"{path}: {found}"
        said = {p.key: p.value for p in model.metadata_props}
        config = json.loads(said["config"])
        assert json.loads(said["classes"]) == config["classes"], path
        assert json.loads(said["mean"]) == config["preprocessing"]["mean"], path
        deviation = compare(path, tensors)
        assert deviation <= TOLERANCE, f"{path}: max|difference| / max|reference| {deviation:.1e}"
        worst = max(worst, deviation)
    print(f"{folder.name:45} {worst:.1e}", flush=True)
    return worst


def main() -> None:
    program = shlex.split(os.environ.get("PARITY", "cargo run --release --quiet -p mtcae-onnx --example parity --"))
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run([*program, folder, *CHECKPOINTS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if made.returncode != 0:
            sys.exit("the models could not be exported")
        folders = [Path(line) for line in made.stdout.splitlines()]
        assert len(folders) > 25, f"{len(folders)} models alone"
        worst = max(case(folder) for folder in folders)
    version = onnxruntime.__version__
    print(f"ONNX Runtime {version}: {len(folders)} models, max|difference| / max|reference| {worst:.1e} of {TOLERANCE}")


if __name__ == "__main__":
    main()
