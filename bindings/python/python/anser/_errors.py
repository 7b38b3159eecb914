"""What can go wrong. Messages name the file, option or id concerned, what was expected and what was found."""


class AnserError(Exception):
    """Everything that the engine refuses or fails at."""


class ModelError(AnserError, ValueError):
    """The file holds no model that can be run, or no usable tokenizer."""


class DeviceError(AnserError, RuntimeError):
    """The device cannot be used, or this process was forked after the model was loaded."""


class TokenError(AnserError, ValueError):
    """Token ids that the vocabulary does not have, or that are not one-dimensional."""


class StateError(AnserError, ValueError):
    """A state that is damaged, of another model or of another shape, or that has numbers which are not finite."""


class OptionError(AnserError, ValueError):
    """An option out of range."""


class FileError(AnserError, OSError):
    """A file that cannot be read or written."""


class MissingFileError(FileError, FileNotFoundError):
    """A file that does not exist."""


class BusyError(AnserError, RuntimeError):
    """A session that another call is reading into or that is generating, or a generation that another call is using."""


class ClosedError(AnserError, ValueError):
    """A session that has been closed."""


class CancelledError(AnserError):
    """The call was cancelled."""
