"""One engine in a process of its own. It builds the model, writes the heads' outputs for the given input, says `ready`,
and then answers each line on standard input by the wall seconds and processor seconds of one forward."""

import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
engine, part, size, tokens, folder, threads, output = sys.argv[1:]
threads = int(threads)
os.environ["OMP_NUM_THREADS"] = str(threads)
import numpy as np

# A tube's frames and its side in pixels; and what of a graph's outputs is no head.
TUBELET, PATCH = 2, 16
PROBABILITIES = "probabilities"
GRAPH = f"{folder}/{'whole' if part == 'model' else part}.onnx"


def torch_model(precision, compiled):
    import torch
    from safetensors.torch import load_file

    import model as peer

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    model = (peer.decoder(size) if part == "decoder" else peer.Mtcae(size)).eval()
    model.load_state_dict(load_file(f"{folder}/{part}.safetensors"))
    x = torch.from_numpy(inputs.copy())
    if precision == "bf16":
        model, x = model.bfloat16(), x.bfloat16()
    if compiled:
        model = torch.compile(model)

    def run():
        with torch.inference_mode():
            return [y.float().numpy() for y in model(x)]

    return run


def graph_input(shape):
    """What a graph of `mtcae export` takes: the features, or the clip that the tubes were cut from."""
    if part == "decoder":
        return inputs
    t, c, h, w = shape
    tubes = inputs.reshape(1, t // TUBELET, h // PATCH, w // PATCH, c, TUBELET, PATCH, PATCH)
    return np.ascontiguousarray(tubes.transpose(0, 1, 5, 4, 2, 6, 3, 7)).reshape(1, t, c, h, w)


def onnxruntime_model():
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # One clip, as all other engines know.
    options.add_free_dimension_override_by_name("batch", 1)
    session = ort.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    heads = [y.name for y in session.get_outputs() if y.name != PROBABILITIES]
    x = graph_input(given.shape[1:])
    return lambda: session.run(heads, {given.name: x})


def openvino_model(precision):
    import openvino as ov

    core = ov.Core()
    hints = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = core.read_model(GRAPH)
    shape = [d.get_length() for d in list(model.input(0).partial_shape)[1:]]
    # One clip, as all other engines know.
    model.reshape([1, *shape])
    compiled = core.compile_model(model, "CPU", hints)
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != precision:
        sys.exit(f"OpenVINO computes in {taken} on this instruction set, not in {precision}")
    heads = [y for y in compiled.outputs if PROBABILITIES not in y.names]
    request, x = compiled.create_infer_request(), graph_input(shape)

    def run():
        outputs = request.infer({0: x})
        return [np.array(outputs[y]) for y in heads]

    return run


def processor():
    t = os.times()
    return t.user + t.system


inputs = np.fromfile(f"{folder}/{part}.f32", dtype=np.float32).reshape(1, int(tokens), -1)
name, precision = engine.rsplit("-", 1)
run = {
    "torch": lambda: torch_model(precision, False),
    "torch-compiled": lambda: torch_model(precision, True),
    "onnxruntime": onnxruntime_model,
    "openvino": lambda: openvino_model(precision),
}[name]()
np.concatenate([y.ravel() for y in run()]).astype(np.float32).tofile(output)
run()
import resource

print("ready", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), processor()
    run()
    print(time.perf_counter() - wall, processor() - cpu, flush=True)
