"""LangChain: a chat model with streaming, tools and structured output, and embeddings. Install `anser[langchain]`.

    from anser.langchain import AnserEmbeddings, ChatAnser

    chat = ChatAnser(model=anser.load("model.gguf"), temperature=0.5, max_tokens=500)
    chat.invoke("Why is the sky blue?")

Chats and embeddings that run at the same time, by batch(), in threads or in tasks, share the steps of the model.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Literal, Union

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, ConfigDict

from . import tools as calling
from ._anser import Generation, Model
from ._types import GenerateOptions, Head, Message, Pooling, Thinking

__all__ = ["AnserEmbeddings", "ChatAnser"]

class AnserEmbeddings(Embeddings):
    """Embeddings [C] of texts. pooling, layer, normalize, eos_token and head are those of Model.embed(); an embedding model with heads wants
    pooling="eos-mean" and a head."""

    def __init__(
        self,
        model: Model,
        *,
        pooling: Pooling = "mean",
        layer: int = -1,
        normalize: bool = True,
        eos_token: int = 65535,
        head: Union[Head, None] = None,
    ) -> None:
        self.model = model
        options: dict[str, Any] = {"pooling": pooling, "layer": layer, "normalize": normalize}
        self._options: dict[str, Any] = {**options, "eos_token": eos_token, "head": head}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The embeddings of texts, read side by side."""
        rows: list[list[float]] = self.model.embed(texts, **self._options).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The embedding of one text."""
        return self.embed_documents([text])[0]


class ChatAnser(BaseChatModel):
    """A chat model.

    The fields are the options of Model.chat(), for all calls; None means the engine's default, and a name that is no option is an error.
    invoke(), bind() and the like take the same options for one call, and state=, json_schema=, regex= or grammar= as well. An answer has
    usage_metadata, and the thought of the model, if it thinks, in additional_kwargs["reasoning_content"].
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Model
    thinking: Thinking = "off"
    max_tokens: int | None = None
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
    draft: Model | None = None

    @property
    def _llm_type(self) -> str:
        return "anser"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model.name, "fingerprint": self.model.fingerprint, "thinking": self.thinking, **self._options()}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        name = kwargs.get("model", self.model.name)
        return LangSmithParams(**{**super()._get_ls_params(stop=stop, **kwargs), "ls_model_name": name})

    def _options(self) -> dict[str, Any]:
        names = set(GenerateOptions.__annotations__) & set(type(self).model_fields)
        return {name: value for name in sorted(names) if (value := getattr(self, name)) is not None}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: calling.Choice = None,
        parallel_tool_calls: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with functions that it may call.

        tool_choice is "auto" (the default: a call or words), "any", "required" or True (a call), "none", or the name of the function to call.
        A call that is required is valid by the function's schema, token by token; with parallel_tool_calls it may be several. One that
        max_tokens cuts is no call: its JSON so far is the content of the answer, with the finish_reason "length". strict is there for
        programs that pass it: what is required follows its schema in any case.
        """
        functions = [convert_to_openai_tool(tool) for tool in tools]
        calling.choose(functions, tool_choice)
        return self.bind(tools=functions, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model with answers of a form: a Pydantic class, a TypedDict, or a JSON schema as a dict.

        With the method "json_schema" the answer is valid by the schema, token by token; "json_mode" makes it any JSON object, and
        "function_calling" the arguments of a call. An answer that max_tokens cuts is an OutputParserException. include_raw=True gives a
        dict with "raw", "parsed" and "parsing_error". strict is as in bind_tools(). Further options are those of a call.
        """
        has_name = not isinstance(schema, dict) or "title" in schema or "name" in schema
        about = {"kwargs": {"method": method}, "schema": convert_to_openai_tool(schema) if has_name else schema}
        kwargs = {"ls_structured_output_format": about, **kwargs}
        if method == "function_calling":
            tool = self.bind_tools([schema], tool_choice="any", **kwargs)
            return _parsed(tool, lambda message: _arguments(message, schema), include_raw)
        if method not in ("json_schema", "json_mode"):
            raise ValueError(f'method: expected "json_schema", "json_mode" or "function_calling", found {method!r}')
        form = calling.closed(_json_schema(schema)) if method == "json_schema" else {"type": "object"}
        return _parsed(self.bind(json_schema=form, **kwargs), lambda message: _object(message, schema), include_raw)

    def _begin(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[Generation, calling.CallReader]:
        """The generation of an answer, and what reads its calls."""
        options.pop("ls_structured_output_format", None)  # What a trace says of the form.
        functions = options.pop("tools", None) or []
        choice = options.pop("tool_choice", None)
        parallel = options.pop("parallel_tool_calls", False)
        may_call, must_call = calling.choose(functions, choice)
        options = {"thinking": self.thinking, **self._options(), **options}
        if stop is not None:
            options["stop"] = stop
        if may_call:
            options["tools"] = [calling.signature(function) for function in functions]
            options["tool_choice"] = "required" if must_call else "auto"
        if must_call:
            if any(options.get(name) is not None for name in ("json_schema", "regex", "grammar")):
                raise ValueError("tool_choice: an answer that must be a call follows no other schema or grammar")
            options["json_schema"] = calling.call_schema(may_call, parallel)
        generation = self.model.chat([_message(message) for message in messages], **options)
        return generation, calling.CallReader(map(calling.name, may_call), must_call)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generation, reader = self._begin(messages, stop, kwargs)
        with generation:
            return _result(generation, generation.text(), reader, self.model.name)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generation, reader = self._begin(messages, stop, kwargs)
        async with generation:
            text = "".join([piece async for piece in generation])
        return _result(generation, text, reader, self.model.name)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        generation, reader = self._begin(messages, stop, kwargs)
        with generation:
            for piece in generation:
                if words := reader.push(piece):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=words))
        yield _last_chunk(generation, reader, self.model.name)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        generation, reader = self._begin(messages, stop, kwargs)
        async with generation:
            async for piece in generation:
                if words := reader.push(piece):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=words))
        yield _last_chunk(generation, reader, self.model.name)


