"""Models and tokenizers that were pickled: a process opens each once, however often it is unpickled there."""

import hashlib
import json
import os
import threading
import weakref
from collections.abc import Hashable
from typing import Callable, TypeVar, Union

from ._errors import ModelError

_T = TypeVar("_T")

_lock = threading.Lock()
# The objects by process, kind, path and options. A forked child cannot use those of its parent.
_opened: "weakref.WeakValueDictionary[Hashable, object]" = weakref.WeakValueDictionary()


def _forget() -> None:
    """In a forked child, a thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def digest(path: str) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _once(key: Hashable, opens: Callable[[], _T]) -> _T:
    """The object of this key in this process, which opens makes if there is none."""
    key = (os.getpid(), key)
    with _lock:
        opened = _opened.get(key)
        if opened is None:
            opened = opens()
            _opened[key] = opened
        return opened  # type: ignore[return-value]


def _model_key(options: "tuple[tuple[str, object], ...]", fingerprint: str) -> Hashable:
    # As text, since adapters are lists and dictionaries, which have no hash.
    return ("model", json.dumps(options), fingerprint)


def hold_model(options: "dict[str, object]", fingerprint: str, model: object) -> "tuple[object, ...]":
    """What a model's __reduce__ returns. Unpickled in this process, it is the model itself."""
    sorted_options = tuple(sorted(options.items()))
    _once(_model_key(sorted_options, fingerprint), lambda: model)
    return open_model, (sorted_options, fingerprint)


def open_model(options: "tuple[tuple[str, object], ...]", fingerprint: str) -> object:
    """The model that was pickled, opened with the same options."""
    from ._anser import load

    def opens() -> object:
        model = load(**dict(options))  # type: ignore[arg-type]
        if model.fingerprint != fingerprint:
            found, expected = model.fingerprint[:12], fingerprint[:12]
            raise ModelError(f"{model.name}: expected the model that was pickled ({expected}), found another one ({found})")
        return model

    return _once(_model_key(options, fingerprint), opens)


def open_tokenizer(path: str, expected: str) -> object:
    """The tokenizer that was pickled, from the same file."""
    from ._anser import Tokenizer

    def opens() -> object:
        found = digest(path)
        if found != expected:
            raise ModelError(f"{path}: expected the vocabulary that was pickled ({expected[:12]}), found another one ({found[:12]})")
        return Tokenizer(path)

    return _once(("tokenizer", path, expected), opens)


def absolute(path: "Union[str, os.PathLike[str]]") -> str:
    """The path as it can be opened from any working directory."""
    return os.path.abspath(os.fspath(path))
