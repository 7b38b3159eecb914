"""Models on a Ray cluster: Embed, State and Generate for Ray Data, and an app for Ray Serve. Install `anser[ray]`.

    from anser.ray import Embed, app

    embedded = ray.data.read_parquet("mails").map_batches(
        Embed, fn_constructor_kwargs={"path": "model.gguf"}, batch_size=64, num_cpus=4, compute=ray.data.ActorPoolStrategy(size=2)
    )
    serve.run(app("model.gguf", ray_actor_options={"num_cpus": 4}))

Each actor has one model, on what Ray has granted the actor (see granted()). docs/ray.md tells of pitfalls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from ._anser import Generation, Model, load
from ._anser import State as AnserState
from ._errors import AnserError, OptionError, StateError
from ._types import Messages, Prompt

__all__ = ["Embed", "Generate", "Server", "State", "app", "granted", "to_state"]

Batch = dict[str, NDArray[Any]]
"""The columns of a batch by name, each with n rows: the batch_format "numpy", which is Ray Data's own."""


def granted() -> dict[str, Any]:
    """What Ray has granted to this worker, as options of load().

    threads is num_cpus, and 1 for less than that. device is "gpu:N" for the GPU that Ray names (the number in CUDA_VISIBLE_DEVICES, which
    numbers the machine's GPUs as `anser devices` does), and "cpu" if Ray granted none. Empty in a process that is no worker of Ray's.
    OptionError for several GPUs, since a model runs on one, and for a GPU that has no number, such as a slice of one.
    """
    if not ray.is_initialized() or ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return {}
    context = ray.get_runtime_context()
    resources: dict[str, float] = context.get_assigned_resources()  # type: ignore[no-untyped-call]
    threads = max(1, int(resources.get("CPU", 0)))
    gpus = context.get_accelerator_ids().get("GPU", [])
    if not gpus:
        return {"device": "cpu", "threads": threads}
    if len(gpus) > 1:
        raise OptionError(f"num_gpus: a model runs on one GPU: expected at most 1, found GPUs {', '.join(gpus)}")
    if not gpus[0].isdigit():
        raise OptionError(f"CUDA_VISIBLE_DEVICES: expected a number, found {gpus[0]}: name the GPU, as in load={{'device': 'gpu:NAME'}}")
    return {"device": f"gpu:{gpus[0]}", "threads": threads}


def to_state(model: Model, numbers: NDArray[np.float32], fingerprint: str) -> AnserState:
    """The state with these numbers [S], a row of a column that State wrote, and the fingerprint beside it. They are not copied.

    StateError if the model has another fingerprint or states of another size.
    """
    if fingerprint != model.fingerprint:
        raise StateError(f"a state of another model: expected {model.fingerprint[:8]}, found {str(fingerprint)[:8]}")
    kind, (name, _, parts, _) = model.new_state().__reduce__()
    return kind(name, fingerprint, parts, np.ascontiguousarray(numbers, np.float32))


class _OfBatches:
    """A callable of Ray Data: a model, which each actor opens once, and the columns that it reads and writes."""

    def __init__(self, path: str | None, text_column: str, output_column: str, load_options: Mapping[str, Any] | None) -> None:
        self.model = load(path, **{**granted(), **(load_options or {})})
        self.text_column = text_column
        self.output_column = output_column

    def column(self, batch: Batch, name: str) -> list[Any]:
        """The rows of a column."""
        if not isinstance(batch, Mapping):
            raise TypeError(f'batch: expected columns as NumPy arrays (batch_format="numpy"), found {type(batch).__name__}')
        if name not in batch:
            raise KeyError(f"batch: expected a column {name!r}, found {sorted(batch)}")
        return list(batch[name])


class Embed(_OfBatches):
    """Adds a column of embeddings [n, C], float32. options are those of Model.embed(); load_options those of load()."""

    def __init__(
        self,
        path: str | None = None,
        *,
        text_column: str = "text",
        output_column: str = "embedding",
        load_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, text_column, output_column, load_options)
        self.options = options
        self.model.embed([], **options)  # Wrong options are told before any batch is read.

    def __call__(self, batch: Batch) -> Batch:
        rows = self.model.embed(self.column(batch, self.text_column), **self.options)
        return {**batch, self.output_column: rows}