def _message(message: BaseMessage) -> Message:
    """The turn of a conversation."""
    text = _text(message)
    if isinstance(message, HumanMessage):
        return {"role": "user", "content": text}
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": text}
    if isinstance(message, (ToolMessage, FunctionMessage)):
        return {"role": "tool", "content": text}
    if isinstance(message, AIMessage):
        if message.invalid_tool_calls:
            raise ValueError("messages: an answer with invalid_tool_calls cannot be told to the model")
        return calling.called(text, [calling.Call(call["name"], call["args"]) for call in message.tool_calls])
    if isinstance(message, ChatMessage):
        return {"role": message.role, "content": text}  # type: ignore[typeddict-item]  # Model.chat() checks the role.
    raise ValueError(f"messages: expected turns of system, human, ai or tool, found {type(message).__name__}")


def _text(message: BaseMessage) -> str:
    """The text of a message, which must have nothing else. Thoughts of earlier answers are told to no model of RWKV's, and calls are in
    tool_calls."""
    if isinstance(message.content, str):
        return message.content
    texts = []
    for block in message.content:
        kind = "text" if isinstance(block, str) else block.get("type")
        if kind == "text":
            texts.append(block if isinstance(block, str) else block["text"])
        elif not (isinstance(message, AIMessage) and kind in ("reasoning", "tool_call", "tool_call_chunk", "tool_use")):
            raise ValueError(f"messages: the model reads text, found a block of type {kind!r}")
    return "".join(texts)


def _json_schema(schema: dict[str, Any] | type) -> dict[str, Any]:
    if isinstance(schema, dict):
        function = schema.get("function", schema)
        return dict(function["parameters"] if "parameters" in function else function)
    if issubclass(schema, BaseModel):
        return schema.model_json_schema()
    if _is_pydantic_1(schema):
        return dict(schema.schema())  # type: ignore[attr-defined]
    return convert_to_json_schema(schema)


def _is_pydantic_1(schema: Any) -> bool:
    """Whether a class is one of pydantic.v1, which is not imported for it: on the latest Python that warns."""
    return callable(getattr(schema, "parse_obj", None)) and callable(getattr(schema, "schema", None))


def _usage(generation: Generation) -> UsageMetadata:
    usage = generation.usage or {"prompt": 0, "cached": 0, "generated": 0}
    return UsageMetadata(
        input_tokens=usage["prompt"],
        output_tokens=usage["generated"],
        total_tokens=usage["prompt"] + usage["generated"],
        input_token_details={"cache_read": usage["cached"]},
    )


def _about(generation: Generation, name: str) -> dict[str, Any]:
    """What an answer says of itself beside its text and its calls; name is the model's."""
    reasoning = {"reasoning_content": generation.reasoning} if generation.reasoning else {}
    metadata = {"model_name": name, "model_provider": "anser"}
    return {"additional_kwargs": reasoning, "usage_metadata": _usage(generation), "response_metadata": metadata}


def _result(generation: Generation, text: str, reader: calling.CallReader, name: str) -> ChatResult:
    words, calls = reader.read(text)
    tool_calls = [ToolCall(name=call.name, args=call.arguments, id=_fresh_id()) for call in calls]
    message = AIMessage(content=words, tool_calls=tool_calls, **_about(generation, name))
    info = {"finish_reason": generation.finish_reason}
    return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])


def _last_chunk(generation: Generation, reader: calling.CallReader, name: str) -> ChatGenerationChunk:
    words, calls = reader.finish()
    chunks = [
        ToolCallChunk(type="tool_call_chunk", name=call.name, args=json.dumps(call.arguments), id=_fresh_id(), index=index)
        for index, call in enumerate(calls)
    ]
    message = AIMessageChunk(content=words, tool_call_chunks=chunks, chunk_position="last", **_about(generation, name))
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": generation.finish_reason})


def _fresh_id() -> str:
    return f"call_{uuid.uuid4().hex}"


def _object(message: BaseMessage, schema: dict[str, Any] | type) -> Any:
    """The value of an answer in JSON."""
    try:
        value = json.loads(message.text)
    except ValueError as error:
        reason = message.response_metadata.get("finish_reason")
        raise OutputParserException(f"the answer is no whole JSON (finish_reason {reason}): {error}", llm_output=message.text) from error
    return _of_class(value, schema, message.text)


def _arguments(message: BaseMessage, schema: dict[str, Any] | type) -> Any:
    """The arguments of an answer that is a call."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    if not calls:
        reason = message.response_metadata.get("finish_reason")
        raise OutputParserException(f"the answer is no whole call (finish_reason {reason})", llm_output=message.text)
    return _of_class(calls[0]["args"], schema, str(calls[0]["args"]))


def _of_class(value: Any, schema: dict[str, Any] | type, text: str) -> Any:
    if isinstance(schema, dict) or not (issubclass(schema, BaseModel) or _is_pydantic_1(schema)):
        return value
    try:
        return schema.model_validate(value) if issubclass(schema, BaseModel) else schema.parse_obj(value)  # type: ignore[attr-defined]
    except ValueError as error:
        raise OutputParserException(f"the answer is not valid: {error}", llm_output=text) from error


def _parsed(
    model: Runnable[LanguageModelInput, AIMessage], parse: Callable[[BaseMessage], Any], include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    parser = RunnableLambda(parse, name="anser_form")
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    fallback = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([fallback], exception_key="parsing_error")
