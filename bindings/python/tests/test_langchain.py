"""LangChain's interfaces on a model, with LangChain itself."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel, Field, ValidationError

import anser
from anser.langchain import AnserEmbeddings, ChatAnser

QUESTION = "What is 17 + 26?"
GREEDY: "dict[str, Any]" = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0, "max_tokens": 20}


@pytest.fixture(scope="module")
def chat(demo: anser.Model) -> ChatAnser:
    return ChatAnser(model=demo, **GREEDY)


# Small models write long numbers where they may.
Digit = Annotated[int, Field(ge=0, le=99)]


@tool
def add(a: Digit, b: Digit) -> int:
    """The sum of two numbers."""
    return a + b


@tool
def now(zone: Literal["UTC", "CET"]) -> str:
    """The time."""
    return zone


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)


def added(chunks: "Iterable[Any]") -> AIMessageChunk:
    """The message that chunks make together."""
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def test_an_answer_is_that_of_chat_with_its_usage(demo: anser.Model, chat: ChatAnser) -> None:
    generation = demo.chat([{"role": "user", "content": QUESTION}], **GREEDY)
    expected = generation.text()
    answer = chat.invoke(QUESTION)
    assert answer.content == expected == "17 + 26 = 43."
    assert answer.usage_metadata is not None and generation.usage is not None
    assert answer.usage_metadata["input_tokens"] == generation.usage["prompt"]
    assert answer.usage_metadata["output_tokens"] == len(generation.tokens)
    assert answer.response_metadata["finish_reason"] == generation.finish_reason
    short = chat.bind(max_tokens=2).invoke(QUESTION)
    assert expected.startswith(short.text) and short.response_metadata["finish_reason"] == "length"


def test_streams_are_the_answer_in_pieces(chat: ChatAnser) -> None:
    chunks = list(chat.stream(QUESTION))
    whole = added(chunks)
    assert len(chunks) > 4
    answer = chat.invoke(QUESTION)
    assert whole.content == answer.content and whole.usage_metadata == answer.usage_metadata
    assert whole.response_metadata["finish_reason"] == "stop"


def test_tasks_are_answered_side_by_side(chat: ChatAnser) -> None:
    async def main() -> None:
        pieces = [chunk.content async for chunk in chat.astream(QUESTION)]
        answers = await chat.abatch([QUESTION] * 4)
        assert "".join(map(str, pieces)) == answers[0].content == "17 + 26 = 43."
        assert len({str(answer.content) for answer in answers}) == 1

    asyncio.run(main())
    assert [answer.content for answer in chat.batch([QUESTION] * 3)] == ["17 + 26 = 43."] * 3


def test_a_stream_that_is_left_ends_its_text(demo: anser.Model, chat: ChatAnser) -> None:
    endless = chat.bind(max_tokens=None, stop_tokens=[], stop=None)
    stream = endless.stream("Tell me a story.")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert chat.invoke(QUESTION).content == "17 + 26 = 43."


def test_turns_are_told_to_the_model(demo: anser.Model, chat: ChatAnser) -> None:
    call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "call_1", "type": "tool_call"}
    messages = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "What is "}, "1 + 2?"]),
        AIMessage("", tool_calls=[call]),
        ToolMessage("3", tool_call_id="call_1"),
        HumanMessage(QUESTION),
    ]
    told = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "content": '```json\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n```'},
        {"role": "tool", "content": "3"},
        {"role": "user", "content": QUESTION},
    ]
    assert chat.invoke(messages).content == demo.chat(told, **GREEDY).text()
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])
    with pytest.raises(ValueError, match="the model reads text, found a block of type 'image_url'"):
        chat.invoke([image])


@pytest.mark.parametrize("seed", range(4))
def test_required_calls_are_valid(demo: anser.Model, seed: int) -> None:
    chat = ChatAnser(model=demo, max_tokens=300, seed=seed)
    answer = chat.bind_tools([add, now], tool_choice="any").invoke(QUESTION)
    assert answer.content == "" and len(answer.tool_calls) == 1 and answer.tool_calls[0]["id"]
    called = {"add": add, "now": now}[answer.tool_calls[0]["name"]]
    called.invoke(answer.tool_calls[0]["args"])  # LangChain checks the arguments by the tool's own schema.
    named = chat.bind_tools([add, now], tool_choice="now")
    assert named.invoke(QUESTION).tool_calls[0]["args"]["zone"] in ("UTC", "CET")
    whole = added(named.stream(QUESTION))
    assert whole.tool_calls == [{**whole.tool_calls[0], "name": "now"}]


def test_a_call_that_is_cut_is_no_call(chat: ChatAnser) -> None:
    cut = chat.bind_tools([add], tool_choice="add").bind(max_tokens=4)
    whole = added(cut.stream(QUESTION))
    for answer in (cut.invoke(QUESTION), whole):
        assert answer.tool_calls == [] and answer.response_metadata["finish_reason"] == "length"
        assert str(answer.content).startswith('{"name')


def test_tools_that_may_be_called_leave_words(chat: ChatAnser) -> None:
    answer = chat.bind_tools([add]).invoke(QUESTION)
    assert bool(answer.content) != bool(answer.tool_calls)
    assert chat.bind_tools([add], tool_choice="none").invoke(QUESTION).content == chat.invoke(QUESTION).content
    with pytest.raises(ValueError, match="tool_choice: expected auto, any, none or the name of a tool, found 'sub'"):
        chat.bind_tools([add], tool_choice="sub")
    # What is required follows its schema in any case.
    assert chat.bind_tools([add], tool_choice="any", strict=False).invoke(QUESTION).tool_calls


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_answers_are_of_their_class(demo: anser.Model, method: Any) -> None:
    chat = ChatAnser(model=demo, max_tokens=300, seed=1)
    person = chat.with_structured_output(Person, method=method).invoke("A person, please.")
    assert isinstance(person, Person) and len(person.name) <= 12 and 0 <= person.age <= 120

    class Size(TypedDict):
        """A size."""

        width: Literal[1, 2]

    for schema in (Size, {"title": "Size", "type": "object", "properties": {"width": {"enum": [1, 2]}}, "required": ["width"]}):
        size = chat.with_structured_output(schema, method=method).invoke("How wide?")
        assert size in ({"width": 1}, {"width": 2})
    cut = chat.with_structured_output(Person, method=method, include_raw=True, max_tokens=3).invoke("A person.")
    assert cut["parsed"] is None and isinstance(cut["parsing_error"], OutputParserException)
    with pytest.raises(OutputParserException):
        chat.with_structured_output(Person, method=method, max_tokens=3).invoke("A person.")


def test_json_mode_and_unknown_methods(demo: anser.Model) -> None:
    chat = ChatAnser(model=demo, max_tokens=5, seed=1)
    raw = chat.with_structured_output({"type": "object"}, method="json_mode", include_raw=True).invoke("JSON!")["raw"]
    assert raw.content.startswith("{")
    with pytest.raises(ValueError, match="method"):
        chat.with_structured_output(Person, method="xml")  # type: ignore[arg-type]


def test_unknown_options_are_errors(demo: anser.Model, chat: ChatAnser) -> None:
    with pytest.raises(ValidationError, match="n_predict"):
        ChatAnser(model=demo, n_predict=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument n_predict"):
        chat.invoke(QUESTION, n_predict=3)
    with pytest.raises(TypeError, match="unexpected keyword argument n_predict"):
        list(chat.stream(QUESTION, n_predict=3))
    with pytest.raises(anser.OptionError, match="temperature"):
        chat.invoke(QUESTION, temperature=-1)
    with pytest.raises(TypeError, match="pool"):
        AnserEmbeddings(demo, pool="mean")  # type: ignore[call-arg]


def test_embeddings_find_the_text_that_is_meant(demo: anser.Model) -> None:
    embeddings = AnserEmbeddings(demo)
    np.testing.assert_array_equal(embeddings.embed_documents(["a", "b c"]), demo.embed(["a", "b c"], "mean", normalize=True))
    texts = ["The fox ran into the wood.", "17 + 26 = 43"]
    store = InMemoryVectorStore.from_texts(texts, embeddings)
    assert store.similarity_search("A fox was running through the trees.", k=1)[0].page_content == texts[0]
    assert asyncio.run(embeddings.aembed_query("fox")) == embeddings.embed_query("fox")