class State(_OfBatches):
    """Adds a column of the states after the texts, [n, S] float32, and one of the model's fingerprint beside it, which to_state() and
    Generate take: the numbers of a state lie in one row of an array in the object store, which other actors read without a copy."""

    def __init__(
        self,
        path: str | None = None,
        *,
        text_column: str = "text",
        output_column: str = "state",
        load_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(path, text_column, output_column, load_options)

    def __call__(self, batch: Batch) -> Batch:
        texts = self.column(batch, self.text_column)
        states = np.stack([state.buffer for state in self.model.states(texts)])
        fingerprints = np.full(len(texts), self.model.fingerprint)
        return {**batch, self.output_column: states, f"{self.output_column}_fingerprint": fingerprints}


class Generate(_OfBatches):
    """Adds a column of the texts that follow the prompts. options are those of Model.generate_batch(); with state_column each prompt goes on
    from its own state, as State has written it."""

    def __init__(
        self,
        path: str | None = None,
        *,
        text_column: str = "text",
        output_column: str = "generated",
        state_column: str | None = None,
        load_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, text_column, output_column, load_options)
        self.state_column = state_column
        self.options = options
        self.model.generate_batch([], **options)  # Wrong options are told before any batch is read.

    def __call__(self, batch: Batch) -> Batch:
        states = None
        if self.state_column is not None:
            numbers = self.column(batch, self.state_column)
            fingerprints = self.column(batch, f"{self.state_column}_fingerprint")
            states = [to_state(self.model, *row) for row in zip(numbers, fingerprints)]
        texts = self.model.generate_batch(self.column(batch, self.text_column), state=states, **self.options)
        return {**batch, self.output_column: np.array(texts, dtype=object)}


class Server:
    """The class that app() deploys. Requests that run at the same time share the steps of the model.

    POST a JSON object with "prompt" (a text) or "messages" (a conversation) and options of Model.generate() or Model.chat(); the answer is
    the text, streamed. A client that leaves ends its text. Handles call generate and chat with options(stream=True), and embed, state and
    score without.
    """

    def __init__(self, path: str | None = None, max_tokens: int = 1024, load_options: Mapping[str, Any] | None = None) -> None:
        self.model = load(path, **{**granted(), **(load_options or {})})
        self.max_tokens = max_tokens
        self._n_running = 0

    async def __call__(self, request: Request) -> Response:
        try:
            generation = await self._begin(*_parsed(self.model, await request.body()))
        except (AnserError, TypeError, ValueError) as error:
            return PlainTextResponse(f"{error}\n", status_code=400)
        return StreamingResponse(self._pieces(generation), media_type="text/plain; charset=utf-8")

    async def generate(self, prompt: Prompt, state: AnserState | None = None, **options: Any) -> AsyncIterator[str]:
        """The pieces of the text that follows a prompt, from a fresh state or from another."""
        generation = await self._begin(self.model.generate, prompt, {"state": state, **options})
        async for piece in self._pieces(generation):
            yield piece

    async def chat(self, messages: Messages, **options: Any) -> AsyncIterator[str]:
        """The pieces of the answer to a conversation."""
        generation = await self._begin(self.model.chat, messages, options)
        async for piece in self._pieces(generation):
            yield piece

    async def embed(self, texts: Any, **options: Any) -> NDArray[np.float32]:
        """Embeddings [n, C], as Model.embed() gives them."""
        return await asyncio.to_thread(partial(self.model.embed, texts, **options))

    async def state(self, prompt: Prompt) -> AnserState:
        """The state after a text. Ray's object store takes it in without a further copy, and other actors read it there."""
        return await asyncio.to_thread(self.model.state, prompt)

    async def score(self, text: Prompt, state: AnserState | None = None) -> NDArray[np.float32]:
        """The log-probabilities [T] of the tokens of a text, as Model.score() gives them."""
        return await asyncio.to_thread(partial(self.model.score, text, state=state))

    def n_running(self) -> int:
        """The number of texts that are being generated in this replica."""
        return self._n_running

    async def _begin(self, begin: Any, first: Any, options: dict[str, Any]) -> Generation:
        # Long prompts are split into tokens, and grammars compiled, in a thread.
        options = {"max_tokens": self.max_tokens, **options}
        generation: Generation = await asyncio.to_thread(partial(begin, first, **options))
        return generation

    async def _pieces(self, generation: Generation) -> AsyncIterator[str]:
        """The pieces of a text, which ends when its reader does."""
        self._n_running += 1
        try:
            async with generation:
                async for piece in generation:
                    yield piece
        finally:
            self._n_running -= 1


def _parsed(model: Model, body: bytes) -> tuple[Any, Any, dict[str, Any]]:
    """The method that a request by HTTP asks for, its first argument and its options."""
    options = json.loads(body)
    if not isinstance(options, dict) or ("prompt" in options) == ("messages" in options):
        raise ValueError('expected a JSON object with either "prompt" or "messages"')
    # A state is no JSON, and an answer that is plain text reports neither progress nor log-probabilities.
    for name in ("state", "progress", "logprobs"):
        if name in options:
            raise ValueError(f"{name}: no option of a request by HTTP")
    if "prompt" in options:
        return model.generate, options.pop("prompt"), options
    return model.chat, options.pop("messages"), options


def app(
    path: str | None = None,
    *,
    max_tokens: int = 1024,
    load_options: Mapping[str, Any] | None = None,
    max_ongoing_requests: int = 64,
    **deployment: Any,
) -> serve.Application:
    """An app for serve.run(): a Server of the model at path.

    max_tokens is the length of texts whose requests give none. load_options are those of load(). max_ongoing_requests is the number of requests
    that run at the same time in a replica, each with a state of its own. deployment has further options of serve.deployment, such as
    num_replicas and ray_actor_options={"num_cpus": 4, "num_gpus": 1}.
    """
    deployed = serve.deployment(max_ongoing_requests=max_ongoing_requests, **deployment)(Server)
    return deployed.bind(path, max_tokens, load_options)
