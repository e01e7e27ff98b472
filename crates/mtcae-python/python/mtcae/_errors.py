"""What can go wrong. The words are those of the command `mtcae`."""


class Error(Exception):
    """Anything that mtcae finds wrong; in one line, with the file or argument at fault."""

    __module__ = "mtcae"


class ArgumentError(Error, ValueError):
    """An argument that cannot be used; the line begins with its name."""

    __module__ = "mtcae"


class MissingFileError(Error, FileNotFoundError):
    """A file that is not there."""

    __module__ = "mtcae"


class ExistingFileError(Error, FileExistsError):
    """A file that is there already, and is not written over unasked."""

    __module__ = "mtcae"


class VideoError(Error):
    """A video or image that cannot be read."""

    __module__ = "mtcae"


class ModelError(Error):
    """A checkpoint that cannot be used."""

    __module__ = "mtcae"


class DeviceError(Error):
    """A device, or an instruction set, that is not there."""

    __module__ = "mtcae"


class NoFaceError(Error):
    """Nobody is seen whom the model could be shown, and its config has no answer for that."""

    __module__ = "mtcae"


class ResultsError(Error):
    """A file of results that is none."""

    __module__ = "mtcae"


class LabelError(Error):
    """Labels, a dataset or its folds that cannot be used."""

    __module__ = "mtcae"
