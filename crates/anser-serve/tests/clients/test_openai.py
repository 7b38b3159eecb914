"""The server through the official Python package. scripts/test-serve starts it and sets OPENAI_BASE_URL and OPENAI_API_KEY."""

import asyncio
import json
import math
from typing import Literal

import openai
import pytest
from pydantic import BaseModel

MODEL = "demo"
SUM = [{"role": "user", "content": "What is 17 + 26?"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture(scope="module")
def client():
    return openai.OpenAI(max_retries=0)


class Lamp(BaseModel):
    colour: Literal["red", "green"]
    is_on: bool


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "anser"


def test_a_chat_is_the_same_whole_and_streamed(client):
    ask = {"model": MODEL, "messages": STORY, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**ask)
    stream = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == whole.choices[0].message.content
    assert stream[-1].usage.completion_tokens == whole.usage.completion_tokens == 24
    assert whole.choices[0].finish_reason == stream[-2].choices[0].finish_reason == "length"


def test_the_accumulator_of_streams(client):
    with client.chat.completions.stream(model=MODEL, messages=SUM, max_tokens=500, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


def test_answers_are_parsed(client):
    for seed in range(3):
        answer = client.chat.completions.parse(model=MODEL, messages=SUM, response_format=Lamp, max_tokens=100, seed=seed)
        assert isinstance(answer.choices[0].message.parsed, Lamp)
    response = client.responses.parse(model=MODEL, input="A lamp.", text_format=Lamp, max_output_tokens=100)
    assert isinstance(response.output_parsed, Lamp)


def test_functions_are_called(client):
    switch = openai.pydantic_function_tool(Lamp, name="switch")
    ask = {"model": MODEL, "messages": STORY, "tools": [switch], "parallel_tool_calls": False, "max_tokens": 300}
    call = client.chat.completions.parse(**ask, tool_choice="required").choices[0].message.tool_calls[0]
    assert call.function.name == "switch" and isinstance(call.function.parsed_arguments, Lamp)
    with client.chat.completions.stream(**ask, tool_choice={"type": "function", "function": {"name": "switch"}}) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert len(calls) == 1 and Lamp.model_validate_json(calls[0].function.arguments)
    turns = STORY + [
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump(exclude={"function": {"parsed_arguments"}})]},
        {"role": "tool", "tool_call_id": call.id, "content": "done"},
    ]
    assert client.chat.completions.create(model=MODEL, messages=turns, tools=[switch], tool_choice="none", max_tokens=8).choices


def test_log_probabilities(client):
    answer = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3)
    for token in answer.choices[0].logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob and len(token.top_logprobs) == 3
    scored = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=0, echo=True, logprobs=1).choices[0]
    assert scored.text == "Once upon a time" == "".join(scored.logprobs.tokens)
    assert scored.logprobs.token_logprobs[0] is None and all(p <= 0 for p in scored.logprobs.token_logprobs[1:])


def test_embeddings(client):
    texts = ["The fox ran over the hill.", "Grüße 😀"]
    packed = client.embeddings.create(model=MODEL, input=texts)
    plain = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data):
        assert math.isclose(sum(x * x for x in one.embedding), 1, abs_tol=1e-3)
        assert max(abs(x - y) for x, y in zip(one.embedding, other.embedding)) < 1e-5
    assert len(client.embeddings.create(model=MODEL, input="x", dimensions=10).data[0].embedding) == 10


def test_responses_go_on(client):
    first = client.responses.create(model=MODEL, input="What is 17 + 26?", temperature=0, max_output_tokens=32)
    events = list(client.responses.create(model=MODEL, input="And 1 + 1?", previous_response_id=first.id, temperature=0, max_output_tokens=16, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    second = events[-1].response
    assert second.output_text == "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_errors_have_their_types(client):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, messages=SUM, temperature=3)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=SUM)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="wrong", max_retries=0).models.list()


def test_many_at_once_each_get_their_own():
    async def one(client, i):
        schema = {"type": "object", "properties": {"mark": {"const": f"m{i}"}}, "required": ["mark"], "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "mark", "schema": schema}}
        answer = await client.chat.completions.create(model=MODEL, messages=STORY, response_format=form, max_tokens=40)
        assert json.loads(answer.choices[0].message.content) == {"mark": f"m{i}"}

    async def all_of_them():
        async with openai.AsyncOpenAI(max_retries=4) as client:
            await asyncio.gather(*(one(client, i) for i in range(24)))

    asyncio.run(all_of_them())


def test_streams_that_are_left_do_not_stay(client):
    for _ in range(3):
        stream = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=5000, stream=True, logit_bias={"0": -100, "261": -100})
        next(iter(stream))
        stream.close()
    assert client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=2).choices
