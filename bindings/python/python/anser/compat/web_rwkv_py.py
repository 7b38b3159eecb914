"""The names of web-rwkv's Python bindings, on top of Anser.

A program moves by changing its import:

    import anser.compat.web_rwkv_py as wrp

    model = wrp.Model("model.st")
    tokenizer = wrp.Tokenizer("rwkv_vocab_v20230424.json")
    logits = model.run(tokenizer.encode("Hello"))

As there, a model has one state, on which every call goes on; results are flat; errors are ValueErrors. Models keep the
quantization of their file: quant, quant_nf4 and quant_sf4 are taken and have no effect. New programs are better off
with `anser` itself, which keeps any number of sessions and makes no lists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from enum import Enum, IntEnum
from typing import ClassVar, Union

import numpy as np
from numpy.typing import NDArray

import anser
from anser._types import StrPath

__all__ = ["Model", "ModelInfo", "ModelVersion", "PyRnnOption", "RnnOption", "State", "StateDevice", "Tokenizer"]


class RnnOption(Enum):
    """What run() returns."""

    Last = 0
    """Logits of the last token."""
    Full = 1
    """Logits of all tokens."""
    EmbedLast = 2
    """The last token's hidden row."""
    EmbedFull = 3
    """All hidden rows."""


PyRnnOption = RnnOption


class StateDevice(IntEnum):
    """Where a state lies; here a name only, states lie in main memory."""

    Cpu = 0
    Gpu = 1

    def __repr__(self) -> str:
        return f"StateDevice.{self.name}"

    __str__ = __repr__


class ModelVersion(IntEnum):
    """Version of RWKV; str() gives "V7"."""

    V4 = 0
    V5 = 1
    V6 = 2
    V7 = 3

    def __repr__(self) -> str:
        return f"ModelVersion.{self.name}"

    def __str__(self) -> str:
        return self.name


class State:
    """A state, [L, N + 2, C] when it is an array: a State.Cpu or a State.Gpu."""

    Cpu: ClassVar[type[State]]
    """The states that were asked to lie in main memory."""
    Gpu: ClassVar[type[State]]
    """The states that were asked to lie on the GPU."""

    _device: ClassVar[StateDevice]

    def __init__(self, state: anser.State) -> None:
        if type(self) is State:
            raise TypeError("a state comes from Model.back_state() or Model.init_state()")
        self._state = state

    def deep_clone(self) -> State:
        """A copy."""
        return type(self)(self._state.copy())

    def device(self) -> StateDevice:
        """Where it was asked to lie."""
        return self._device

    def to(self, device: StateDevice) -> State:
        """The same state."""
        return _state(self._state, device)

    def to_numpy(self) -> NDArray[np.float32]:
        """All numbers, flat, in web-rwkv's order: of every layer the attention's shift, a row for every key column of
        all heads' matrices, and the feed-forward layer's shift."""
        n_layer, n_head, n, _ = self._state.wkv.shape
        rows = np.empty((n_layer, n + 2, n_head * n), np.float32)
        rows[:, 0] = self._state.att_shift
        rows[:, 1:-1].reshape(n_layer, n, n_head, n)[:] = self._state.wkv.transpose(0, 3, 1, 2)
        rows[:, -1] = self._state.ffn_shift
        return rows.ravel()

    def to_list(self) -> list[float]:
        """The same as a list: eight times the memory."""
        numbers: list[float] = self.to_numpy().tolist()
        return numbers


class _CpuState(State):
    _device = StateDevice.Cpu


class _GpuState(State):
    _device = StateDevice.Gpu


State.Cpu, State.Gpu = _CpuState, _GpuState


def _state(state: anser.State, device: StateDevice) -> State:
    return State.Cpu(state) if device == StateDevice.Cpu else State.Gpu(state)


class ModelInfo:
    """Version and sizes of a model."""

    def __init__(self, model: anser.Model) -> None:
        self.version = ModelVersion.V7
        self.num_layer = model.n_layer
        self.num_emb = model.n_embd
        self.num_hidden = model.n_ffn
        self.num_head = model.n_head
        self.num_vocab = model.n_vocab
        self.time_mix_adapter_size = 0
        """Width of the low-rank pair of RWKV-6's token shift; RWKV-7's has none."""
        self.time_decay_adapter_size = model.ranks["w"]
        """Width of the decay's low-rank pair."""


