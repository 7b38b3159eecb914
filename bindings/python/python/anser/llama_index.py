"""LlamaIndex: a model that completes, chats, streams and calls functions, and embeddings. Install `anser[llama-index]`.

    from anser.llama_index import AnserEmbedding, AnserLLM
    from llama_index.core import Settings

    model = anser.load("model.gguf")
    Settings.llm = AnserLLM(model=model, max_tokens=500)
    Settings.embed_model = AnserEmbedding(model=model)

What runs at the same time, in threads or in tasks, shares the steps of the model.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Optional

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool

from . import tools as calling
from ._anser import Generation, Model
from ._types import GenerateOptions, Head, Message, Pooling, Thinking

__all__ = ["AnserEmbedding", "AnserLLM"]

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}


class AnserEmbedding(BaseEmbedding):
    """Embeddings [C] of texts. pooling, layer, normalize, eos_token and head are those of Model.embed(); query_instruction and text_instruction are
    written in front of queries and of texts. A batch, of embed_batch_size texts, is read side by side."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=("pydantic_model_",))

    model: Model = Field(exclude=True)
    pooling: Pooling = "mean"
    layer: int = -1
    normalize: bool = True
    eos_token: int = 65535
    head: Optional[Head] = None
    query_instruction: str = ""
    text_instruction: str = ""

    def __init__(self, model: Model, **options: Any) -> None:
        fields: dict[str, Any] = {"model": model, "model_name": model.name, **options}
        super().__init__(**fields)

    @classmethod
    def class_name(cls) -> str:
        return "AnserEmbedding"

    def _embed(self, texts: list[str]) -> list[list[float]]:
        options: dict[str, Any] = {"pooling": self.pooling, "layer": self.layer, "normalize": self.normalize, "head": self.head}
        rows: list[list[float]] = self.model.embed(texts, eos_token=self.eos_token, **options).tolist()
        return rows

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed([self.query_instruction + query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed([self.text_instruction + text for text in texts])

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class AnserLLM(FunctionCallingLLM):
    """A model that completes texts and answers chats.

    The fields are the options of Model.generate() and Model.chat(), for all calls; None means the engine's default, and a name that is no
    option is an error. A call takes the same options, and state=, json_schema=, regex= or grammar= as well. context_window is the
    number of tokens that LlamaIndex packs into a prompt; the model itself has no bound. The raw of an answer has its "usage" and
    "finish_reason".
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=("pydantic_model_",))

    model: Model = Field(exclude=True)
    context_window: int = 4096
    thinking: Thinking = "off"
    max_tokens: int | None = 512
    stop: list[str] | None = None
    stop_tokens: list[int] | None = None
    seed: int | None = None
    order: Literal["rwkv", "common"] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    penalty_decay: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    lookup: bool | None = None
    draft: Model | None = Field(default=None, exclude=True)

    def __init__(self, model: Model, **options: Any) -> None:
        super().__init__(model=model, **options)

    @classmethod
    def class_name(cls) -> str:
        return "AnserLLM"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens or 512,
            is_chat_model=True,
            is_function_calling_model=True,
            model_name=self.model.name,
        )

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        names = set(GenerateOptions.__annotations__) & set(type(self).model_fields)
        return {**{name: getattr(self, name) for name in names}, **options}

    # Completions.

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The text that follows the prompt, as it stands."""
        with self.model.generate(prompt, **self._options(kwargs)) as generation:
            return CompletionResponse(text=generation.text(), raw=_raw(generation))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """complete() in an event loop, without a thread that waits."""
        async with self.model.generate(prompt, **self._options(kwargs)) as generation:
            text = "".join([piece async for piece in generation])
        return CompletionResponse(text=text, raw=_raw(generation))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """complete(), piece by piece."""
        generation = self.model.generate(prompt, **self._options(kwargs))

        def pieces() -> CompletionResponseGen:
            text = ""
            with generation:
                for piece in generation:
                    text += piece
                    yield CompletionResponse(text=text, delta=piece)
            yield CompletionResponse(text=text, delta="", raw=_raw(generation))

        return pieces()

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """complete(), piece by piece in an event loop."""
        generation = self.model.generate(prompt, **self._options(kwargs))

        async def pieces() -> CompletionResponseAsyncGen:
            text = ""
            async with generation:
                async for piece in generation:
                    text += piece
                    yield CompletionResponse(text=text, delta=piece)
            yield CompletionResponse(text=text, delta="", raw=_raw(generation))

        return pieces()

    # Chats.

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The answer to a conversation."""
        answer = self._begin(messages, kwargs)
        with answer.generation:
            answer.push(answer.generation.text())
        return answer.finish()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """chat() in an event loop, without a thread that waits."""
        answer = self._begin(messages, kwargs)
        async with answer.generation:
            async for piece in answer.generation:
                answer.push(piece)
        return answer.finish()

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """chat(), piece by piece."""
        answer = self._begin(messages, kwargs)

        def pieces() -> ChatResponseGen:
            with answer.generation:
                for piece in answer.generation:
                    if words := answer.push(piece):
                        yield answer.so_far(words)
            yield answer.finish()

        return pieces()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """chat(), piece by piece in an event loop."""
        answer = self._begin(messages, kwargs)

        async def pieces() -> ChatResponseAsyncGen:
            async with answer.generation:
                async for piece in answer.generation:
                    if words := answer.push(piece):
                        yield answer.so_far(words)
            yield answer.finish()

        return pieces()

    def _begin(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> _Answer:
        options = self._options({"thinking": self.thinking, **options})
        functions = options.pop("tools", None) or []
        may_call, must_call = calling.choose(functions, options.pop("tool_choice", None))
        parallel = options.pop("allow_parallel_tool_calls", False)
        if may_call:
            options["tools"] = [calling.signature(function) for function in functions]
            options["tool_choice"] = "required" if must_call else "auto"
        if must_call:
            if any(options.get(name) is not None for name in ("json_schema", "regex", "grammar")):
                raise ValueError("tool_choice: an answer that must be a call follows no other schema or grammar")
            options["json_schema"] = calling.call_schema(may_call, parallel)
        generation = self.model.chat([_message(message) for message in messages], **options)
        return _Answer(generation, calling.CallReader(map(calling.name, may_call), must_call))

    # Functions.

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: calling.Choice = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        messages = [*(chat_history or []), *([user_msg] if user_msg is not None else [])]
        functions = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        return {
            "messages": messages,
            "tools": functions,
            "tool_choice": ("required" if tool_required else "auto") if tool_choice is None else tool_choice,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls in an answer."""
        selections = [
            ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=block.tool_kwargs)
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
        ]
        if not selections and error_on_no_tool_call:
            raise ValueError(f"expected a call of a tool, found the answer {response.message.content!r}")
        return selections


class _Answer:
    """An answer that is being generated: its words so far and, at its end, its calls."""

    def __init__(self, generation: Generation, reader: calling.CallReader) -> None:
        self.generation = generation
        self._reader = reader
        self._words = ""

    def push(self, piece: str) -> str:
        """Takes a piece and gives the words in it."""
        words = self._reader.push(piece)
        self._words += words
        return words

    def so_far(self, delta: str) -> ChatResponse:
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=self._words), delta=delta)

    def finish(self) -> ChatResponse:
        words, calls = self._reader.finish()
        blocks: list[Any] = []
        if self.generation.reasoning:
            blocks.append(ThinkingBlock(content=self.generation.reasoning))
        blocks.append(TextBlock(text=self._words + words))
        blocks += [
            ToolCallBlock(tool_call_id=f"call_{uuid.uuid4().hex}", tool_name=call.name, tool_kwargs=call.arguments) for call in calls
        ]
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
        return ChatResponse(message=message, delta=words, raw=_raw(self.generation))


def _message(message: ChatMessage) -> Message:
    """The turn of a conversation. Thoughts of earlier answers are told to no model of RWKV's."""
    texts: list[str] = []
    calls: list[calling.Call] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict):
            calls.append(calling.Call(block.tool_name, block.tool_kwargs))
        elif not isinstance(block, ThinkingBlock):
            raise ValueError(f"messages: the model reads text and calls, found a {type(block).__name__}")
    if calls:
        return calling.called("".join(texts), calls)
    return {"role": _ROLES[message.role], "content": "".join(texts)}  # type: ignore[typeddict-item]


def _raw(generation: Generation) -> dict[str, Any]:
    return {"usage": generation.usage, "finish_reason": generation.finish_reason}
