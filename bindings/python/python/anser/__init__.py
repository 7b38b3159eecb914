"""RWKV inference for NumPy users: load a model, encode, generate, embed, keep states.

>>> import anser
>>> model = anser.load()  # the demo model; give a path for another
>>> model.generate("Once upon a time", max_tokens=8, temperature=0).text()
', there was a girl called Anna.'
"""

from ._anser import CacheStats, Fed, Generation, Model, Session, State, Tokenizer, load
from ._errors import (
    AnserError,
    BusyError,
    CancelledError,
    ClosedError,
    DeviceError,
    FileError,
    MissingFileError,
    ModelError,
    OptionError,
    StateError,
    TokenError,
)
from ._types import GenerateOptions, Message, Prompt

__all__ = [
    "AnserError",
    "BusyError",
    "CacheStats",
    "CancelledError",
    "ClosedError",
    "DeviceError",
    "Fed",
    "FileError",
    "GenerateOptions",
    "Generation",
    "Message",
    "MissingFileError",
    "Model",
    "ModelError",
    "OptionError",
    "Prompt",
    "Session",
    "State",
    "StateError",
    "TokenError",
    "Tokenizer",
    "load",
]
