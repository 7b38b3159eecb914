"""Embeddings behind the interface of sentence-transformers, for programs that take an object with encode().

>>> import anser
>>> encoder = Encoder(anser.load(device="cpu"))
>>> encoder.encode(["The fox ran into the wood.", "What is 17 + 26?"]).shape
(2, 256)
"""

import sys
from collections.abc import Sequence
from typing import Any, Literal, Union, overload

import numpy as np
from numpy.typing import NDArray

from ._anser import Model
from ._errors import OptionError
from ._types import Head, Pooling

__all__ = ["Encoder"]

Floats = NDArray[np.float32]


class Encoder:
    """Encodes texts as embeddings [n, C] with a model.

    pooling, layer, eos_token and head are those of Model.embed(). prompts are texts that encode(prompt_name=...) writes in front of each text, as
    models for retrieval want for queries and documents; default_prompt_name is the one of calls that name none.
    """

    def __init__(
        self,
        model: Model,
        *,
        pooling: Pooling = "mean",
        layer: int = -1,
        eos_token: int = 65535,
        prompts: Union["dict[str, str]", None] = None,
        default_prompt_name: Union[str, None] = None,
        head: Union[Head, None] = None,
    ) -> None:
        self.model = model
        self.prompts = dict(prompts or {})
        self.default_prompt_name = default_prompt_name
        self._options: "dict[str, Any]" = {"pooling": pooling, "layer": layer, "eos_token": eos_token, "head": head}
        self._prompt(None, default_prompt_name)

    @overload
    def encode(
        self,
        sentences: Union[str, "Sequence[str]", "NDArray[np.str_]"],
        prompt_name: Union[str, None] = None,
        prompt: Union[str, None] = None,
        batch_size: int = 32,
        show_progress_bar: Union[bool, None] = None,
        *,
        convert_to_numpy: Literal[True] = True,
        normalize_embeddings: bool = False,
    ) -> Floats: ...
    @overload
    def encode(
        self,
        sentences: Union[str, "Sequence[str]", "NDArray[np.str_]"],
        prompt_name: Union[str, None] = None,
        prompt: Union[str, None] = None,
        batch_size: int = 32,
        show_progress_bar: Union[bool, None] = None,
        *,
        convert_to_numpy: bool,
        normalize_embeddings: bool = False,
    ) -> "Union[Floats, list[Floats]]": ...
    def encode(
        self,
        sentences: Union[str, "Sequence[str]", "NDArray[np.str_]"],
        prompt_name: Union[str, None] = None,
        prompt: Union[str, None] = None,
        batch_size: int = 32,
        show_progress_bar: Union[bool, None] = None,
        *,
        convert_to_numpy: bool = True,
        normalize_embeddings: bool = False,
    ) -> "Union[Floats, list[Floats]]":
        """The embedding [C] of a text, or those of several: an array [n, C], or a list of n arrays [C] if convert_to_numpy is False.

        batch_size is the number of texts that are read side by side; texts of similar length are read together. show_progress_bar shows a bar
        of tqdm, which must be installed. normalize_embeddings scales rows to length 1.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise OptionError(f"batch_size: expected a number of texts from 1, found {batch_size!r}")
        begin = self._prompt(prompt, prompt_name)
        texts = [begin + sentences] if isinstance(sentences, str) else [begin + text for text in sentences]
        order = np.argsort([-len(text) for text in texts], kind="stable")
        rows = np.empty((len(texts), self.model.n_embd), np.float32)
        with _Bar(len(texts), bool(show_progress_bar)) as bar:
            for start in range(0, len(texts), batch_size):
                batch = order[start : start + batch_size]
                rows[batch] = self.model.embed([texts[i] for i in batch], normalize=normalize_embeddings, **self._options)
                bar.update(len(batch))
        if isinstance(sentences, str):
            row: Floats = rows[0]
            return row
        return rows if convert_to_numpy else list(rows)

    def get_sentence_embedding_dimension(self) -> int:
        """C, the width of the embeddings."""
        return self.model.n_embd

    def similarity(self, a: Floats, b: Floats) -> Floats:
        """The cosines [n, m] between n embeddings [n, C] and m embeddings [m, C]."""
        a, b = (rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (np.atleast_2d(a), np.atleast_2d(b)))
        cosines: Floats = a @ b.T
        return cosines

    def _prompt(self, prompt: Union[str, None], name: Union[str, None]) -> str:
        """What is written in front of each text."""
        name = name if name is not None else self.default_prompt_name
        if prompt is not None or name is None:
            return prompt or ""
        if name not in self.prompts:
            raise OptionError(f"prompt_name: expected one of {sorted(self.prompts)}, found {name!r}")
        return self.prompts[name]

    def __repr__(self) -> str:
        return f"<anser.sentence.Encoder of {self.model.name}: {self._options}>"


class _Bar:
    """A bar of tqdm, or none."""

    def __init__(self, total: int, is_shown: bool) -> None:
        self._bar: Any = None
        if is_shown:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="texts", file=sys.stderr)

    def __enter__(self) -> "_Bar":
        return self

    def update(self, n: int) -> None:
        if self._bar is not None:
            self._bar.update(n)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