class Model:
    """A model with one state."""

    def __init__(
        self, path: StrPath, quant: int = 0, quant_nf4: int = 0, quant_sf4: int = 0, *, device: str = "auto"
    ) -> None:
        self._model = anser.load(path, device=device)
        self._session = self._model.session()

    def info(self) -> ModelInfo:
        """Sizes of the model."""
        return ModelInfo(self._model)

    def init_state(self) -> State:
        """The state before any token."""
        return _state(self._model.new_state(), StateDevice.Cpu)

    def clear_state(self) -> None:
        """Back to the state before any token."""
        self._session.reset()

    def back_state(self, device: StateDevice = StateDevice.Cpu) -> State:
        """A copy of the state."""
        return _state(self._session.state(), device)

    def back_state_numpy(self, device: StateDevice = StateDevice.Cpu) -> NDArray[np.float32]:
        """A copy of the state, flat."""
        return self.back_state(device).to_numpy()

    def load_state(self, state: Union[State, NDArray[np.float32]]) -> None:
        """Goes on from a state, or from the array of one."""
        self._session.restore(state._state if isinstance(state, State) else self._model.import_state(state))

    def run(
        self, tokens: Sequence[int], token_chunk_size: int = 128, option: Union[RnnOption, None] = None
    ) -> list[float]:
        """Reads tokens; by default the logits of the last one. The engine chooses its own chunks."""
        logits: list[float] = self._feed(tokens, option or RnnOption.Last).tolist()
        return logits

    def run_full(self, tokens: Sequence[int], token_chunk_size: int = 128) -> list[float]:
        """Reads tokens; the logits of all of them, one row after another."""
        return self.run(tokens, token_chunk_size, RnnOption.Full)

    def embed(
        self, tokens: Sequence[int], token_chunk_size: int = 128, last_only: bool = True
    ) -> NDArray[np.float32]:
        """Reads tokens without computing the head; the hidden row of the last one, or all rows, flat."""
        return self._feed(tokens, RnnOption.EmbedLast if last_only else RnnOption.EmbedFull)

    def embed_batch(
        self, sequences: Iterable[Sequence[int]], token_chunk_size: int = 512
    ) -> list[NDArray[np.float32]]:
        """The last hidden row of every sequence, each read from a fresh state."""
        sequences = list(sequences)
        if not sequences:
            raise ValueError("sequences cannot be empty")
        if not all(map(len, sequences)):
            raise ValueError("each sequence must have at least one token")
        return list(self._model.embed(sequences))

    def _feed(self, tokens: Sequence[int], option: RnnOption) -> NDArray[np.float32]:
        if not len(tokens):
            raise ValueError("input tokens cannot be empty")
        if option in (RnnOption.Last, RnnOption.Full):
            rows = self._session.feed(tokens, logits="last" if option is RnnOption.Last else "all").logits
        else:
            hidden: anser._types.Which = "last" if option is RnnOption.EmbedLast else "all"
            rows = self._session.feed(tokens, logits=None, hidden=hidden).hidden
        assert rows is not None
        return rows.ravel()


class Tokenizer:
    """A vocabulary: web-rwkv's JSON file (ids to texts or lists of bytes), or a text file like
    rwkv_vocab_v20230424.txt."""

    def __init__(self, path: StrPath) -> None:
        with open(path, "rb") as file:
            is_json = file.read(1) in (b"{", b"[")
        self._tokenizer = _from_json(path) if is_json else anser.Tokenizer(path)

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        ids: list[int] = self._tokenizer.encode(text).tolist()
        return ids

    def decode(self, tokens: Sequence[int]) -> list[int]:
        """Bytes, as a list of ints."""
        return list(self._tokenizer.decode_bytes(tokens))


_MAX_ID = 1 << 20


def _from_json(path: StrPath) -> anser.Tokenizer:
    try:
        with open(path, encoding="utf-8") as file:
            entries = {int(key): token for key, token in json.load(file).items()}
        if not all(0 <= id < _MAX_ID for id in entries):
            raise ValueError(f"ids must be from 0 and below {_MAX_ID}")
        tokens: list[Union[bytes, None]] = [None] * (max(entries, default=-1) + 1)
        for id, token in entries.items():
            if not isinstance(token, (str, list)):
                raise ValueError(f"token {id}: expected a text or a list of bytes")
            tokens[id] = token.encode() if isinstance(token, str) else bytes(token)
        return anser.Tokenizer.from_tokens(tokens)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
