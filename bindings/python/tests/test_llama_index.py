"""LlamaIndex's interfaces on a model, with LlamaIndex itself."""

import asyncio
from typing import Any

import numpy as np
import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, ToolCallBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field, ValidationError

import anser
from anser.llama_index import AnserEmbedding, AnserLLM

GREEDY: "dict[str, Any]" = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0, "max_tokens": 20}
PROMPT = "In the morning"
"""The two likeliest tokens are never closer than 0.1 after it, so that rounding side by side draws no other."""
QUESTION = [ChatMessage(role=MessageRole.USER, content="What is 17 + 26?")]


@pytest.fixture(scope="module")
def llm(demo: anser.Model) -> AnserLLM:
    return AnserLLM(demo, **GREEDY)


class Digits(BaseModel):
    """Two numbers. Small models write long ones where they may."""

    a: int = Field(ge=0, le=99)
    b: int = Field(ge=0, le=99)


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


def test_completions_are_those_of_generate(demo: anser.Model, llm: AnserLLM) -> None:
    expected = demo.generate(PROMPT, **GREEDY).text()
    whole = llm.complete(PROMPT)
    assert whole.text == expected and whole.raw["usage"]["generated"] == 20 and whole.raw["finish_reason"] == "length"
    pieces = list(llm.stream_complete(PROMPT))
    assert "".join(piece.delta or "" for piece in pieces) == expected == pieces[-1].text and len(pieces) > 4

    async def main() -> None:
        answers = await asyncio.gather(*[llm.acomplete(PROMPT) for _ in range(3)])
        assert {answer.text for answer in answers} == {expected}
        assert [piece.text async for piece in await llm.astream_complete(PROMPT)][-1] == expected

    asyncio.run(main())
    assert llm.complete(PROMPT, max_tokens=2).text == demo.generate(PROMPT, **{**GREEDY, "max_tokens": 2}).text()


def test_chats_are_those_of_chat(llm: AnserLLM) -> None:
    whole = llm.chat(QUESTION)
    assert whole.message.content == "17 + 26 = 43." and whole.raw["finish_reason"] == "stop"
    pieces = list(llm.stream_chat(QUESTION))
    assert "".join(piece.delta or "" for piece in pieces) == "17 + 26 = 43." == pieces[-1].message.content

    async def main() -> None:
        answers = await asyncio.gather(*[llm.achat(QUESTION) for _ in range(3)])
        assert {answer.message.content for answer in answers} == {"17 + 26 = 43."}
        assert [piece async for piece in await llm.astream_chat(QUESTION)][-1].message.content == "17 + 26 = 43."

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_required_calls_are_valid(demo: anser.Model, seed: int) -> None:
    llm = AnserLLM(demo, max_tokens=300, seed=seed)
    tool = FunctionTool.from_defaults(fn=add, fn_schema=Digits)
    response = llm.chat_with_tools([tool], user_msg="What is 3 + 4?", tool_required=True)
    (call,) = llm.get_tool_calls_from_response(response)
    assert call.tool_name == "add" and set(call.tool_kwargs) == {"a", "b"}
    assert all(isinstance(value, int) for value in call.tool_kwargs.values())
    answer = llm.predict_and_call([tool], user_msg="What is 3 + 4?", tool_required=True)
    assert int(answer.response) == answer.sources[0].raw_output
    last = list(llm.stream_chat_with_tools([tool], user_msg="What is 3 + 4?", tool_required=True))[-1]
    assert [block.tool_name for block in last.message.blocks if isinstance(block, ToolCallBlock)] == ["add"]


def test_an_answer_without_a_call_says_so(llm: AnserLLM) -> None:
    with pytest.raises(ValueError, match="expected a call of a tool, found the answer '17"):
        llm.get_tool_calls_from_response(llm.chat(QUESTION))
    assert llm.get_tool_calls_from_response(llm.chat(QUESTION), error_on_no_tool_call=False) == []


def test_structured_predictions_are_of_their_class(demo: anser.Model) -> None:
    class Person(BaseModel):
        """A person."""

        name: str = Field(max_length=12)
        age: int = Field(ge=0, le=120)

    llm = AnserLLM(demo, max_tokens=300, seed=1)
    person = llm.structured_predict(Person, PromptTemplate("A person called {name}, please."), name="Ann")
    assert isinstance(person, Person) and len(person.name) <= 12 and 0 <= person.age <= 120


def test_turns_are_told_to_the_model(demo: anser.Model, llm: AnserLLM) -> None:
    call = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    messages = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
        ChatMessage(role=MessageRole.USER, content="What is 1 + 2?"),
        ChatMessage(role=MessageRole.ASSISTANT, blocks=[call]),
        ChatMessage(role=MessageRole.TOOL, content="3"),
        *QUESTION,
    ]
    told = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "content": '```json\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n```'},
        {"role": "tool", "content": "3"},
        {"role": "user", "content": "What is 17 + 26?"},
    ]
    assert llm.chat(messages).message.content == demo.chat(told, **GREEDY).text()
    with pytest.raises(ValueError, match="found a ImageBlock"):
        llm.chat([ChatMessage(role=MessageRole.USER, blocks=[ImageBlock(url="http://localhost/x.png")])])


def test_unknown_options_are_errors(demo: anser.Model, llm: AnserLLM) -> None:
    with pytest.raises(ValidationError, match="n_predict"):
        AnserLLM(demo, n_predict=3)
    with pytest.raises(ValidationError, match="pool"):
        AnserEmbedding(demo, pool="mean")
    for call in (llm.complete, llm.stream_complete):
        with pytest.raises(TypeError, match="unexpected keyword argument n_predict"):
            call(PROMPT, n_predict=3)
    with pytest.raises(TypeError, match="unexpected keyword argument n_predict"):
        llm.chat(QUESTION, n_predict=3)


def test_an_index_answers_from_the_text_that_is_meant(demo: anser.Model, llm: AnserLLM) -> None:
    embedding = AnserEmbedding(demo, embed_batch_size=4)
    np.testing.assert_array_equal(
        embedding.get_text_embedding_batch(["a", "b c"]), demo.embed(["a", "b c"], "mean", normalize=True)
    )
    assert asyncio.run(embedding.aget_query_embedding("fox")) == embedding.get_query_embedding("fox")
    texts = ["The fox ran into the wood.", "17 + 26 = 43"]
    index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=embedding)
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("A fox was running through the trees.")
    assert found.node.get_content() == texts[0]
    answer = index.as_query_engine(llm=llm, similarity_top_k=1).query("Where did the fox run?")
    assert answer.source_nodes[0].node.get_content() == texts[0] and str(answer)
