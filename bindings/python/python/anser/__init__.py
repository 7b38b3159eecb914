"""RWKV inference for NumPy users: load a model, encode, generate, embed, keep states.

>>> import anser
>>> model = anser.load()  # the demo model; give a path for another
>>> model.generate("Once upon a time", max_tokens=8, temperature=0).text()
', there was a girl called Anna.'
"""

import numpy as _numpy  # noqa: F401  here, so that its import never runs within a call of the engine

from ._anser import CacheStats, Fed, Generation, MemoryUse, Model, PrefixCache, Reranker, Session, State, Tokenizer, __version__, load
from ._conversation import Answer, Conversation
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
from ._types import GenerateOptions, Message, Messages, Prompt, Text

# The engine looks up NumPy's functions for its first array. An interrupt in there would be a panic, so it happens here.
Tokenizer().encode("")

__all__ = [
    "AnserError",
    "Answer",
    "BusyError",
    "CacheStats",
    "CancelledError",
    "ClosedError",
    "Conversation",
    "DeviceError",
    "Fed",
    "FileError",
    "GenerateOptions",
    "Generation",
    "MemoryUse",
    "Message",
    "Messages",
    "MissingFileError",
    "Model",
    "ModelError",
    "OptionError",
    "PrefixCache",
    "Prompt",
    "Reranker",
    "Session",
    "State",
    "StateError",
    "Text",
    "TokenError",
    "Tokenizer",
    "__version__",
    "load",
]
