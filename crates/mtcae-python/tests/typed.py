"""What type checkers are shown: each line is one that a user writes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import mtcae


def use(pipeline: mtcae.Pipeline, frames: NDArray[np.uint8]) -> None:
    results: mtcae.Results = pipeline.predict("face.mp4", people="all", progress=True)
    several: list[mtcae.Results] = [pipeline.predict(frames, fps=30), pipeline.predict(memoryview(frames))]
    boxes: NDArray[np.float32] = results.boxes
    for prediction in results:
        name: str | None = prediction.expression
        seen: tuple[int, int] | None = prediction.seen
        print(name, seen, prediction.landmarks.shape, boxes.shape, len(several))
    windows: Iterator[mtcae.Prediction] = pipeline.windows("face.mp4", 2.0, stride=1.0)
    print(next(windows).confidence + results.timelines[0].length)
    out: mtcae.Outputs = pipeline.predict_tensor(np.zeros((1, 16, 3, 96, 96), np.float32))
    if out.boxes is not None:
        print(out.boxes.sum() + out.logits.sum())
    results.save("results.json", overwrite=True)
    print(results.to_pandas(arrow=True), results.to_polars(), results.to_arrow())


def find(image: NDArray[np.uint8]) -> float:
    def told(done: float, total: float | None) -> None:
        print(done, total)

    summary: mtcae.LabelSummary = mtcae.label(["a.mp4"], "labels.jsonl", dataset=None, progress=told)
    try:
        faces = mtcae.MTCNN(min_face=40).detect(image)
    except mtcae.ArgumentError as error:
        raise ValueError(str(error)) from error
    return float(faces[0].score) + summary.clips


with mtcae.Pipeline(device="cpu", threads=2, crop="none") as opened:
    use(opened, np.zeros((16, 8, 8, 3), np.uint8))
