"""Dynamic facial expression recognition: a video in; face boxes, landmarks and expression
probabilities out.

>>> import mtcae
>>> with mtcae.Pipeline() as pipeline:
...     results = pipeline.predict("face.mp4")
>>> results[0].expression, results[0].confidence
>>> results[0].boxes          # float32 (T, 4), pixels of the video
>>> results.to_pandas()       # a row for each frame

What it says are estimates of what faces show, for research: not of what people feel, and not
for decisions about people.
"""

from ._errors import (
    ArgumentError,
    DeviceError,
    Error,
    ExistingFileError,
    LabelError,
    MissingFileError,
    ModelError,
    NoFaceError,
    ResultsError,
    VideoError,
)
from ._mtcae import (
    MTCNN,
    Face,
    LabelSummary,
    Pipeline,
    Prediction,
    Results,
    Timeline,
    Windows,
    __version__,
    label,
    read_results,
)
from ._outputs import Outputs

__all__ = [
    "MTCNN",
    "ArgumentError",
    "DeviceError",
    "Error",
    "ExistingFileError",
    "Face",
    "LabelError",
    "LabelSummary",
    "MissingFileError",
    "ModelError",
    "NoFaceError",
    "Outputs",
    "Pipeline",
    "Prediction",
    "Results",
    "ResultsError",
    "Timeline",
    "VideoError",
    "Windows",
    "__version__",
    "label",
    "read_results",
]
